"""One operator call as its channel rule sees it: plain facts, labels, and the book to write in."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.trace import Op, Value

Rule = Callable[["Call"], Sequence[Dims]]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A dimension of channels that a change of shape splits into several, of which one goes on carrying labels.

    Attributes:
        position: of the operator in the trace.
        candidates: the new dimensions that could carry the labels, the largest first.
        keeper: the one of them that does.
        labels: of the keeper.
    """

    position: int
    candidates: tuple[int, ...]
    keeper: int
    labels: Labels


@dataclass
class Call:
    """One operator call as its rule sees it.

    Attributes:
        op: the call.
        book: where labels are united and pinned.
        labels: labels of every value so far, by number.
        position: of the call in the trace.
        static: numbers of the values that depend on parameters alone.
        keep: dimensions that carry labels behind a split, by its position; the largest by default.
        offsets: whether a grouped convolution loses the same offset in every group, not whole groups.
        contracted: labels of weight dimensions that this call sums over (a convolution's input channels).
        inner: labels over which two activations are multiplied and summed (attention's head dimension).
        splits: see `Split`.
        united: labels that a grouped convolution united to go as whole groups, if offsets could have gone instead.
        direct: numbers of the values that are parameters, or views of them.
        spans: why the values of the channels that stay depend on those that go, None where they do not; "" where they
            do only as long as a removed channel is not gone but zeroed.
    """

    op: Op
    book: Book
    labels: Mapping[int, Dims]
    position: int = 0
    static: frozenset[int] = frozenset()
    direct: Container[int] = frozenset()
    keep: Mapping[int, frozenset[int]] = field(default_factory=dict)
    offsets: bool = False
    contracted: list[Labels] = field(default_factory=list)
    inner: list[Labels] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    united: Labels | None = None
    spans: str | None = None

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument by position, else by name."""
        if position < len(self.op.args):
            return self.op.args[position]
        return self.op.kwargs.get(name, default)

    def dims(self, value: Value) -> Dims:
        """Labels of a tensor argument; a tensor made inside the forward (a constant) has none."""
        return self.labels.get(value.number) or (None,) * len(value.shape)

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
        if a is not b:
            self.book.unite(a, b)
        return b if self.book.is_soft(a) else a

    def is_soft(self, labels: Labels | None) -> bool:
        """Whether these are copies that have met no channels yet, see `Book.copies`."""
        return labels is not None and self.book.is_soft(labels)

    def only(self, dims: Dims) -> list[Dims]:
        """The first output has ``dims``, and so has any other of its shape (indices); the rest are not channels."""
        first, *rest = self.op.outputs
        return [dims, *(dims if value.shape == first.shape else (None,) * len(value.shape) for value in rest)]
