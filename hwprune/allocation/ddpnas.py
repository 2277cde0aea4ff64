"""Widths by a distribution that is pruned (Zheng et al., "Dynamic Distribution Pruning", 2019, arXiv:1905.13543)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprune.allocation.base import Kept, Situation
from hwprune.errors import check_options

Floats = NDArray[np.float64]
SHARPNESS = 100.0  # of the softmax over accuracies, in the authors' code


@dataclass(frozen=True)
class Ddpnas:
    """For every group a distribution over a few ratios; what does badly in sampled networks is taken out of it.

    A sweep samples every ratio that is left of every group once, without putting back; a network's ratios are scaled
    together until the budgets hold, and its accuracy is measured on held-back training data. After ``sweeps`` of them

        e = mean over sweeps of softmax(100 * accuracy),   v = momentum * v + (1 - momentum) * e,   theta = theta + v

    and the ratio of least theta goes in every group, until one is left. From the authors' code (MAC-AutoML/XNAS), where
    options are operations of cells and shared weights train for an epoch before each measurement; here weights are
    inherited and batch norm is re-estimated.

    Attributes:
        options: ratios of every group, evenly spaced up to 1.
        sweeps: between two removals.
        momentum: of v.
    """

    options: int = 4
    sweeps: int = 2
    momentum: float = 0.9
    name: str = "ddpnas"

    def __post_init__(self) -> None:
        check_options(
            "allocation",
            self,
            options=(self.options > 1, "at least 2"),
            sweeps=(self.sweeps > 0, "at least 1"),
            momentum=(0 <= self.momentum < 1, "from 0 to below 1"),
        )

    def kept(self, situation: Situation) -> Kept:
        """See `Allocator.kept`."""
        names = situation.open
        ratios = np.arange(1, self.options + 1) / self.options
        slots = [Slot(self.options, self.momentum) for _ in names]
        random = np.random.default_rng(situation.seed)
        for left in range(self.options, 1, -1):
            for _ in range(self.sweeps):
                orders = [random.permutation(slot.alive) for slot in slots]
                for turn in range(left):
                    chosen = [int(order[turn]) for order in orders]
                    shares = {name: float(ratios[choice]) for name, choice in zip(names, chosen, strict=True)}
                    accuracy = situation.judge(situation.best(situation.fitted(shares)))
                    for slot, choice in zip(slots, chosen, strict=True):
                        slot.saw(choice, accuracy)
            for slot in slots:
                slot.prune()
        last = {name: float(ratios[slot.alive[0]]) for name, slot in zip(names, slots, strict=True)}
        return situation.best(situation.fitted(last))


class Slot:
    """The distribution of one group.

    Attributes:
        alive: options that are left.
        theta: (options,) probabilities; 0 for those that are not.
    """

    def __init__(self, options: int, momentum: float) -> None:
        self.alive = list(range(options))
        self.theta: Floats = np.full(options, 1 / options)
        self._momentum, self._v = momentum, np.zeros(options)
        self._seen: list[list[float]] = [[] for _ in range(options)]

    def saw(self, option: int, accuracy: float) -> None:
        """A sampled network with this option had that accuracy."""
        self._seen[option].append(accuracy)

    def prune(self) -> None:
        """Learn from what was seen, take the worst out and begin to look anew."""
        sweeps = np.array([self._seen[option] for option in self.alive])  # (alive, sweeps)
        sharp = np.exp(SHARPNESS * (sweeps - sweeps.max(0)))
        e = (sharp / sharp.sum(0)).mean(1)
        self._v[self.alive] = self._momentum * self._v[self.alive] + (1 - self._momentum) * e
        self.theta[self.alive] += self._v[self.alive]
        worst = min(self.alive, key=lambda option: self.theta[option])
        self.alive.remove(worst)
        self.theta[worst] = 0
        self.theta /= self.theta.sum()
        self._seen = [[] for _ in self._seen]
