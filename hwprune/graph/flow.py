"""Labels through a whole trace: every operator's rule in turn, and which dimension of a split carries them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hwprune.errors import UnknownOpError
from hwprune.graph.call import Call, Rule, Split
from hwprune.graph.choices import Choices
from hwprune.graph.indexing import RECURRENT, recurrent
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.literals import splits_offsets
from hwprune.graph.rules import pin_all
from hwprune.graph.trace import Trace

OnUnknown = Literal["pin", "refuse"]


@dataclass
class Flow:
    """Labels of every value of a trace after all rules have run.

    Attributes:
        book: what is united and pinned.
        labels: of every value, by number.
        contracted: of weight dimensions that an operator sums over.
        inner: over which two activations are multiplied and summed.
        splits: where one of several dimensions was chosen to carry labels.
        spans: per position of an operator why channels that stay depend there on those that go.
    """

    book: Book
    labels: dict[int, Dims]
    contracted: list[Labels] = field(default_factory=list)
    inner: list[Labels] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    spans: dict[int, str] = field(default_factory=dict)

    def pinned(self) -> tuple[Labels, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Coupled channel of every label, and per coupled channel whether it is pinned."""
        roots = self.book.roots()
        stays = np.zeros(int(roots.max(initial=-1)) + 1, dtype=bool)
        for labels, _ in self.book.pins:
            stays[roots[labels]] = True
        return roots, stays


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
    choices: Choices = Choices(),  # noqa: B008  # frozen
    keep: Mapping[int, frozenset[int]] | None = None,
) -> Flow:
    """Let the labels of the parameters, by value number, flow through every operator.

    Raises:
        UnknownOpError: with ``on_unknown="refuse"``, an operator without a rule meets channels.
    """
    flow = Flow(book, dict(parameters))
    for value in record.inputs:
        flow.labels.setdefault(value.number, _input_labels(value.shape, book, choices))
    for position, op in enumerate(record.ops):
        call = Call(op, book, flow.labels, position, record.static, keep or {}, choices.conv_groups)
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
        if call.spans is not None:
            flow.spans[position] = call.spans
    for value in record.outputs:
        for labels in flow.labels.get(value.number, ()):
            if labels is not None:
                book.pin(labels, "reaches the network's output")
    return flow


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
) -> tuple[Flow, Mapping[int, frozenset[int]]]:
    """Labels of a network's parameters through its trace, with every split's labels on the dimension that can go.

    A split tries its next candidate while the present one is pinned in the end, or is summed over by attention and
    whole heads are wanted. Also returns the dimensions chosen, by position, for passes at other widths.
    """
    chosen: dict[tuple[int, tuple[int, ...]], int] = {}
    ended: set[tuple[int, tuple[int, ...]]] = set()
    while True:
        book = Book()
        keep = _by_position(chosen)
        flow = propagate(record, rules, on_unknown, book, fresh_labels(record, book, kernels), choices, keep)
        if not flow.splits:
            return flow, {**keep, **_offsets(record, choices)}
        roots, pinned = flow.pinned()
        inner = np.zeros(book.size, dtype=bool)
        if choices.attention == "heads":
            for labels in flow.inner:
                inner[labels] = True
        moved = False
        for split in flow.splits:
            key = (split.position, tuple(sorted(split.candidates)))
            chosen.setdefault(key, split.keeper)
            if key in ended or not (inner[split.labels].any() or pinned[roots[split.labels]].all()):
                continue
            moved = True
            at = split.candidates.index(split.keeper) + 1
            if at == len(split.candidates):  # none is any better: back to the first
                ended.add(key)
            chosen[key] = split.candidates[at % len(split.candidates)]
        if not moved:
            return flow, {**_by_position(chosen), **_offsets(record, choices)}


def _offsets(record: Trace, choices: Choices) -> dict[int, frozenset[int]]:
    """Grouped convolutions that lose offsets; at one offset they look like depthwise ones, whose groups go whole."""
    if choices.conv_groups != "offsets":
        return {}
    convolutions = [(i, op) for i, op in enumerate(record.ops) if op.name in ("convolution", "_convolution")]
    return {i: frozenset([1]) for i, op in convolutions if int(op.args[8]) > 1 and splits_offsets(op)}


def _by_position(chosen: Mapping[tuple[int, tuple[int, ...]], int]) -> dict[int, frozenset[int]]:
    keep: dict[int, frozenset[int]] = {}
    for (position, _), axis in chosen.items():
        keep[position] = keep.get(position, frozenset()) | {axis}
    return keep
