"""Two engines' layers against each other: pure functions over their times and the graphs they were made from.

    regions     layers of both engines that stand for the same nodes, however they were fused
    refused     fusions of the dense engine that the pruned one does not have
    by_cause    every layer of both engines under one cause: the differences add up to that of the sums

A layer that only changes a layout or copies belongs to the region of the layer that needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from hwprune.runtimes.base import LayerTime
from hwprune.validation.structure import Structure

Category = Literal["main", "pointwise", "reformat", "copy", "other"]
CauseName = Literal["main", "off alignment", "pointwise", "reformat", "copy", "other", "rest"]
CAUSES: Final[tuple[CauseName, ...]] = get_args(CauseName)
POINTWISE_PREFIXES: Final = ("PWN(", "PointWise(")
COPY_SUFFIX: Final = "_copy_output"  # what TensorRT calls the copy behind a reshape


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the network and the layers that compute it in both engines.

    Attributes:
        name: of its first convolution or product, else of its first node.
        nodes: of the graph.
        dense, pruned: layers, in order of execution; one side may be empty.
    """

    name: str
    nodes: tuple[str, ...]
    dense: tuple[LayerTime, ...]
    pruned: tuple[LayerTime, ...]

    @property
    def dense_ms(self) -> float:
        """Time of the dense engine's layers."""
        return sum(layer.median_ms for layer in self.dense)

    @property
    def pruned_ms(self) -> float:
        """Time of the pruned engine's layers."""
        return sum(layer.median_ms for layer in self.pruned)

    @property
    def difference_ms(self) -> float:
        """Pruned less dense."""
        return self.pruned_ms - self.dense_ms


