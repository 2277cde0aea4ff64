"""Which layers a table needs for a network: every layer at every combination of widths that its groups may keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import ceil, prod
from typing import Final, TypeVar

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.layer import Layer

MOST_SUMS: Final = 16
_Item = TypeVar("_Item")
MOST_COMBINATIONS: Final = 100_000


def default_choices(width: int, *, multiple: int, most: int = 16) -> tuple[int, ...]:
    """Widths that a group of ``width`` channels may keep: evenly spaced multiples, and the full width.

    >>> default_choices(64, multiple=8), default_choices(512, multiple=8, most=4), default_choices(10, multiple=4)
    ((8, 16, 24, 32, 40, 48, 56, 64), (128, 256, 384, 512), (4, 8, 10))
    """
    if width < 1 or multiple < 1 or most < 1:
        raise ValueError(f"no choices for width {width}, multiple {multiple}, most {most}")
    step = multiple * ceil(width / (multiple * most))
    return (*range(step, width, step), width)


def wanted_layers(
    network_layers: Iterable[NetworkLayer], choices: Mapping[str, Sequence[int]], *, most_sums: int = MOST_SUMS
) -> list[Layer]:
    """The distinct layers to measure, in order of first appearance; fused ones have no latency of their own.

    A dimension that several groups share (a concatenation) has as many sizes as sums of their choices. Of more than
    ``most_sums`` evenly spaced ones are kept, both ends among them; `Predictor` interpolates between these
    neighbours, and nowhere else.

    Raises:
        ValueError: a layer depends on a group without choices.
    """
    wanted: dict[Layer, None] = {}
    for layer in network_layers:
        if layer.fused:
            continue
        missing = {*layer.c_in.groups, *layer.c_out.groups} - set(choices)
        if missing:
            raise ValueError(f"layer {layer.name} depends on groups without choices: {sorted(missing)}")
        wanted.update((layer.sized(c_in, c_out), None) for c_in, c_out in _widths(layer, choices, most_sums))
    return list(wanted)


def is_thinned(width: WidthOf) -> bool:
    """Whether not every size of this dimension may have been measured: it is a sum over several groups."""
    return len(width.terms) > 1


def _widths(layer: NetworkLayer, choices: Mapping[str, Sequence[int]], most: int) -> list[tuple[int, int]]:
    """All (c_in, c_out) of a layer."""
    if set(layer.c_in.groups).isdisjoint(layer.c_out.groups):
        return list(product(_sizes(layer.c_in, choices, most), _sizes(layer.c_out, choices, most)))
    if layer.c_in == layer.c_out:
        return [(size, size) for size in _sizes(layer.c_in, choices, most)]
    names = sorted({*layer.c_in.groups, *layer.c_out.groups})
    pairs = {(layer.c_in(widths), layer.c_out(widths)) for widths in _settings(names, choices)}
    return sorted(pairs) if len(names) == 1 else evenly(sorted(pairs), most * most)


def _sizes(width: WidthOf, choices: Mapping[str, Sequence[int]], most: int) -> list[int]:
    """Distinct sizes of a dimension, ascending; thinned where it is a sum over several groups.

    Sums are collected group by group: their number is bounded by the largest size, not by the combinations.
    """
    sums = {width.fixed}
    for group, count in width.terms:
        sums = {before + count * kept for before in sums for kept in choices[group]}
    return evenly(sorted(sums), most) if is_thinned(width) else sorted(sums)


def _settings(names: Sequence[str], choices: Mapping[str, Sequence[int]]) -> Iterable[dict[str, int]]:
    """Combinations of the groups' choices; where they are too many, every group at the same share of its own."""
    lists = [sorted(choices[name]) for name in names]
    if prod(map(len, lists)) <= MOST_COMBINATIONS:
        yield from (dict(zip(names, kept, strict=True)) for kept in product(*lists))
        return
    for i in range(MOST_SUMS):
        share = i / (MOST_SUMS - 1)
        yield {name: values[round(share * (len(values) - 1))] for name, values in zip(names, lists, strict=True)}


def evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most ``most`` of the items, evenly spaced, both ends among them.

    >>> evenly([1, 2, 3, 4, 5], 3), evenly([1, 2], 3)
    ([1, 3, 5], [1, 2])
    """
    if len(items) <= most:
        return list(items)
    places = {round(i * (len(items) - 1) / (most - 1)) for i in range(most)} if most > 1 else {len(items) - 1}
    return [items[place] for place in sorted(places)]
