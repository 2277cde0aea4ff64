"""Which layers a network's table needs."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency.wanted import default_choices, wanted_layers
from hwprune.layer import Layer

CONV = Layer("conv", 8, 8, size=(4, 4), kernel=(3, 3), out_size=(4, 4))
DEPTHWISE = Layer("conv", 8, 8, size=(4, 4), kernel=(3, 3), group_width=1, out_size=(4, 4))
A, B = WidthOf(0, (("a", 1),)), WidthOf(0, (("b", 1),))
BOTH = WidthOf(0, (("a", 1), ("b", 1)))
CHOICES = {"a": (2, 4), "b": (4, 8)}


def every_layer(layers: list[NetworkLayer], choices: dict[str, tuple[int, ...]]) -> set[Layer]:
    """The slow obvious way: all settings of all groups."""
    settings = [dict(zip(choices, kept, strict=True)) for kept in product(*choices.values())]
    return {layer.at(widths) for layer in layers if not layer.fused for widths in settings}


@pytest.mark.parametrize(
    ("c_in", "c_out"),
    [(A, B), (A, A), (BOTH, B), (BOTH, BOTH), (A, WidthOf(3, (("a", 2),))), (WidthOf(3), A), (WidthOf(3), WidthOf(5))],
)
def test_wanted_layers_are_those_of_every_setting(c_in: WidthOf, c_out: WidthOf) -> None:
    layers = [NetworkLayer("x", CONV, c_in, c_out), NetworkLayer("fused", DEPTHWISE, A, A, fused=True)]

    wanted = wanted_layers(layers, CHOICES)

    assert set(wanted) == every_layer(layers, CHOICES)
    assert len(wanted) == len(set(wanted))


def test_depthwise_layers_keep_both_sides_equal() -> None:
    wanted = wanted_layers([NetworkLayer("x", DEPTHWISE, A, A)], CHOICES)

    assert [(layer.c_in, layer.c_out) for layer in wanted] == [(2, 2), (4, 4)]


def test_a_long_concatenation_is_thinned_evenly_with_both_ends() -> None:
    names = [f"g{i}" for i in range(40)]
    choices = {name: tuple(range(2, 34, 2)) for name in names}
    concatenated = WidthOf(64, tuple((name, 1) for name in names))

    sizes = [layer.c_in for layer in wanted_layers([NetworkLayer("x", CONV, concatenated, WidthOf(8))], choices)]

    assert len(sizes) == 16
    assert (sizes[0], sizes[-1]) == (64 + 40 * 2, 64 + 40 * 32)


def test_many_shared_groups_do_not_explode() -> None:
    names = [f"g{i}" for i in range(40)]
    choices = dict.fromkeys(names, (1, 2, 3, 4))
    whole, part = WidthOf(0, tuple((n, 1) for n in names)), WidthOf(0, tuple((n, 1) for n in names[:20]))

    found = [(layer.c_in, layer.c_out) for layer in wanted_layers([NetworkLayer("x", CONV, whole, part)], choices)]

    assert found[0] == (40, 20)
    assert found[-1] == (160, 80)


def test_a_group_without_choices_is_named() -> None:
    with pytest.raises(ValueError, match=r"layer x .*\['b'\]"):
        wanted_layers([NetworkLayer("x", CONV, A, B)], {"a": (2,)})


@given(width=st.integers(1, 4096), multiple=st.integers(1, 64), most=st.integers(1, 40))
def test_choices_are_few_ascending_multiples_that_end_at_the_full_width(width: int, multiple: int, most: int) -> None:
    choices = default_choices(width, multiple=multiple, most=most)

    assert 1 <= len(choices) <= most
    assert list(choices) == sorted(set(choices))
    assert choices[-1] == width
    assert all(kept % multiple == 0 for kept in choices[:-1])
