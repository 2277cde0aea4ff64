"""Labels through a whole trace: every operator's rule in turn, and which dimension of a split carries them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from hwprune.errors import UnknownOpError
from hwprune.graph.call import Call, Rule, Split
from hwprune.graph.choices import Choices
from hwprune.graph.indexing import RECURRENT, recurrent
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.rules import pin_all
from hwprune.graph.trace import Trace, Value

OnUnknown = Literal["pin", "refuse"]


# Operators that show a parameter as it is, in another order or shape.
_VIEWS: Final = frozenset(
    (
        "alias",
        "detach",
        "expand",
        "permute",
        "t",
        "_to_copy",
        "transpose",
        "unsqueeze",
        "squeeze",
        "view",
        "_unsafe_view",
    )
)


@dataclass
class Flow:
    """Labels of every value of a trace after all rules have run.

    Attributes:
        book: what is united and pinned.
        labels: of every value, by number.
        offsets: positions of grouped convolutions that lose the same offset in every group.
        contracted: of weight dimensions that an operator sums over.
        inner: over which two activations are multiplied and summed.
        splits: where one of several dimensions was chosen to carry labels.
        united: per position of a grouped convolution whose whole groups go its inputs, if offsets could go instead.
        spans: per position of an operator why channels that stay depend there on those that go.
    """

    book: Book
    labels: dict[int, Dims]
    offsets: frozenset[int] = frozenset()
    contracted: list[Labels] = field(default_factory=list)
    inner: list[Labels] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    united: dict[int, Labels] = field(default_factory=dict)
    spans: dict[int, str] = field(default_factory=dict)

    def dims(self, value: Value) -> Dims:
        """Labels of a value; none for one that met no rule."""
        return self.labels.get(value.number) or (None,) * len(value.shape)

    def pinned(self) -> tuple[Labels, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Coupled channel of every label, and per coupled channel whether it is pinned."""
        roots = self.book.roots()
        stays = np.zeros(int(roots.max(initial=-1)) + 1, dtype=bool)
        for labels, _ in self.book.pins:
            stays[roots[labels]] = True
        return roots, stays


@dataclass(frozen=True)
class Decisions:
    """What was decided where rules leave a choice.

    Attributes:
        keep: dimensions that carry labels behind a change of shape, by position in the trace.
        offsets: positions of grouped convolutions that lose the same offset in every group.
    """

    keep: Mapping[int, frozenset[int]] = field(default_factory=dict)
    offsets: frozenset[int] = frozenset()


def fresh_labels(record: Trace, book: Book, kernels: Container[str]) -> dict[int, Dims]:
    """Every index of every dimension of every parameter gets a label of its own.

    A dimension of one has none, it cannot be narrowed; nor have the kernel positions of the weights in ``kernels``.
    """
    labels: dict[int, Dims] = {}
    for name, value in record.parameters.items():
        if value.number not in labels:
            channels = 2 if name in kernels else len(value.shape)
            labels[value.number] = tuple(
                book.fresh(size) if size > 1 and dim < channels else None for dim, size in enumerate(value.shape)
            )
    return labels


