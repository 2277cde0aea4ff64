"""In which order the channels of a group go, and what each of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Order:
    """The channels that a group may keep, the first one to go first.

    Attributes:
        channels: (channels,) of the dense network.
        costs: (channels,) importance that is lost with each.
    """

    channels: NDArray[np.int64]
    costs: NDArray[np.float64]

    @classmethod
    def of(cls, present: Sequence[int], scores: NDArray[np.float64], known: NDArray[np.float64] | None = None) -> Order:
        """The least important channel first, of equal ones the last.

        Channels that are not present may come back, and count as going before all that are: what they cost was found
        while these were there.

        Args:
            present: channels that are there, ascending.
            scores: (present,) their importance.
            known: (dense width,) importance of all channels when they were judged last, nan for those that may not come
                back; None where none may.
        """
        own = np.asarray(present, dtype=np.int64)
        stay = np.argsort(-scores, kind="stable")[::-1]
        if known is None:
            return cls(own[stay], scores[stay].astype(np.float64))
        gone = np.setdiff1d(np.flatnonzero(np.isfinite(known)), own)
        back = gone[np.argsort(-known[gone], kind="stable")[::-1]]
        return cls(np.concatenate([back, own[stay]]), np.concatenate([known[back], scores[stay]]))

    @cached_property
    def totals(self) -> NDArray[np.float64]:
        """(channels + 1,) what is lost with so many of them."""
        return np.concatenate([[0.0], np.cumsum(self.costs)])

    def lost(self, width: int) -> float:
        """What is lost where so many stay."""
        return float(self.totals[len(self.channels) - width])

    def kept(self, width: int) -> list[int]:
        """Those that stay then, ascending."""
        return sorted(self.channels[len(self.channels) - width :].tolist())
