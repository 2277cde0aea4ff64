"""A pass at other widths on a hollow copy, before anything is promised: what does not follow is mended or pinned.

Rules see sizes, not where a forward takes them from. ``x.reshape(b, n, self.heads, -1)`` follows ``self.heads``, which
can be set; ``x.view(-1, 512)`` follows nothing. So a copy with narrowed meta tensors is run, and every call compared
with the dense one: a number that equals an integer of the module it stands in is repaired through that attribute, and
any other pins the channels that meet it, until a pass goes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwprune.errors import HardCodedSizeError
from hwprune.graph.flow import Flow
from hwprune.graph.following import Follower, LostError, Mismatch, culprit, follow
from hwprune.graph.grouping import Grouping
from hwprune.graph.inputs import Inputs
from hwprune.graph.labels import Dims, Labels
from hwprune.graph.literals import Literal, literals
from hwprune.graph.narrowing import Attribute, hollow_state, narrow_state, repair
from hwprune.graph.trace import Forward, Op, Trace, Value

# Words in the names of attributes that hold widths; they are tried before others of the same value.
_WIDTHS = ("head", "dim", "chan", "width", "group", "feature", "plane", "embed", "split", "in_", "out_")
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
    ) -> None:
        self.model, self.inputs, self.forward, self.record, self.flow = model, inputs, forward, record, flow
        self.modules = dict(model.named_modules())
        self.first_name = _first_names(model)
        self.literals = {
            position: found
            for position, op in enumerate(record.ops)
            if (found := literals(op, self.dims, offsets=position in flow.offsets))
        }
        self.offsets = frozenset(record.ops[position].module for position in flow.offsets)
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
        follower = Follower(self.record, grouping.dims, lambda at: self._counted(grouping, at), stays)
        narrow = hollow_state if self.record.method == "meta" else narrow_state
        state = narrow(self.model, grouping.channel_of(), stays)
        shapes = {name: tuple(state[self.first_name[name]].shape) for name in self.first_name}
        attributes = self.attributes(grouping)
        sizes = iter([follower.sizes(value) for value in self.record.inputs])
        inputs = Inputs(*self.inputs.mapped(lambda x: x[tuple(slice(n) for n in next(sizes))]))
        prepare = partial(repair, self.model, shapes, attributes, stays, self.offsets)
        try:
            follow(self.model, state, inputs, self.forward, follower, prepare)
        except LostError as error:
            self._pin_scope(grouping, (error.position,), error.op.module, str(error))
            return False
        except Exception as error:  # the user's own code may raise anything at a width it does not expect
            self._pin_raised(grouping, error)
            return False
        self.rescaled = follower.rescaled
        self._mend(grouping, follower.mismatches)
        return not follower.mismatches

    def _counted(self, grouping: Grouping, position: int) -> Sequence[Literal]:
        found = self.literals.get(position, ())
        return [replace(literal, labels=grouping.numbers(literal.labels)) for literal in found]

    def _mend(self, grouping: Grouping, mismatches: Sequence[Mismatch]) -> None:
        """Repair what can be; pin the rest, but not where a repair of the same module may be its cure."""
        repaired = {
            self.record.ops[m.position].module
            for m in mismatches
            for literal in self.literals.get(m.position, ())
            if (literal.argument, literal.item) in m.literals and self._repair(m, literal)
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

    def _pin_raised(self, grouping: Grouping, error: Exception) -> None:
        module, line = culprit(error, self.model)
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


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first name of the same tensor."""
    first: dict[int, str] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


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
