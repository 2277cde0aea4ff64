"""Settings as plain values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.catalogue import METHODS
from hwprune.cost.normalisation import NORMALISATIONS
from hwprune.errors import HwpruneError, RunError
from hwprune.graph.choices import Choices
from hwprune.loop.settings import USUAL_IMPORTANCE, Settings
from hwprune.recovery.recipe import Recipe

_NAMES = st.lists(st.text(max_size=5), max_size=3).map(tuple)
_COUNTS = st.integers(1, 1000)
_RECIPES = st.builds(
    Recipe, epochs=st.integers(0, 500), lr=st.floats(1e-6, 1.0), distill=st.floats(0, 1), max_steps=st.none() | _COUNTS
)
_CHOICES = st.builds(
    Choices, conv_groups=st.sampled_from(["whole", "offsets"]), attention=st.sampled_from(["heads", "head_dims"])
)
_SETTINGS = st.builds(
    Settings,
    target=st.text(),
    runtime=st.none() | st.just("pytorch"),
    normalisation=st.sampled_from(NORMALISATIONS),
    threads=_COUNTS,
    exclude=_NAMES,
    multiples=st.dictionaries(st.text(max_size=5), _COUNTS, max_size=3),
    choices=_CHOICES,
    engines=_NAMES,
    engine_timeout_s=st.floats(1, 1e4),
    recipe=_RECIPES,
    seed=st.integers(0, 2**31),
)


@given(_SETTINGS)
def test_settings_come_back_from_json(settings: Settings) -> None:
    assert Settings.from_json(json.loads(json.dumps(settings.as_json()))) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 0},
        {"milestones": -1},
        {"normalisation": "luck"},
        {"tries": 0},
        {"search": "luck"},
        {"objective": "luck"},
        {"objective": "shares", "allocation": "epruner"},
        {"objective": "odds", "allocation": "epruner"},
        {"objective": "shares", "way": "group-fisher", "normalisation": "memory"},
        {"search": "exact", "normalisation": "memory"},
        {"proposals": 0},
        {"proposal_steps": 0},
        {"proposals": 2, "damping_steps": 10},
        {"proposals": 2, "allocation": "epruner"},
        {"proposals": 2, "inheritance": "adaptive"},
        {"proposals": 2, "way": "group-fisher", "normalisation": "memory"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(HwpruneError, match=str(next(iter(wrong)))):
        Settings("60%", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("spoil", ["target", "recipe", "engines"])
def test_settings_of_another_version_are_refused(spoil: str) -> None:
    values = Settings("60%").as_json()
    del values[spoil]
    with pytest.raises(RunError, match="settings cannot be read"):
        Settings.from_json(values)
    with pytest.raises(RunError, match="settings cannot be read"):
        Settings.from_json({**Settings("60%").as_json(), "colour": "red"})


def test_settings_from_before_there_were_choices_still_load() -> None:
    values = Settings("60%").as_json()
    del values["choices"], values["multiples"]

    assert Settings.from_json(values) == Settings("60%")


def test_of_the_patterns_that_match_a_group_the_last_one_counts() -> None:
    settings = Settings("60%", multiples={"layer1.*": 8, "*.conv1": 16, "fc": 4})

    assert [settings.multiple_of(name) for name in ("layer1.0.conv2", "layer1.0.conv1", "stem")] == [8, 16, None]


def test_the_channels_of_the_data_cannot_go_in_a_run() -> None:
    with pytest.raises(HwpruneError, match="the data keeps all of its channels"):
        Settings("60%", choices=Choices(free_inputs=True))
    with pytest.raises(HwpruneError, match=r"the multiple of 'fc' cannot be 0"):
        Settings("60%", multiples={"fc": 0})


def test_an_importance_that_is_not_asked_for_is_the_usual_one() -> None:
    assert Settings("60%").criterion == USUAL_IMPORTANCE and USUAL_IMPORTANCE in METHODS["importance"]
    assert Settings("60%", importance="fisher").criterion == "fisher"
