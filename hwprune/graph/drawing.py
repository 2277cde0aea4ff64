"""The coupling of a network as a picture: layers in order, and between them the channel groups in colour.

The text is that of Graphviz (https://graphviz.org/doc/info/lang.html). Layers, and calls where several paths meet, are
boxes; whatever only passes channels on (norms, activations, pools, changes of shape) is part of the edge. A group has
one colour wherever its channels are, so what must go together is seen at once; channels that stay are grey, and say
why when the mouse is over them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hwprune.errors import listed
from hwprune.graph.mixing import convolve, multiply_matrices
from hwprune.graph.network import ChannelGroup, Network
from hwprune.graph.rules import RULES
from hwprune.graph.trace import Op, Value

# Of one lightness, told apart also by people who see red and green alike where few are next to each other.
PALETTE: Final = ("#1f77b4", "#e6850e", "#2ca02c", "#c2308a", "#8c564b", "#17a2b8", "#7f6fd0", "#a8a11c", "#d6483f")
GREY: Final = "#9a9a9a"
DARK: Final = "#555555"
MOST_COLOURS: Final = 4  # on one edge; more lines are not told apart
MOST_ORDERED: Final = 200  # edges that are laid out as well as can be
_JUNCTIONS: Final = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "cat": "concat", "stack": "stack", "bmm": "matmul"}
_LAYERS: Final = frozenset([convolve, multiply_matrices])


@dataclass(frozen=True, slots=True)
class Node:
    """A box of the picture.

    Attributes:
        title: module path, or the sign of a call where paths meet.
        detail: kernel and channels of a layer, "" for other calls.
        groups: what its output carries: positions in `Network.groups`.
        is_layer: whether it has weights of its own.
    """

    title: str
    detail: str
    groups: tuple[int, ...]
    is_layer: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """Channels on their way from one node to another.

    Attributes:
        start, end: positions of the nodes.
        groups: what it carries: positions in `Network.groups`.
        channels: how many there are.
    """

    start: int
    end: int
    groups: tuple[int, ...]
    channels: int


def dot(network: Network) -> str:
    """The picture as Graphviz text; the same network gives the same text."""
    nodes, edges = _Picture(network).drawn()
    colours = [GREY] * len(network.groups)
    for number, position in enumerate(i for i, group in enumerate(network.groups) if group.pinned is None):
        colours[position] = PALETTE[number % len(PALETTE)]
    lines = [
        "digraph coupling {",
        f"  label={_quoted(f'{network.model_reference}: layers, and the channel groups between them')};",
        '  labelloc=t; rankdir=TB; ranksep=0.32; nodesep=0.3; fontname="Helvetica";',
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, height=0.3];',
        '  node [margin="0.12,0.05"];',
        '  edge [fontname="Helvetica", fontsize=9, arrowsize=0.6, penwidth=1.8];',
    ]
    for position, node in enumerate(nodes):
        lines.append(f"  n{position} [{_node_style(node, network.groups, colours)}];")
    if len(edges) > MOST_ORDERED:
        lines.append("  nslimit=2; nslimit1=2; maxiter=4; mclimit=0.3;")  # of the layout: minutes become seconds
    lines += [
        f"  n{edge.start} -> n{edge.end} [{style}];" for edge, style in _edge_styles(edges, network.groups, colours)
    ]
    return "\n".join([*lines, "}", ""])


def _node_style(node: Node, groups: Sequence[ChannelGroup], colours: Sequence[str]) -> str:
    colour = colours[node.groups[0]] if node.groups else GREY
    tip = f"tooltip={_quoted(_tooltip(node.groups, groups))}"
    if not node.is_layer:
        shape = "box" if len(node.title) > 1 else "circle"
        size = 'width=0.25, height=0.25, margin="0.04,0.02"'
        return f'label={_quoted(node.title)}, shape={shape}, {size}, color="{colour}", fillcolor=white, {tip}'
    label = _quoted("\n".join([node.title, node.detail] if node.detail else [node.title]))
    return f'label={label}, color="{colour}", fillcolor="{colour}22", {tip}'


def _edge_styles(
    edges: Sequence[Edge], groups: Sequence[ChannelGroup], colours: Sequence[str]
) -> Iterator[tuple[Edge, str]]:
    """Every edge with its style. Of the edges that leave one box with the same channels the first is labelled."""
    leaving, entering = Counter(edge.start for edge in edges), Counter(edge.end for edge in edges)
    labelled = set()
    for edge in edges:
        found = list(dict.fromkeys(colours[position] for position in edge.groups)) or [GREY]
        colour = ":".join(found) if len(found) <= MOST_COLOURS else DARK
        style = f'color="{colour}"'
        key = (edge.start, edge.groups, edge.channels)
        if edge.channels and key not in labelled:
            labelled.add(key)
            count = f", {len(edge.groups)} groups" if len(edge.groups) > 1 else ""
            style += f', label=" {edge.channels}{count}", fontcolor="{found[0] if len(found) == 1 else DARK}"'
        if edge.end == edge.start + 1 and leaving[edge.start] <= 2 and entering[edge.end] <= 2:
            style += ", weight=4"  # straight, while paths that skip layers go round them
        tip = _quoted(_tooltip(edge.groups, groups))
        yield edge, f"{style}, tooltip={tip}, labeltooltip={tip}"


def _tooltip(positions: Iterable[int], groups: Sequence[ChannelGroup]) -> str:
    lines = []
    for group in [groups[position] for position in positions][:8]:
        lines.append(f"{group.name}: {group.width} {'channel' if group.width == 1 else 'channels'}")
        if group.pinned is not None:
            lines.append(f"  stay: {group.pinned}")
        else:
            lines.append(f"  made or scaled by {listed(group.members, most=6)}")
            lines.append(f"  read by {listed(group.consumers, most=6) or 'no layer'}")
    return "\n".join(lines) or "no channels"


def _quoted(text: str) -> str:
    """A string of the Graphviz language.

    >>> print(_quoted('say "hi"'))
    "say \\"hi\\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class _Picture:
    """One pass over the calls: which box every value comes from."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[Node] = []
        self.edges: dict[tuple[int, int], Edge] = {}
        self.source: dict[int, int] = {}  # value -> node
        self.calls: dict[str, int] = {}
        self.joined: list[tuple[set[int], Value]] = []  # what every concatenation has read, and its output
        sizes = [len(group.numbers) for group in network.groups]
        self.group_of = np.repeat(np.arange(len(sizes)), sizes)
        self.made: dict[str, list[int]] = {s.parameter: [] for group in network.groups for s in group.slots}
        for position, group in enumerate(network.groups):
            for slot in group.slots:
                if not slot.contracted:
                    self.made[slot.parameter].append(position)
        self.origin = {value.number: name for name, value in reversed(list(network.trace.parameters.items()))}

    def drawn(self) -> tuple[list[Node], list[Edge]]:
        """All boxes and edges, in the order of the forward pass."""
        record = self.network.trace
        for value in record.inputs:
            self._add(Node("input", _shape(value), self._groups(value, ()), True), (), (value,))
        for op in record.ops:
            self._pass(op)
        for value in record.outputs:
            if value.number in self.source:
                end = self._add(Node("output", _shape(value), (), True), (value,), ())
                self.nodes[end] = Node("output", _shape(value), self.nodes[self.source[value.number]].groups, True)
        return self.nodes, list(self.edges.values())

    def _pass(self, op: Op) -> None:
        static = self.network.trace.static
        if all(value.number in static for value in op.outputs):
            names = [self.origin[value.number] for value in op.inputs if value.number in self.origin]
            self.origin.update((value.number, names[0]) for value in op.outputs if names)
            return
        moving = [value for value in op.inputs if value.number in self.source]
        weights = [self.origin[v.number] for v in op.inputs if v.number in static and v.number in self.origin]
        if RULES.get(op.name) in _LAYERS and weights and moving:
            weight = next((name for name in weights if len(self.network.parameter_dims.get(name, ())) > 1), weights[0])
            made = tuple(self.made.get(weight, ()))
            self._add(Node(self._title(weight), _detail(op, moving[0]), made, True), moving[:1], op.outputs)
        elif len({self.source[value.number] for value in moving}) > 1:
            sign = _JUNCTIONS.get(op.name, op.name.strip("_").replace("_", " "))
            before = [position for value in moving for position in self._groups(value, self._carried(value))]
            groups = self._groups(op.outputs[0], tuple(dict.fromkeys(before)))
            self._add(Node(sign, "", groups, False), self._joined(op, moving), op.outputs)
        elif moving:
            self.source.update((value.number, self.source[moving[0].number]) for value in op.outputs)

    def _joined(self, op: Op, inputs: Sequence[Value]) -> list[Value]:
        """What a call is drawn to read: a concatenation that repeats an earlier one reads that, as in dense blocks."""
        if op.name != "cat":
            return list(inputs)
        numbers = {value.number for value in inputs}
        earlier = next((seen for seen in reversed(self.joined) if seen[0] < numbers), None)
        self.joined.append((numbers, op.outputs[0]))
        if earlier is None:
            return list(inputs)
        return [earlier[1], *(value for value in inputs if value.number not in earlier[0])]

    def _add(self, node: Node, inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
        self.nodes.append(node)
        end = len(self.nodes) - 1
        for value in inputs:
            start = self.source[value.number]
            groups = self._groups(value, self._carried(value))
            self.edges.setdefault((start, end), Edge(start, end, groups, self._channels(value)))
        self.source.update((value.number, end) for value in outputs)
        return end

    def _title(self, weight: str) -> str:
        name = weight.partition(".parametrizations.")[0].rpartition(".")[0] or weight
        self.calls[name] = self.calls.get(name, 0) + 1
        return name if self.calls[name] == 1 else f"{name} (call {self.calls[name]})"

    def _carried(self, value: Value) -> tuple[int, ...]:
        return self.nodes[self.source[value.number]].groups

    def _groups(self, value: Value, before: tuple[int, ...]) -> tuple[int, ...]:
        """Groups of a value's channels; those that stay have no numbers, so they are the ones that came in."""
        found, stays = dict[int, None](), False
        for labels in self.network.dims(value):
            if labels is not None:
                found.update(dict.fromkeys(np.unique(self.group_of[labels[labels >= 0]]).tolist()))
                stays = stays or bool((labels < 0).any())
        if stays or not found:
            found.update(dict.fromkeys(p for p in before if self.network.groups[p].pinned is not None))
        return tuple(found)

    def _channels(self, value: Value) -> int:
        """The size of the dimension of channels; 0 where there is none."""
        sizes = [size for size, x in zip(value.shape, self.network.dims(value), strict=True) if x is not None]
        return max(sizes, default=0)


def _detail(op: Op, x: Value) -> str:
    out = op.outputs[0]
    if RULES.get(op.name) is not convolve:
        return f"linear, {x.shape[-1]} → {out.shape[-1]}"
    kernel, groups = "×".join(map(str, op.args[1].shape[2:])), int(op.args[8])
    grouped = "depthwise " if 1 < groups == x.shape[1] else f"{groups} groups " if groups > 1 else ""
    return f"{grouped}conv {kernel}, {x.shape[1]} → {out.shape[1]}"


def _shape(value: Value) -> str:
    return "×".join(map(str, value.shape))
