"""What does not follow the widths is repaired through an attribute, tied to what it follows instead, or pinned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import gcd
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwprune.errors import HardCodedSizeError
from hwprune.graph.blame import culprit
from hwprune.graph.flow import Flow
from hwprune.graph.following import Mismatch
from hwprune.graph.grouping import Grouping
from hwprune.graph.labels import Labels
from hwprune.graph.literals import Literal
from hwprune.graph.narrowing import Attribute
from hwprune.graph.trace import Op, Trace
from hwprune.modes import modules_of

# Words in the names of attributes that hold widths; they are tried before others of the same value.
_WIDTHS: Final = ("head", "dim", "chan", "width", "group", "feature", "plane", "embed", "split", "in_", "out_")
# Operators whose results have as many rows as the values say.
_BY_DATA: Final = frozenset(
    ["index", "masked_select", "nms", "nonzero", "_unique2", "unique_consecutive", "unique_dim"]
)
_Key = tuple[int, int, int | None]


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


class Mending:
    """Remembers over many passes what was tried for every number that does not follow."""

    def __init__(self, model: nn.Module, record: Trace, flow: Flow, literals: Mapping[int, Sequence[Literal]]) -> None:
        self.model, self.record, self.flow, self.literals = model, record, flow, literals
        self.modules = modules_of(model)
        self.repairs: dict[tuple[str, str, int | None], _Place] = {}
        self.candidates: dict[tuple[_Key, bool], Iterator[_Place]] = {}
        self.applied: dict[_Key, _Place] = {}
        self.tied: set[_Key] = set()
        self.raised: dict[str, int] = {}
        self._repair_known()

    def _repair_known(self) -> None:
        """Attributes that torch's own modules look at before any operator could show them."""
        for name, module in self.modules.items():
            calls = self._calls.get(name, ())
            if isinstance(module, nn.MultiheadAttention):
                found = (x for at in calls for x in self.literals.get(at, ()))
                heads = next((x for x in found if x.dense == len(x.labels) and x.dense == module.num_heads), None)
                if heads is not None:
                    self.repairs[name, "num_heads", None] = _Place(name, "num_heads", None, module.num_heads, heads)
            elif isinstance(module, nn.modules.instancenorm._InstanceNorm) and not module.affine and calls:
                labels = (*self.flow.dims(self.record.ops[calls[0]].inputs[0]), None, None)[1]
                if labels is not None and len(labels) == module.num_features:
                    count = Literal(0, None, module.num_features, labels)
                    place = _Place(name, "num_features", None, module.num_features, count)
                    self.repairs[place.key] = place

    def attributes(self, grouping: Grouping) -> tuple[Attribute, ...]:
        """The repairs, as functions of the widths."""
        return tuple(
            Attribute(place.module, place.name, place.item, place.dense, grouping.numbers(place.literal.labels))
            for place in self.repairs.values()
        )

    def mend(self, grouping: Grouping, mismatches: Sequence[Mismatch], stays: NDArray[np.bool_]) -> None:
        """Repair or tie what can be; pin the rest, but not where a repair of the same module may be its cure."""
        cured = self._cured(grouping, mismatches, stays)
        for mismatch in mismatches:
            op = self.record.ops[mismatch.position]
            if op.module not in cured:
                meets = "a shape that depends on data" if op.name in _BY_DATA else "a size written into the code"
                why = f"meets {meets}: {op}, {mismatch.line}"
                self.pin(grouping, (mismatch.position,), op.module, why)

    def mend_or_pin(
        self, grouping: Grouping, mismatches: Sequence[Mismatch], stays: NDArray[np.bool_], at: Sequence[int], why: str
    ) -> None:
        """A pass ended early at a call: what came before may be the cause; if that cannot be cured, pin there."""
        if not self._cured(grouping, mismatches, stays):
            self.pin(grouping, at, self.record.ops[at[0]].module, why)

    def mend_raised(
        self, grouping: Grouping, mismatches: Sequence[Mismatch], stays: NDArray[np.bool_], error: Exception
    ) -> None:
        """The network's own code raised: what came before may be the cause; else pin the module that raised."""
        if self._cured(grouping, mismatches, stays):
            return
        module, line = culprit(error, self.model)
        if self._doubt(module):
            return
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        why = f"the code of {module or 'the network itself'!r} fails at other widths: {text[:120]} ({line})"
        self.raised[line] = self.raised.get(line, 0) + 1
        alike = [module]
        if self.raised[line] > 1:  # once may be an accident; a second failure on one line stands for the whole class
            kind = type(self.modules[module])
            alike = [name for name, other in self.modules.items() if type(other) is kind]
        for name in alike:
            self.pin(grouping, (), name, why)

    def _doubt(self, module: str) -> bool:
        """Take back the unlikely repairs of a module that raised; whether there were any."""
        doubtful = [
            key for key, place in self.applied.items() if place.module == module and not _names_a_width(place.name)
        ]
        for key in doubtful:
            self._undo(key)
        return bool(doubtful)

    def _cured(self, grouping: Grouping, mismatches: Sequence[Mismatch], stays: NDArray[np.bool_]) -> set[str]:
        """Modules of which something was repaired or tied. Factors only where no number was matched as a whole."""
        wrong = [
            (mismatch.position, literal, given)
            for mismatch in mismatches
            for literal in self.literals.get(mismatch.position, ())
            for argument, item, given in mismatch.wrong
            if (literal.argument, literal.item) == (argument, item)
        ]
        cured: set[str] = set()
        tie = partial(self._tie, grouping, stays)
        for step in (partial(self._repair, whole=True), tie, partial(self._repair, whole=False)):
            here = set()
            for position, literal, given in wrong:
                module = self.record.ops[position].module
                if module not in cured and step(position, literal, given):
                    here.add(module)
            cured |= here
        return cured

    def _repair(self, position: int, literal: Literal, given: int | None, *, whole: bool) -> bool:
        """Try the next attribute that equals the number, or is a factor or a multiple of it."""
        key = (position, literal.argument, literal.item)
        if key not in self.applied and given not in (None, literal.dense):
            return False  # it follows some width already, only not this one
        self._undo(key)
        places = self._places(self.record.ops[position], literal, whole=whole)
        for place in self.candidates.setdefault((key, whole), places):
            if place.key not in self.repairs:
                self.repairs[place.key] = self.applied[key] = place
                return True
        return False

    def _undo(self, key: _Key) -> None:
        if (last := self.applied.pop(key, None)) is not None and self.repairs.get(last.key) is last:
            del self.repairs[last.key]

    def _tie(
        self, grouping: Grouping, stays: NDArray[np.bool_], position: int, literal: Literal, given: int | None
    ) -> bool:
        """The code takes the number from another dimension of the same size: then the two share one fate."""
        key, size = (position, literal.argument, literal.item), len(literal.labels)
        if key in self.tied or given in (None, literal.dense) or abs(literal.dense) != size:
            return False
        self.tied.add(key)
        op = self.record.ops[position]
        if op.name == "slice":
            return self._tie_parts(op, literal)
        kept = np.append(stays, True)
        mine = grouping.numbers(literal.labels)
        for labels in self._labels(self._inside(op.module)):
            numbers = grouping.numbers(labels)
            if len(labels) == size and int(kept[numbers].sum()) == given and not np.array_equal(numbers, mine):
                self.flow.book.unite(literal.labels, labels)
                return True
        return False

    def _tie_parts(self, op: Op, literal: Literal) -> bool:
        """The code slices at a share of the width (a half): then equal parts share one fate index by index."""
        axis = int(op.args[1]) if len(op.args) > 1 else 0
        labels = self.flow.dims(op.inputs[0])[axis]
        if labels is None or (part := gcd(len(labels), len(literal.labels))) == 1:
            return False
        parts = labels.reshape(-1, part)
        self.flow.book.unite(parts, parts[:1])
        return True

    def _places(self, op: Op, literal: Literal, *, whole: bool) -> Iterator[_Place]:
        """Integers that equal the number or divide it: the module's, those of modules in it, of those around it."""
        given = op.args[literal.argument] if literal.argument < len(op.args) else None
        around = op.module.split(".")
        inside = (path for path in self.modules if path.startswith(f"{op.module}.") and op.module)
        for path in (op.module, *inside, *(".".join(around[:i]) for i in reversed(range(len(around))))):
            found = []
            for name, item, value, among in _integers(self.modules[path]):
                small, large = sorted((abs(value), abs(literal.dense)))
                if (value == literal.dense) if whole else (small > 1 and small != large and large % small == 0):
                    same_list = item is not None and item == literal.item and list(among) == given
                    rank = (not same_list, not _names_a_width(name), large // max(small, 1))
                    found.append((rank, _Place(path, name, item, value, literal)))
            yield from (place for _, place in sorted(found, key=lambda pair: pair[0]))

    def pin(self, grouping: Grouping, positions: Sequence[int], module: str, why: str) -> None:
        """Pin the free channels at these calls; if there are none, those in the module, then in the ones around it.

        Raises:
            HardCodedSizeError: there are none anywhere, so something else changed.
        """
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
            scope = self._inside(path)
            path = path.rpartition(".")[0] if path else None

    def _inside(self, path: str) -> Sequence[int]:
        """Positions of the calls that a module and those in it make."""
        if not path:
            return range(len(self.record.ops))
        return [i for name, calls in self._calls.items() if f"{name}.".startswith(f"{path}.") for i in calls]

    @cached_property
    def _calls(self) -> dict[str, list[int]]:
        calls: dict[str, list[int]] = {}
        for position, op in enumerate(self.record.ops):
            calls.setdefault(op.module, []).append(position)
        return calls

    def _labels(self, positions: Sequence[int]) -> list[Labels]:
        values = [v for i in positions for v in (*self.record.ops[i].inputs, *self.record.ops[i].outputs)]
        found = {id(labels): labels for value in values for labels in self.flow.dims(value) if labels is not None}
        return list(found.values())


def _names_a_width(attribute: str) -> bool:
    return any(word in attribute for word in _WIDTHS)


def _integers(module: nn.Module) -> Iterator[tuple[str, int | None, int, Sequence[Any]]]:
    """Every integer among a module's own attributes, also inside lists and tuples: name, item, value, the list."""
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        several = isinstance(value, list | tuple)
        items: Sequence[Any] = value if several else [value]
        for item, number in enumerate(items):
            if isinstance(number, int) and not isinstance(number, bool):
                yield name, item if several else None, number, items