def propagate(
    record: Trace,
    rules: Mapping[str, Rule],
    on_unknown: OnUnknown,
    book: Book,
    parameters: Mapping[int, Dims],
    choices: Choices,
    decisions: Decisions,
) -> Flow:
    """Let the labels of the parameters, by value number, flow through every operator.

    Raises:
        UnknownOpError: with ``on_unknown="refuse"``, an operator without a rule meets channels.
    """
    flow = Flow(book, dict(parameters), decisions.offsets)
    for value in record.inputs:
        flow.labels.setdefault(value.number, _input_labels(value.shape, book, choices))
    direct = {value.number for value in record.parameters.values()}
    for position, op in enumerate(record.ops):
        offsets = position in decisions.offsets
        call = Call(op, book, flow.labels, position, record.static, direct, decisions.keep, offsets)
        if op.name in _VIEWS and op.inputs[0].number in direct:
            direct.add(op.outputs[0].number)
        rule = recurrent if op.module_type in RECURRENT else rules.get(op.name)
        if rule is None:
            reached = sum(len(x) for value in op.inputs for x in call.dims(value) if x is not None)
            if on_unknown == "refuse" and reached:
                raise UnknownOpError(op.name, where=str(op), channels=reached)
            rule = pin_all
        for value, dims_out in zip(op.outputs, rule(call), strict=True):
            flow.labels[value.number] = dims_out
        flow.contracted += call.contracted
        flow.inner += call.inner
        flow.splits += call.splits
        if call.united is not None:
            flow.united[position] = call.united
        if call.spans is not None:
            flow.spans[position] = call.spans
    _tie_packed_attention(record, flow)
    for value in record.outputs:
        for labels in flow.labels.get(value.number, ()):
            if labels is not None:
                book.pin(labels, "reaches the network's output")
    return flow


def _tie_packed_attention(record: Trace, flow: Flow) -> None:
    """nn.MultiheadAttention's code takes its heads' total size from the width of its input, so they are as wide."""
    for name, value in record.parameters.items():
        if name.rpartition(".")[2] == "in_proj_weight" and value.shape[0] == 3 * value.shape[1]:
            packed, embedding = flow.labels[value.number]
            if packed is not None and embedding is not None:
                flow.book.unite(packed.reshape(3, -1), embedding[np.newaxis])


def _input_labels(shape: tuple[int, ...], book: Book, choices: Choices) -> Dims:
    """Batch first, channels second, space behind: channels of the network's own input stay unless they are freed."""
    dims: list[Labels | None] = [None] * len(shape)
    if len(shape) > 1 and shape[1] > 1:
        dims[1] = channels = book.fresh(shape[1])
        if not choices.free_inputs:
            book.pin(channels, "is the network's input")
    return tuple(dims)


def settle(
    record: Trace, rules: Mapping[str, Rule], on_unknown: OnUnknown, kernels: Container[str], choices: Choices
) -> Flow:
    """Labels of a network's parameters through its trace, decided so that as many as possible can go.

    A split tries its next candidate while the present one is pinned in the end, or is summed over by attention and
    whole heads are wanted. A grouped convolution whose groups are all one coupled channel loses offsets instead.
    """
    chosen: dict[tuple[int, tuple[int, ...]], int] = {}
    ended: set[tuple[int, tuple[int, ...]]] = set()
    offsets: set[int] = set()
    while True:
        keep: dict[int, frozenset[int]] = {}
        for (position, _), axis in chosen.items():
            keep[position] = keep.get(position, frozenset()) | {axis}
        book = Book()
        parameters = fresh_labels(record, book, kernels)
        flow = propagate(record, rules, on_unknown, book, parameters, choices, Decisions(keep, frozenset(offsets)))
        if not flow.splits and not flow.united:
            return flow
        roots, pinned = flow.pinned()
        moved = {at for at, x in flow.united.items() if choices.conv_groups == "offsets" or _is_one(roots[x])}
        offsets |= moved
        inner = np.zeros(book.size, dtype=bool)
        if choices.attention == "heads":
            for labels in flow.inner:
                inner[labels] = True
        for split in flow.splits:
            key = (split.position, tuple(sorted(split.candidates)))
            chosen.setdefault(key, split.keeper)
            if key in ended or not (inner[split.labels].any() or pinned[roots[split.labels]].all()):
                continue
            moved.add(split.position)
            at = split.candidates.index(split.keeper) + 1
            if at == len(split.candidates):  # none is any better: back to the first
                ended.add(key)
            chosen[key] = split.candidates[at % len(split.candidates)]
        if not moved:
            return flow


def _is_one(roots: Labels) -> bool:
    return bool((roots == roots[0]).all())
