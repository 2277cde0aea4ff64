from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import PlanError, StorageError
from hwprune.files import write_atomically
from hwprune.plan import Plan


@dataclass(frozen=True)
class Group:
    name: str
    width: int
    pinned: str | None = None


@dataclass(frozen=True)
class Network:
    groups: tuple[Group, ...] = (Group("conv1", 4), Group("layer1.0.conv1", 6), Group("fc", 10, "network's output"))
    groups_hash: str = "abc"
    model_reference: str = "torchvision:resnet18"
    input_shapes: tuple[tuple[int, ...], ...] = ((1, 3, 32, 32),)


NETWORK = Network()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    widths = draw(st.dictionaries(st.text(min_size=1), st.integers(1, 40), max_size=5))
    kept = {name: tuple(sorted(draw(st.sets(st.integers(0, width - 1), min_size=1)))) for name, width in widths.items()}
    shape = st.lists(st.integers(1, 1000), max_size=4).map(tuple)
    shapes = tuple(draw(st.lists(shape, max_size=2)))
    return Plan(kept, widths, model=draw(st.text()), input_shapes=shapes, groups_hash=draw(st.text()))


@given(plan=plans())
def test_a_saved_plan_comes_back_equal(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan.save(path)

    assert Plan.load(path) == plan


@given(plan=plans())
def test_kept_and_removed_channels_make_up_the_group(plan: Plan) -> None:
    for name, width in plan.widths.items():
        assert sorted((*plan.kept[name], *plan.removed.get(name, ()))) == list(range(width))


def test_groups_that_are_not_named_keep_everything_and_pinned_ones_are_left_out() -> None:
    plan = Plan.keeping(NETWORK, {"layer1.0.conv1": [5, 0, 2]})

    assert plan.kept == {"conv1": (0, 1, 2, 3), "layer1.0.conv1": (0, 2, 5)}
    assert plan.widths == {"conv1": 4, "layer1.0.conv1": 6}
    assert plan.kept_widths == {"conv1": 4, "layer1.0.conv1": 3}
    assert plan.removed == {"layer1.0.conv1": (1, 3, 4)}
    assert (plan.model, plan.groups_hash) == ("torchvision:resnet18", "abc")


@pytest.mark.parametrize(
    "indices", [[2, 0], (0, 2), {0, 2}, np.array([2, 0]), torch.tensor([0, 2]), range(0, 3, 2), iter([0, 2])]
)
def test_indices_may_come_in_any_container(indices: object) -> None:
    assert Plan.keeping(NETWORK, {"conv1": indices}).kept["conv1"] == (0, 2)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"layer1.0.conv2": [0]}, "no channel group 'layer1.0.conv2'\n.*names like it: layer1.0.conv1"),
        ({"nothing like it": [0]}, "its groups are conv1, layer1.0.conv1, fc"),
        ({"conv1": []}, "keep no channel"),
        ({"conv1": [0, 4]}, "has no channel 4\n.*numbered 0 to 3"),
        ({"conv1": [-1]}, "has no channel -1"),
        ({"conv1": [1, 2, 1]}, "names channel 1 more than once"),
        ({"conv1": [0.5]}, "not whole numbers"),
        ({"conv1": [True, False, True, True]}, "boolean mask"),
        ({"conv1": torch.tensor([True, False, True, True])}, "boolean mask"),
        ({"fc": [0, 1]}, "'fc' is pinned and must keep its 10 channels\n.*network's output"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(kept: dict[str, list[int]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.keeping(NETWORK, kept)


def test_a_pinned_group_may_be_named_as_long_as_it_keeps_everything() -> None:
    assert Plan.keeping(NETWORK, {"fc": range(10)}) == Plan.keeping(NETWORK, {})


def test_a_plan_fits_its_own_network_also_on_another_input_shape() -> None:
    plan = Plan.keeping(NETWORK, {"conv1": [0]})
    plan.check_fits(replace(NETWORK, input_shapes=((8, 3, 32, 32),)))  # raises where it does not fit

    assert plan.kept["conv1"] == (0,)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((Group("conv1", 4),), "has no group layer1.0.conv1"),
        ((Group("conv1", 8), Group("layer1.0.conv1", 6)), r"other widths: conv1 \(8 and not 4\)"),
        (NETWORK.groups, "touch other parameters"),
    ],
)
def test_another_network_is_refused_and_the_difference_named(groups: tuple[Group, ...], message: str) -> None:
    other = replace(NETWORK, groups=groups, groups_hash="def")

    with pytest.raises(PlanError, match=message):
        Plan.keeping(NETWORK, {}).check_fits(other)


def test_a_plan_may_not_cut_a_group_that_is_pinned_now() -> None:
    pinned = replace(NETWORK, groups=(Group("conv1", 4, "excluded by the user"), *NETWORK.groups[1:]))
    Plan.keeping(NETWORK, {"layer1.0.conv1": [0]}).check_fits(pinned)

    with pytest.raises(PlanError, match="excluded by the user"):
        Plan.keeping(NETWORK, {"conv1": [0]}).check_fits(pinned)


def damaged(**changes: object) -> str:
    good = {
        "schema": 1,
        "model": "m",
        "input_shapes": [[1, 3]],
        "groups_hash": "h",
        "widths": {"a": 3},
        "kept": {"a": [0]},
    }
    return json.dumps({**good, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable JSON"),
        (damaged()[:40], "not readable JSON"),
        ("[]", "not a JSON object"),
        (damaged(schema=7), "schema 7, this version reads 1"),
        (damaged(kept=None), "'kept' is missing"),
        (damaged(kept={"a": []}), "keep no channel"),
        (damaged(kept={"a": [3]}), "has no channel 3"),
        (damaged(kept={"a": [1, 0]}), "not in ascending order"),
        (damaged(kept={"a": ["0"]}), "not a whole number"),
        (damaged(kept={"b": [0]}), "different groups: a, b"),
        (damaged(widths={"a": "3"}), "not a whole number"),
        (damaged(widths=[3]), "'widths' is not what it should be"),
        (damaged(input_shapes=[3]), "'input_shapes' holds something"),
        (damaged(groups_hash=None), "'groups_hash' is missing"),
    ],
)
def test_a_damaged_file_says_what_is_wrong_and_where(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)

    with pytest.raises(PlanError, match=message) as caught:
        Plan.load(path)
    assert str(path) in str(caught.value) and "fix" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="there is no plan"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_what_was_there_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_atomically(path, b"old")
    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: real_open(Path("/dev/full"), "wb"))

    with pytest.raises(StorageError, match="No space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
