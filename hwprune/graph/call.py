"""One operator call as its channel rule sees it: plain facts, labels, and the book to write in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.trace import Op, Value

Rule = Callable[["Call"], Sequence[Dims]]


@dataclass
class Call:
    """One operator call as its rule sees it.

    Attributes:
        op: the call.
        book: where labels are united and pinned.
        labels: labels of every value so far, by number.
        contracted: labels of weight dimensions that this call sums over (a convolution's input channels).
        pads: labels that padding adds, per side, for surgery.
    """

    op: Op
    book: Book
    labels: Mapping[int, Dims]
    contracted: list[Labels] = field(default_factory=list)
    pads: list[tuple[Labels, Labels]] = field(default_factory=list)

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument by position, else by name."""
        if position < len(self.op.args):
            return self.op.args[position]
        return self.op.kwargs.get(name, default)

    def dims(self, value: Value) -> Dims:
        """Labels of a tensor argument; a tensor made inside the forward (a constant) has none."""
        return self.labels.get(value.number, (None,) * len(value.shape))

    @property
    def first(self) -> Dims:
        """Labels of the first tensor."""
        return self.dims(self.op.inputs[0])

    @property
    def rank(self) -> int:
        """Dimensions of the first tensor."""
        return len(self.op.inputs[0].shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.op.outputs[0].shape

    def pin(self, labels: Labels | None, why: str) -> None:
        """These labels stay because of ``why`` at this call."""
        if labels is not None:
            self.book.pin(labels, f"{why} ({self.op})")

    def unite(self, a: Labels | None, b: Labels | None) -> Labels | None:
        """Tie two dimensions of one size; a dimension without labels pins the other."""
        if a is None or b is None:
            self.pin(a, "meets a dimension that is not channels")
            self.pin(b, "meets a dimension that is not channels")
            return None
        self.book.unite(a, b)
        return a

    def only(self, dims: Dims) -> list[Dims]:
        """The first output has ``dims``; the others (indices, statistics) are not channels."""
        return [dims, *((None,) * len(value.shape) for value in self.op.outputs[1:])]
