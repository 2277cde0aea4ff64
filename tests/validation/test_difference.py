"""Engines as partitions of one network's nodes: whatever the fusions, nothing is lost and all adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.runtimes.base import LayerKind, LayerTime
from hwprune.validation.difference import Refused, by_cause, category, refused, regions
from hwprune.validation.structure import Structure

NODES = [f"{module}/{op}" for module in "abcdef" for op in ("Conv", "Relu", "MaxPool")]
NONE = Structure()


def layer(name: str, ms: float, *nodes: str, kind: LayerKind = "layer") -> LayerTime:
    return LayerTime(name, ms, kind, nodes or (name,))


@st.composite
def engines(draw: st.DrawFn) -> tuple[LayerTime, ...]:
    """Some of the nodes, fused anyhow, with changes of layout and copies between."""
    nodes = draw(st.lists(st.sampled_from(NODES), unique=True, min_size=1))
    numbers = [draw(st.integers(0, 5)) for _ in nodes]
    groups = [[n for n, of in zip(nodes, numbers, strict=True) if of == number] for number in set(numbers)]
    found = [LayerTime(" + ".join(group), draw(st.floats(0, 1)), "layer", tuple(group)) for group in groups]
    for _ in range(draw(st.integers(0, 3))):
        served = draw(st.sampled_from(found)).nodes
        kind = draw(st.sampled_from(("reformat", "copy")))
        found.append(LayerTime(f"{kind} {len(found)}", draw(st.floats(0, 1)), kind, served))
    return tuple(found)


def merged(sets: list[set[str]]) -> set[frozenset[str]]:
    """Sets that share a member, united: the slow obvious way."""
    for one in sets:
        for other in sets:
            if one is not other and one & other:
                return merged([one | other, *(rest for rest in sets if rest is not one and rest is not other)])
    return {frozenset(one) for one in sets}


@given(engines(), engines())
def test_regions_are_the_sets_of_layers_that_share_nodes(
    dense: tuple[LayerTime, ...], pruned: tuple[LayerTime, ...]
) -> None:
    found = regions(dense, pruned, NONE, NONE)

    assert {frozenset(region.nodes) for region in found} == merged([set(one.nodes) for one in (*dense, *pruned)])
    for region in found:
        assert all(set(one.nodes) <= set(region.nodes) for one in (*region.dense, *region.pruned))
    assert sorted(one.name for region in found for one in region.dense) == sorted(one.name for one in dense)
    assert sorted(one.name for region in found for one in region.pruned) == sorted(one.name for one in pruned)


@given(engines(), engines(), st.sets(st.sampled_from(NODES)), st.floats(1, 10), st.floats(1, 10))
def test_causes_hold_every_layer_once_and_add_up_to_what_was_measured(
    dense: tuple[LayerTime, ...], pruned: tuple[LayerTime, ...], off: set[str], dense_ms: float, pruned_ms: float
) -> None:
    found = regions(dense, pruned, NONE, NONE)
    causes = by_cause(found, NONE, NONE, unaligned=off, measured_ms=(dense_ms, pruned_ms))

    assert sum(cause.difference_ms for cause in causes) == pytest.approx(pruned_ms - dense_ms, abs=1e-9)
    assert sum(cause.dense_count for cause in causes) == len(dense)
    assert sum(cause.pruned_count for cause in causes) == len(pruned)
    assert [c.difference_ms for c in causes] == sorted((c.difference_ms for c in causes), reverse=True)
    for cause in causes:
        if cause.name != "rest":
            assert sum(ms for _, ms in cause.parts) == pytest.approx(cause.difference_ms, abs=1e-9)


@given(engines())
def test_an_engine_differs_from_itself_in_nothing(engine: tuple[LayerTime, ...]) -> None:
    found = regions(engine, engine, NONE, NONE)

    assert refused(found) == []
    assert all(cause.difference_ms == 0 and not cause.parts for cause in by_cause(found, NONE, NONE))


def test_a_fusion_that_is_gone_is_named_with_what_it_costs() -> None:
    dense = [layer("a + relu", 1.0, "a/Conv", "a/Relu"), layer("b + relu", 1.0, "b/Conv", "b/Relu")]
    pruned = [
        layer("a || c", 0.8, "a/Conv", "c/Conv"),  # merged with a layer that the dense network has not
        layer("a/Relu", 0.5),
        layer("b + relu", 0.9, "b/Conv", "b/Relu"),
    ]
    found = regions(dense, pruned, NONE, NONE)

    assert refused(found) == [Refused("a + relu", ("a || c", "a/Relu"), pytest.approx(0.3))]
    assert [(region.name, region.difference_ms) for region in found] == [
        ("a/Conv", pytest.approx(0.3)),
        ("b/Conv", pytest.approx(-0.1)),
    ]


def test_what_a_change_of_layout_costs_is_told_of_the_layer_that_needs_it() -> None:
    dense = [layer("a/Conv", 1.0), layer("b/Conv", 1.0)]
    pruned = [layer("a/Conv", 0.7), layer("Reorder", 0.4, "b/Conv", kind="reformat"), layer("b/Conv", 0.8)]
    causes = {cause.name: cause for cause in by_cause(regions(dense, pruned, NONE, NONE), NONE, NONE)}

    assert causes["reformat"].parts == (("b/Conv", 0.4),)
    assert causes["main"].difference_ms == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (layer("x", 1.0, "a/Conv", "a/Relu"), "main"),
        (layer("x", 1.0, "a/Add", "a/Relu"), "pointwise"),
        (layer("x", 1.0, "a/Add", "a/MaxPool"), "other"),
        (LayerTime("PWN(a/Constant_1 + Broadcast)", 1.0), "pointwise"),
        (LayerTime("/22/Reshape_2_copy_output", 1.0), "copy"),
        (layer("x", 1.0, "a/Conv", kind="reformat"), "reformat"),
        (LayerTime("a/Gemm_3", 1.0), "main"),
    ],
)
def test_layers_are_sorted_by_what_they_do(time: LayerTime, expected: str) -> None:
    assert category(time, NONE) == expected
