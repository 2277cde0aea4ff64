"""A pass at other widths on a hollow copy, before anything is promised: what does not follow is mended or pinned.

Rules see sizes, not where a forward takes them from. ``x.reshape(b, n, self.heads, -1)`` follows ``self.heads``, which
can be set; ``x.view(-1, 512)`` follows nothing. So a copy with narrowed meta tensors is run, and every call compared
with the dense one: a number that equals an integer of the module it stands in is repaired through that attribute, and
any other pins the channels that meet it, until a pass goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwprune.errors import HardCodedSizeError, ModelError
from hwprune.graph.call import Rule
from hwprune.graph.choices import Choices
from hwprune.graph.flow import Flow, propagate
from hwprune.graph.following import Follower, LostError, Mismatch, Reshapes, culprit
from hwprune.graph.grouping import Grouping
from hwprune.graph.inputs import Inputs
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.literals import Literal, literals
from hwprune.graph.narrowing import Attribute, hollow, narrowed, smaller
from hwprune.graph.trace import Forward, Op, Trace, Value, retrace

# Words in the names of attributes that hold widths; they are tried before others of the same value.
_WIDTHS = ("head", "dim", "chan", "width", "group", "feature", "plane", "embed", "split", "size", "in_", "out_")
_MOST_PASSES = 60


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """An integer attribute that a literal may come from, and the literal."""

    module: str
    name: str
    item: int | None
    dense: int
    literal: Literal

    @property
    def key(self) -> tuple[str, str, int | None]:
        return (self.module, self.name, self.item)


class Probe:
    """Passes at other widths until one goes through; pins what cannot follow.

    Attributes:
        rescaled: positions of arithmetic with a plain number that depends on a width.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        forward: Forward | None,
        record: Trace,
        flow: Flow,
        keep: Mapping[int, frozenset[int]],
        rules: Mapping[str, Rule],
        choices: Choices,
    ) -> None:
        self.model, self.inputs, self.forward = model, inputs, forward
        self.record, self.flow, self.keep, self.rules, self.choices = record, flow, keep, rules, choices
        self.modules = dict(model.named_modules())
        self.literals = [literals(op, self.dims, choices.conv_groups) for op in record.ops]
        self.repairs: dict[tuple[str, str, int | None], _Place] = {}
        self.tried: dict[tuple[int, int, int | None], Iterator[_Place]] = {}
        self.applied: dict[tuple[int, int, int | None], _Place] = {}
        self.raised: dict[str, int] = {}
        self.rescaled: set[int] = set()

    def dims(self, value: Value) -> Dims:
        return self.flow.labels.get(value.number) or (None,) * len(value.shape)

    def run(self) -> Grouping:
        """The groups whose channels may go, after every pass that was needed.

        Raises:
            HardCodedSizeError: no set of pins makes the network run at other widths.
        """
        for seed in range(_MOST_PASSES):
            grouping = Grouping(self.record, self.flow)
            if all(group.pinned is not None for group in grouping.groups):
                return grouping
            if self._passes(grouping, np.random.default_rng(seed)):
                return grouping
        raise HardCodedSizeError(
            "no choice of channels to keep lets the network run at other widths",
            where=type(self.model).__name__,
            fix="exclude the modules whose code has sizes written into it (--exclude 'NAME.*')",
        )

    def attributes(self, grouping: Grouping) -> tuple[Attribute, ...]:
        """The repairs, as functions of the widths."""
        return tuple(
            Attribute(place.module, place.name, place.item, place.dense, grouping.numbers(place.literal.labels))
            for place in self.repairs.values()
        )

    def _passes(self, grouping: Grouping, rng: np.random.Generator) -> bool:
        stays = _about_half(grouping, rng)
        kept = grouping.kept(stays)
        follower = Follower(self.record, lambda v: _sizes(v, self.dims(v), kept), self._numbers(kept))
        copy = narrowed(
            self.model,
            grouping.channel_of(),
            stays,
            self.attributes(grouping),
            hollow if self.record.method == "meta" else smaller,
            self.choices.conv_groups,
        )
        try:
            with Reshapes(follower):
                record = retrace(copy, self._narrowed_inputs(kept), self.record.method, self.forward, follower)
        except LostError as error:
            self._pin_scope(grouping, (), error.op.module, f"{error} ({error.line})")
            return False
        except Exception as error:  # the user's own code may raise anything at a width it does not expect
            self._pin_raised(grouping, copy, error)
            return False
        self.rescaled = follower.rescaled
        if follower.mismatches:
            self._mend(grouping, follower.mismatches)
            return False
        return self._couples_alike(grouping, record, stays)

    def _narrowed_inputs(self, kept: NDArray[np.bool_]) -> Inputs:
        sizes = iter([_sizes(value, self.dims(value), kept) for value in self.record.inputs])
        return Inputs(*self.inputs.mapped(lambda x: x[tuple(slice(n) for n in next(sizes))]))

    def _numbers(self, kept: NDArray[np.bool_]) -> Callable[[int], Sequence[tuple[Literal, int]]]:
        return lambda position: [(literal, literal.at(kept)) for literal in self.literals[position]]

    def _mend(self, grouping: Grouping, mismatches: Sequence[Mismatch]) -> None:
        """Repair what can be; pin the rest, but not where a repair of the same module may be its cure."""
        repaired = {
            self.record.ops[m.position].module for m in mismatches for literal in m.literals if self._repair(m, literal)
        }
        for mismatch in mismatches:
            op = self.record.ops[mismatch.position]
            if op.module not in repaired:
                why = f"meets a size written into the code: {op}, {mismatch.line}"
                self._pin_scope(grouping, (mismatch.position,), op.module, why)

    def _repair(self, mismatch: Mismatch, literal: Literal) -> bool:
        """Try the next attribute that the number may come from."""
        key = (mismatch.position, literal.argument, literal.item)
        if (last := self.applied.pop(key, None)) is not None and self.repairs.get(last.key) is last:
            del self.repairs[last.key]
        candidates = self.tried.setdefault(key, self._candidates(self.record.ops[mismatch.position], literal))
        for place in candidates:
            if place.key not in self.repairs:
                self.repairs[place.key] = self.applied[key] = place
                return True
        return False

    def _candidates(self, op: Op, literal: Literal) -> Iterator[_Place]:
        """Integers of the call's module, then of those around it, that equal the number or divide it, likely first."""
        path: str | None = op.module
        while path is not None:
            found = []
            for name, item, value in _integers(self.modules[path]):
                small, large = sorted((abs(value), abs(literal.dense)))
                if small > 1 and large % small == 0:
                    rank = (value != literal.dense, not any(word in name for word in _WIDTHS), large // small)
                    found.append((rank, _Place(path, name, item, value, literal)))
            yield from (place for _, place in sorted(found, key=lambda pair: pair[0]))
            path = path.rpartition(".")[0] if path else None

    def _pin_raised(self, grouping: Grouping, copy: nn.Module, error: Exception) -> None:
        module, line = culprit(error, copy)
        text = str(error).strip().splitlines()
        why = (
            f"the code of {module or 'the network itself'!r} fails at other widths: {(text or [''])[0][:120]} ({line})"
        )
        self.raised[line] = self.raised.get(line, 0) + 1
        alike = [module]
        if self.raised[line] > 1:  # once may be an accident; a second failure on one line stands for the whole class
            kind = type(self.modules[module])
            alike = [name for name, other in self.modules.items() if type(other) is kind]
        for name in alike:
            self._pin_scope(grouping, (), name, why)

    def _pin_scope(self, grouping: Grouping, positions: Sequence[int], module: str, why: str) -> None:
        """Pin the free channels at these calls; if there are none, those in the module, then in the ones around it."""
        path: str | None = module
        scope: Sequence[int] = positions
        while True:
            free = [x for x in self._labels(scope) if (grouping.numbers(x) >= 0).any()]
            if free:
                for labels in free:
                    self.flow.book.pin(labels, why)
                return
            if path is None:
                raise HardCodedSizeError(why, fix="exclude the modules in question (--exclude 'NAME.*')")
            inside = (path, f"{path}." if path else "")
            scope = [i for i, op in enumerate(self.record.ops) if op.module == path or op.module.startswith(inside[1])]
            path = path.rpartition(".")[0] if path else None

    def _labels(self, positions: Sequence[int]) -> list[Labels]:
        values = [v for i in positions for v in (*self.record.ops[i].inputs, *self.record.ops[i].outputs)]
        return [labels for value in values for labels in self.dims(value) if labels is not None]

    def _couples_alike(self, grouping: Grouping, record: Trace, stays: NDArray[np.bool_]) -> bool:
        """Whether the narrow network ties the same channels as the dense one; pins those that it mixes."""
        wrong = mixed(record, grouping.channel_of(), stays, self.rules, self.choices, self.keep)
        if not len(wrong):
            return True
        labels = np.flatnonzero(np.isin(grouping.number[grouping.roots], wrong))
        self.flow.book.pin(labels, "is taken by number in the code, and other channels have it at other widths")
        return False


def mixed(
    record: Trace,
    channel_of: Mapping[str, Dims],
    stays: NDArray[np.bool_],
    rules: Mapping[str, Rule],
    choices: Choices,
    keep: Mapping[int, frozenset[int]],
) -> NDArray[np.int64]:
    """Numbers of the coupled channels that a pass at other widths ties to each other though they were apart."""
    # A kept channel's label is its number in the dense network, so that whatever was tied there has one label here.
    book = Book(size=len(stays))
    parameters: dict[int, Dims] = {}
    for name, value in record.parameters.items():
        dims: list[Labels | None] = []
        for size, numbers in zip(value.shape, channel_of[name], strict=True):
            if numbers is None:
                dims.append(None)
                continue
            left = numbers[(numbers < 0) | stays[numbers]]
            if len(left) != size:
                raise ModelError(f"{name} was cut to {size} channels, the plan says {len(left)}")
            dims.append(np.where(left < 0, book.fresh(size), left))
        parameters.setdefault(value.number, tuple(dims))
    flow = propagate(record, rules, "pin", book, parameters, choices, keep)
    known, wrong = len(stays), [np.zeros(0, dtype=np.int64)]
    for a, b in zip(flow.book.left, flow.book.right, strict=True):
        apart = (a != b) & (a < known) & (b < known)
        wrong += [a[apart], b[apart]]
    return np.unique(np.concatenate(wrong))


def _sizes(value: Value, dims: Dims, kept: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(
        size if labels is None else int(kept[labels].sum()) for size, labels in zip(value.shape, dims, strict=True)
    )


def _about_half(grouping: Grouping, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A bit more than half of every free group stays, at random, but not all and not one if that can be helped."""
    stays = np.ones(sum(group.width for group in grouping.groups), dtype=bool)
    for group in grouping.groups:
        if group.pinned is None:
            low = min(group.width - 1, max(2, group.width // 2))
            count = int(rng.integers(low, max(low + 1, group.width * 3 // 4 + 1)))
            gone = rng.permutation(group.width)[min(count, group.width - 1) :]
            stays[group.numbers[gone]] = False
    return stays


def _integers(module: nn.Module) -> Iterator[tuple[str, int | None, int]]:
    """Every integer among a module's own attributes, also inside lists and tuples: name, item, value."""
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        for item, number in enumerate(items):
            if isinstance(number, int) and not isinstance(number, bool):
                yield name, item if isinstance(value, list | tuple) else None, number
