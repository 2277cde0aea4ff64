"""A pass at other widths on hollow tensors, before anything is promised: what does not follow is mended or pinned.

Rules see sizes, not where a forward takes them from. ``x.reshape(b, n, self.heads, -1)`` follows ``self.heads``, which
can be set; ``x.view(-1, 512)`` follows nothing. So the network is run with narrowed meta tensors, and every call
compared with the dense one, until a pass goes through: see `Mending` for what is done about those that differ.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwprune.errors import HardCodedSizeError
from hwprune.graph.flow import Flow
from hwprune.graph.following import Follower, LostError, follow
from hwprune.graph.grouping import Grouping
from hwprune.graph.inputs import Inputs
from hwprune.graph.literals import literals
from hwprune.graph.mending import Mending
from hwprune.graph.narrowing import Attribute, hollow_state, narrow_state, repair
from hwprune.graph.trace import Forward, Trace

_MOST_PASSES: Final = 120
_IF_ADAPTED: Final = 20  # passes; half of them or fewer are right by chance even at a handful of channels
# Operators that take or add a part of a dimension: "the first half" may be right at one width by chance.
_PARTS: Final = frozenset(["slice", "split", "split_with_sizes", "constant_pad_nd"])


class Probe:
    """Passes at other widths until they go through; mends or pins what cannot follow.

    Attributes:
        literals: by position in the trace the numbers among a call's arguments that follow from widths.
        offsets: modules of grouped convolutions that lose the same offset in every group.
        rescaled: positions of arithmetic with a plain number that depends on a width.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, forward: Forward | None, record: Trace, flow: Flow) -> None:
        self.model, self.inputs, self.forward, self.record, self.flow = model, inputs, forward, record, flow
        self.literals = {
            position: found
            for position, op in enumerate(record.ops)
            if (found := literals(op, flow.dims, offsets=position in flow.offsets))
        }
        self.offsets = frozenset(record.ops[position].module for position in flow.offsets)
        self.rescaled: set[int] = set()
        self.adapted: set[int] = set()
        self.mending = Mending(model, record, flow, self.literals)

    def run(self) -> Grouping:
        """The groups whose channels may go, after every pass that was needed.

        Raises:
            HardCodedSizeError: no set of pins makes the network run at other widths.
        """
        parts = any(self.record.ops[position].name in _PARTS for position in self.literals)
        parts = parts or any(op.name == "alias" for op in self.record.ops)  # a slice that took everything
        grouping, passed = Grouping(self.record, self.flow), 0
        for attempt in range(_MOST_PASSES):
            if all(group.pinned is not None for group in grouping.groups):
                return grouping
            rng = np.random.default_rng(attempt)
            if self._passes(grouping, _subset(grouping, rng, passed % len(_KEPT))):
                passed += 1
                if passed >= (_IF_ADAPTED if self._parts_adapt() else len(_KEPT) if parts or self.flow.splits else 1):
                    return grouping
            else:
                grouping, passed = Grouping(self.record, self.flow), 0
        raise HardCodedSizeError(
            "no choice of channels to keep lets the network run at other widths",
            where=type(self.model).__name__,
            fix="exclude the modules whose code has sizes written into it (--exclude 'NAME.*')",
        )

    def attributes(self, grouping: Grouping) -> tuple[Attribute, ...]:
        """The repairs, as functions of the widths."""
        return self.mending.attributes(grouping)

    def _passes(self, grouping: Grouping, stays: NDArray[np.bool_]) -> bool:
        counted = {position: grouping.counted(found) for position, found in self.literals.items()}
        follower = Follower(self.record, grouping.dims, lambda at: counted.get(at, ()), stays)
        narrow = hollow_state if self.record.method == "meta" else narrow_state
        state = narrow(self.model, grouping.channel_of(), stays)
        sizes = iter([follower.sizes(value) for value in self.record.inputs])
        inputs = Inputs(*self.inputs.mapped(lambda x: x[tuple(slice(n) for n in next(sizes))]))
        prepare = partial(repair, self.model, self.attributes(grouping), stays, self.offsets)
        try:
            follow(self.model, state, inputs, self.forward, follower, prepare)
        except LostError as error:
            self.mending.mend_or_pin(grouping, follower.mismatches, stays, (error.position,), str(error))
            return False
        except Exception as error:  # the user's own code may raise anything at a width it does not expect
            self.mending.mend_raised(grouping, follower.mismatches, stays, error)
            return False
        self.rescaled |= follower.rescaled
        self.adapted |= follower.adapted
        self.mending.mend(grouping, follower.mismatches, stays)
        return not follower.mismatches

    def _parts_adapt(self) -> bool:
        """Whether the code computes from a shape which part it takes: "the first half" is right now and then."""
        computed = self.adapted - {position for position, _, _ in self.mending.applied}
        return any(self.record.ops[position].name in _PARTS - {"split"} for position in computed)


def _some(width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(width)[: int(rng.integers(max(1, width // 3), width))]


def _front(width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(int(rng.integers(max(1, width // 2), width)))


def _back(width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(int(rng.integers(1, max(2, width // 2 + 1))), width)


def _few(width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(width)[: int(rng.integers(1, max(2, width // 4 + 1)))]


def _most(width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(width)[int(rng.integers(0, 3)) :]


# What neighbouring groups keep, by turns: where one keeps as much as the other, code that takes "half" of both is right
# by chance.
_KEPT: Final = ((_some, _some), (_few, _most), (_most, _few), (_front, _back), (_back, _front))


def _subset(grouping: Grouping, rng: np.random.Generator, kind: int) -> NDArray[np.bool_]:
    """Some channels of every free group stay."""
    stays = np.ones(grouping.count, dtype=bool)
    for position, group in enumerate(grouping.groups):
        if group.pinned is None:
            draw = _KEPT[kind][position % 2]
            kept = draw(group.width, rng)
            if group.width <= 2:
                kept = rng.permutation(group.width)[: int(rng.integers(1, 3)) if kind else 1]
            stays[group.numbers] = False
            stays[group.numbers[kept]] = True
    return stays
