"""The network of a run: which widths its groups may keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.graph.choices import Choices
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.cifar_resnet import resnet20
from tests import tiny


def subject(settings: Settings, model: nn.Module | None = None) -> Subject:
    """Of the small network."""
    return Subject(model or tiny.network(), (3, tiny.SIDE, tiny.SIDE), settings, Path(), Silent())


def test_every_group_has_multiples_of_its_own() -> None:
    found = subject(Settings("60%", runtime="pytorch", multiple=16, multiples={"3": 12, "0": 8})).choices

    assert found == {"0": (8, 16), "3": (12, 24, 36, 48), "6": (16, 32, 48)}


@pytest.mark.parametrize(
    ("pattern", "words"), [("layer*", "inspect"), ("11", "what it matches stays: 11"), ("33", "did you mean 3")]
)
def test_a_pattern_that_matches_no_group_that_may_go_is_one_clear_error(pattern: str, words: str) -> None:
    with pytest.raises(HwpruneError, match=words):
        subject(Settings("60%", runtime="pytorch", multiples={pattern: 8})).choices  # noqa: B018


def test_a_multiple_counts_channels_not_coupled_channels() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, groups=4), nn.Flatten(), nn.Linear(15488, 4)
    )
    settings = Settings("60%", runtime="pytorch", multiple=8, choices=Choices(conv_groups="offsets"))

    assert subject(settings, model.eval()).choices == {"0": (2, 4, 6, 8), "2": (2, 4, 6, 8)}


def test_every_layer_that_makes_the_channels_of_a_group_is_counted() -> None:
    model = resnet20().eval()
    found = Subject(model, (3, 32, 32), Settings("60%", runtime="pytorch"), Path(), Silent()).producers

    assert found["layer1.0.conv1"] == 1
    assert found["conv1"] == 1 + 3 * 3, "zero-padded shortcuts carry its channels to the end: a layer of every block"
    assert found["layer3.0.conv2"] == 3