@dataclass(frozen=True, slots=True)
class Refused:
    """A layer of the dense engine that the pruned one runs as several.

    Attributes:
        dense: the layer's name.
        pruned: names of the layers that now do its work.
        difference_ms: theirs less its own time. Where one of them took over other work too, that is in it.
    """

    dense: str
    pruned: tuple[str, ...]
    difference_ms: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why the pruned engine takes another time than the dense one.

    Attributes:
        name: "main" is convolutions and products at widths the device likes, "rest" what is in no layer.
        dense_count, pruned_count: layers.
        dense_ms, pruned_ms: their time.
        parts: (region, pruned less dense in ms), the most telling first; without those that do not differ.
    """

    name: CauseName
    dense_count: int
    pruned_count: int
    dense_ms: float
    pruned_ms: float
    parts: tuple[tuple[str, float], ...] = ()

    @property
    def difference_ms(self) -> float:
        """Pruned less dense: positive where it costs the pruned engine time."""
        return self.pruned_ms - self.dense_ms


def category(layer: LayerTime, structure: Structure) -> Category:
    """What a layer does.

    >>> category(LayerTime("conv1/Conv + relu/Relu", 1.0, nodes=("conv1/Conv", "relu/Relu")), Structure())
    'main'
    """
    if layer.kind != "layer":
        return layer.kind
    if layer.name.endswith(COPY_SUFFIX):
        return "copy"
    roles = {structure[name].role for name in _nodes(layer, structure)}
    if "main" in roles:
        return "main"
    if layer.name.startswith(POINTWISE_PREFIXES) or roles == {"pointwise"}:
        return "pointwise"
    return "other"


def regions(
    dense: Sequence[LayerTime], pruned: Sequence[LayerTime], structure: Structure, pruned_structure: Structure
) -> list[Region]:
    """The finest parts of the network that both engines compute with whole layers, in the dense engine's order.

    Layers that share a node are in one region, and so is all that shares a node with them in turn. Every layer of
    both engines is in exactly one.
    """
    sides = ((dense, structure), (pruned, pruned_structure))
    told = [[_nodes(layer, facts) for layer in side] for side, facts in sides]
    union = _Union()
    for (side, _), names in zip(sides, told, strict=True):
        for layer, nodes in zip(side, names, strict=True):
            union.join(nodes if layer.kind == "layer" else nodes[:1])
    found: dict[str, tuple[list[LayerTime], list[LayerTime]]] = {}
    for place, (side, _) in enumerate(sides):
        for layer, nodes in zip(side, told[place], strict=True):
            found.setdefault(union.root(nodes[0]), ([], []))[place].append(layer)
    members: dict[str, list[str]] = {}
    for node in union.parents:
        members.setdefault(union.root(node), []).append(node)
    return [
        Region(_name(members[root], structure, pruned_structure), tuple(members[root]), tuple(one), tuple(other))
        for root, (one, other) in found.items()
    ]


def refused(found: Iterable[Region]) -> list[Refused]:
    """Layers of the dense engine whose nodes the pruned engine computes in several layers, costliest first."""
    split = []
    for region in found:
        for layer in (one for one in region.dense if one.kind == "layer" and len(one.nodes) > 1):
            doing = [other for other in region.pruned if other.kind == "layer" and set(other.nodes) & set(layer.nodes)]
            if len(doing) > 1:
                difference = sum(other.median_ms for other in doing) - layer.median_ms
                split.append(Refused(layer.name, tuple(other.name for other in doing), difference))
    return sorted(split, key=lambda one: -one.difference_ms)


def by_cause(
    found: Sequence[Region],
    structure: Structure,
    pruned_structure: Structure,
    *,
    unaligned: Collection[str] = (),
    measured_ms: tuple[float, float] | None = None,
) -> list[Cause]:
    """Every layer under one cause, and what is in no layer under "rest"; the costliest for the pruned engine first.

    The differences add up to the measured one, or without ``measured_ms`` to that of the engines' layers.

    Args:
        unaligned: nodes of the pruned network at widths that its device does not like.
        measured_ms: whole latency of the dense and of the pruned engine.
    """
    sums: dict[CauseName, list[dict[str, list[float]]]] = {name: [{}, {}] for name in CAUSES}
    for region in found:
        off = not set(unaligned).isdisjoint(region.nodes)
        for side, (layers, facts) in enumerate(((region.dense, structure), (region.pruned, pruned_structure))):
            for layer in layers:
                plain = category(layer, facts)
                cause: CauseName = "off alignment" if off and plain == "main" else plain
                sums[cause][side].setdefault(region.name, []).append(layer.median_ms)
    causes = [_cause(name, *sums[name]) for name in CAUSES if any(sums[name])]
    if measured_ms is not None:
        totals = [sum(layer.median_ms for r in found for layer in side(r)) for side in (_dense, _pruned)]
        causes.append(Cause("rest", 0, 0, measured_ms[0] - totals[0], measured_ms[1] - totals[1]))
    return sorted(causes, key=lambda cause: -cause.difference_ms)


def _cause(name: CauseName, dense: dict[str, list[float]], pruned: dict[str, list[float]]) -> Cause:
    differences = {r: sum(pruned.get(r, ())) - sum(dense.get(r, ())) for r in {**dense, **pruned}}
    total = sum(differences.values())
    telling = sorted(
        (r for r, ms in differences.items() if ms), key=lambda r: -differences[r] * (1 if total >= 0 else -1)
    )
    return Cause(
        name,
        sum(map(len, dense.values())),
        sum(map(len, pruned.values())),
        sum(map(sum, dense.values())),
        sum(map(sum, pruned.values())),
        tuple((r, differences[r]) for r in telling),
    )


def _dense(region: Region) -> tuple[LayerTime, ...]:
    return region.dense


def _pruned(region: Region) -> tuple[LayerTime, ...]:
    return region.pruned


def _nodes(layer: LayerTime, structure: Structure) -> tuple[str, ...]:
    return layer.nodes or structure.names(layer.name)


def _name(nodes: Sequence[str], *structures: Structure) -> str:
    main = (node for node in nodes if any(structure[node].role == "main" for structure in structures))
    return next(main, nodes[0])


class _Union:
    """Sets of names that grow together."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    def join(self, names: Sequence[str]) -> None:
        first = self.root(names[0])
        for name in names[1:]:
            self.parents[self.root(name)] = first

    def root(self, name: str) -> str:
        self.parents.setdefault(name, name)
        while self.parents[name] != name:
            self.parents[name] = self.parents[self.parents[name]]
            name = self.parents[name]
        return name
