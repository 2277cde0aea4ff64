"""Soft filter pruning and its kin: what is to go is zeroed or shrunk again and again, and may grow back in between.

SFP (He et al., IJCAI 2018) zeroes the smallest filters after every epoch, trains on, and chooses anew. ASFP (He et al.,
IEEE T. Cybernetics 2019) lets the share that goes grow. SRFP and ASRFP (Cai et al., ICPR 2020, "Softer Pruning,
Incremental Regularization") multiply by a falling number in place of zeroing. The papers use one share for all layers;
here every group loses as many channels as the search took from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from hwprune.errors import check_options
from hwprune.graph.network import Network
from hwprune.regularization.base import Idle, When, filters_of, multiply, smallest

EIGHTH = 1 / 8  # of the training, at which three quarters of the channels are chosen: D of the paper
REACHED = 3 / 4
MOST_START = 5 / 7  # of the final share: from there on no exponential goes through the three points and flattens


@dataclass(frozen=True)
class SoftMask:
    """The filters of the channels that are smallest by their L2 norm are multiplied by `factor` again and again.

    Norms behind them are left alone, as in the authors' code, so a masked channel goes on telling its norm's shift.
    What that is worth to the layers that read it is added to their biases before the channel is cut.

    A filter of zeros in front of a batch norm has a gradient of up to 1 / sqrt(eps), some 300, times another's: it
    grows back larger than all others, stays for its size, and hardly learns any more. SFP and ASFP need a long training
    to get over that. With 200 steps of it ResNet-20 ended at 35 ± 2 and 36 ± 3 % of top-1; with SRFP, which zeroes
    nothing before the end, at 70.5 ± 0.3 % (`benchmarks/methods.py`, three seeds). Few steps are for SRFP and ASRFP.

    Attributes:
        every: training steps from one choice to the next; 0 takes a twentieth of all.
        start: share of what is to go that goes at once; the rest follows `curve`. 1 is SFP.
        softens: whether the factor falls from 1 to 0 as the training goes on (SRFP); else it is 0. How it falls in the
            paper is not known: it does so in proportion.
    """

    name: str
    every: int = 0
    start: float = 1.0
    softens: bool = False
    when: When = "after"

    def __post_init__(self) -> None:
        # After an eighth of the steps the share is three quarters of the last one.
        start = 0 <= self.start < MOST_START or self.start == 1
        check_options(
            "regulariser",
            self,
            every=(self.every >= 0, "at least 0"),
            start=(start, "from 0 to 0.71, or 1"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Masking:
        """See `Regularizer.begin`; of ``goes`` only the number in each group counts."""
        return Masking(self, model, network, goes, steps)

    def factor(self, time: float) -> float:
        """What masked filters are multiplied by at a share of all steps."""
        return 1 - time if self.softens else 0.0


def sfp(every: int = 0) -> SoftMask:
    """Soft filter pruning."""
    return SoftMask("sfp", every)


def asfp(every: int = 0, start: float = 0.0) -> SoftMask:
    """Asymptotic soft filter pruning."""
    return SoftMask("asfp", every, start)


def srfp(every: int = 0) -> SoftMask:
    """Softer filter pruning."""
    return SoftMask("srfp", every, softens=True)


def asrfp(every: int = 0, start: float = 0.0) -> SoftMask:
    """Asymptotic softer filter pruning."""
    return SoftMask("asrfp", every, start, softens=True)


def curve(time: float, start: float) -> float:
    """Share of what is to go that goes at this share of all steps: ASFP's a exp(-k t) + b through its three points.

    These are (0, start), (1/8, 3/4) and (1, 1). With q = exp(-k / 8) they ask for
    (3/4 - start) / (1 - start) = (1 - q) / (1 - q^8), which has one q between 0 and 1 for a start below 5/7.

    >>> [round(curve(time, 0.0), 3) for time in (0, 1 / 8, 1 / 4, 1 / 2, 1)]
    [0.0, 0.75, 0.938, 0.996, 1.0]
    """
    if start == 1:
        return 1.0
    wanted = (REACHED - start) / (1 - start)
    q = brentq(lambda q: wanted * (1 - q**8) - (1 - q), 0.0, 1 - 1e-9)
    return float(start + (1 - start) * (1 - q ** (time / EIGHTH)) / (1 - q**8))


class Masking(Idle):
    """A training under a soft mask.

    Attributes:
        goes: the last choice.
    """

    def __init__(self, options: SoftMask, model: nn.Module, network: Network, goes: Tensor, steps: int) -> None:
        self.options, self.network, self.steps = options, network, steps
        self.filters, self.wanted, self.goes = filters_of(model, network), goes, goes
        self.every = options.every or max(1, steps // 20)

    def stepped(self, step: int) -> None:
        """Choose anew and shrink, now and then and at the end."""
        last = step == self.steps
        if step % self.every and not last:
            return
        time = step / self.steps
        squares = torch.zeros(self.network.count, device=self.wanted.device)
        for rows in self.filters:
            rows.add_to(squares, rows.parameter.detach().square())
        share = 1.0 if last else curve(time, self.options.start)
        self.goes = smallest(self.network, squares, self.wanted, share)
        multiply(self.filters, torch.where(self.goes, 0.0 if last else self.options.factor(time), 1.0))
