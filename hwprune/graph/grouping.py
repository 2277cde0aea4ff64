"""Solved labels as channel groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwprune.graph.flow import Flow
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.literals import Literal
from hwprune.graph.network import ChannelGroup, Slot
from hwprune.graph.trace import Trace, Value


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where every coupled channel lies: one entry per index of a class, sorted by coupled channel.

    A class is all the dimensions of parameters that were united as a whole: a channel has one index in all of them.

    Attributes:
        roots: (entries,) the coupled channel.
        keys: (entries,) position in ``dims`` of the class.
        indices: (entries,) index in its dimensions.
        dims: per class its dimensions: place in the order of all, parameter's value number, dimension.
    """

    roots: NDArray[np.int64]
    keys: NDArray[np.int64]
    indices: NDArray[np.int64]
    dims: tuple[list[tuple[int, int, int]], ...]


class Grouping:
    """Groups of coupled channels, and the number of the coupled channel at every label.

    Attributes:
        groups: free ones first, both in the order in which the parameters come.
        number: (coupled channels,) number by root, -1 where the channel stays.
    """

    def __init__(self, record: Trace, flow: Flow) -> None:
        self.record, self.flow = record, flow
        book = flow.book
        self.firsts = book.firsts()
        self.roots = book.roots(self.firsts)
        count = int(self.roots.max(initial=-1)) + 1
        self.hidden = np.zeros(count, dtype=bool)
        for labels in book.hidden:
            self.hidden[self.roots[labels]] = True
        self.reasons = list(dict.fromkeys(why for _, why in book.pins))
        place = {why: position for position, why in enumerate(self.reasons)}
        self.reason = np.full(count, -1, dtype=np.int64)  # of each coupled channel the position of its reason
        for labels, why in reversed(book.pins):  # the first reason is the one that is told
            self.reason[self.roots[labels]] = place[why]
        self._name_of = {value.number: name for name, value in reversed(list(record.parameters.items()))}
        self.contracted = np.zeros(book.size, dtype=bool)
        for labels in flow.contracted:
            self.contracted[labels] = True
        self.number = np.full(count, -1, dtype=np.int64)
        self.groups = self._named(self._drafts())
        self._known: dict[int, tuple[Labels, Labels]] = {}
        self._of_whole: dict[int, Labels] = {}
        self._dims: dict[int, Dims] = {}

    def numbers(self, labels: Labels) -> Labels:
        """Number of the coupled channel at every label, -1 where it stays."""
        known = self._known.get(id(labels))  # most values share their labels with others; an id needs its array alive
        if known is None:
            if id(labels) in self.flow.book.made:  # and most dimensions are united as a whole
                first = int(self.firsts[labels[0]])
                numbers = self._of_whole.get(first)
                if numbers is None:
                    numbers = self._of_whole[first] = self.number[self.roots[labels]]
            else:
                numbers = self.number[self.roots[labels]]
            known = self._known[id(labels)] = (labels, numbers)
        return known[1]

    def dims(self, value: Value) -> Dims:
        """`numbers` of every dimension of a value."""
        known = self._dims.get(value.number)
        if known is None:
            dims = self.flow.dims(value)
            known = tuple([None if labels is None else self.numbers(labels) for labels in dims])
            self._dims[value.number] = known
        return known

    def counted(self, literals: Iterable[Literal]) -> tuple[Literal, ...]:
        """The same numbers in a call's arguments, that count coupled channels' numbers instead of labels."""
        return tuple(replace(literal, labels=self.numbers(literal.labels)) for literal in literals)

    @property
    def count(self) -> int:
        """How many coupled channels there are."""
        return sum(group.width for group in self.groups)

    def channel_of(self) -> dict[str, Dims]:
        """Per parameter and dimension the coupled channels' numbers, None where the dimension is no channels."""
        return {name: self.dims(value) for name, value in self.record.parameters.items()}

    def _places(self) -> _Places:
        classes, found = dict[int, list[tuple[int, int, int]]](), list[Labels]()
        place = 0
        for number in dict.fromkeys(value.number for value in self.record.parameters.values()):
            for dim, labels in enumerate(self.flow.labels[number]):
                if labels is not None:
                    key = int(self.firsts[labels[0]])
                    if key not in classes:
                        found.append(labels)
                    classes.setdefault(key, []).append((place, number, dim))
                    place += 1
        if not found:
            none = np.zeros(0, dtype=np.int64)
            return _Places(none, none, none, ())
        sizes = np.array([len(labels) for labels in found])
        root = self.roots[np.concatenate(found)]
        keys = np.repeat(np.arange(len(found)), sizes)
        indices = np.arange(len(root)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        seen = ~self.hidden[root]
        root, keys, indices = root[seen], keys[seen], indices[seen]
        first = np.zeros(len(self.number), dtype=np.int64)
        first[root[::-1]] = np.arange(len(root))[::-1]  # of several writes the last one stays: the first place
        order = np.argsort(first[root], kind="stable")  # stable: by class, then index, inside a channel
        return _Places(root[order], keys[order], indices[order], tuple(classes.values()))

    def _drafts(self) -> list[tuple[str | None, NDArray[np.int64], tuple[Slot, ...]]]:
        """Reason, coupled channels and slots of every group: those channels that touch the same parameter dimensions
        equally often and stay, if they do, for the same reason."""
        places = self._places()
        starts = np.flatnonzero(np.diff(places.roots, prepend=-1))
        lengths = np.diff(np.append(starts, len(places.roots))).astype(np.int64)
        drafts = []
        for members in self._kinds(places, starts, lengths):
            first = starts[members]
            why = int(self.reason[places.roots[first[0]]])
            cells = first[:, np.newaxis] + np.arange(lengths[members[0]])
            keys, indices = places.keys[cells[0]], places.indices[cells]
            reason = None if why < 0 else self.reasons[why]
            if reason is None and len(members) == 1:
                reason = "is a single coupled channel, and one must stay"
            ends = [*np.flatnonzero(np.diff(keys)).tolist(), len(keys) - 1]  # of the run of each class
            slots = sorted(
                (place, number, dim, before + 1, end + 1)
                for before, end in zip([-1, *ends], ends, strict=False)
                for place, number, dim in places.dims[keys[end]]
            )
            drafts.append(
                (reason, places.roots[first], tuple(self._slot(n, d, indices[:, a:b]) for _, n, d, a, b in slots))
            )
        drafts.sort(key=lambda draft: draft[0] is not None)  # free ones first, otherwise in forward order
        return drafts

    def _kinds(
        self, places: _Places, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Iterator[NDArray[np.int64]]:
        """Positions in ``starts`` of the coupled channels of one group, groups in order of their first."""
        if not len(starts):
            return
        # Two channels alike have the same sum of one random number per class; by chance others have it once in 2^63
        # pairs, so the classes themselves need no comparison one by one.
        codes = np.random.default_rng(0).integers(0, 2**62, size=len(places.dims), dtype=np.int64)
        sums = np.add.reduceat(codes[places.keys], starts)
        columns = (self.reason[places.roots[starts]], lengths, sums)
        order = np.lexsort(columns)  # stable: members of a kind stay in order
        edges = np.zeros(len(order), dtype=bool)
        edges[0] = True
        for column in columns:
            edges[1:] |= np.diff(column[order]) != 0
        kinds = np.split(order, np.flatnonzero(edges)[1:])
        yield from sorted(kinds, key=lambda members: int(members[0]))

    def _slot(self, number: int, dim: int, indices: NDArray[np.int64]) -> Slot:
        labels = self.flow.labels[number][dim]
        summed = labels is not None and bool(self.contracted[labels[indices[0, 0]]])
        return Slot(self._name_of[number], dim, indices, summed)

    def _named(self, drafts: list[tuple[str | None, NDArray[np.int64], tuple[Slot, ...]]]) -> tuple[ChannelGroup, ...]:
        groups, used, start = [], dict[str, int](), 0
        for reason, roots, slots in drafts:
            maker = next((slot for slot in slots if not slot.contracted), None)
            first = slots[0] if maker is None else maker
            name = first.parameter.rpartition(".")[0] or first.parameter
            name = name if maker is not None else f"input of {name}"
            used[name] = used.get(name, 0) + 1
            name = name if used[name] == 1 else f"{name}#{used[name]}"
            numbers = np.arange(start, start + len(roots))
            if reason is None:
                self.number[roots] = numbers
            start += len(roots)
            groups.append(ChannelGroup(name, len(roots), slots, reason, numbers))
        return tuple(groups)
