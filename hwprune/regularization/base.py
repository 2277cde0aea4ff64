"""What every regulariser offers, and what a training sees of it.

A training calls three hooks of a `Session`: for a term of its loss, for gradients after the backward pass, and after
the optimizer's step. `Penalties` serves regularisers that draw what belongs to a coupled channel to nothing: they only
say how strongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from hwprune.graph.makers import Rows, all_makers, makers, rows_of
from hwprune.graph.network import Network

When = Literal["before", "after"]


class Session(Protocol):
    """One training under a regulariser.

    Attributes:
        goes: (coupled channels,) bool: which ones are to go when the training is over.
    """

    @property
    def goes(self) -> Tensor: ...

    def loss(self) -> Tensor | None:
        """A term of the training's loss, asked for before every backward pass; None for nothing."""

    def gradients(self) -> None:
        """Add to the gradients of the weights; called between backward pass and step."""

    def stepped(self, step: int) -> None:
        """After the optimizer's ``step``-th step, from 1."""


class Idle:
    """The hooks of a `Session` that do nothing, for sessions that need only some of them."""

    def loss(self) -> Tensor | None:
        """No term of the loss."""
        return None

    def gradients(self) -> None:
        """Nothing is added."""

    def stepped(self, step: int) -> None:
        """Nothing changes."""


class Regularizer(Protocol):
    """A way to train a network for the loss of channels.

    Attributes:
        name: that it goes by.
        when: "before" anything is searched, so that importance tells more; "after" the widths are known, so that
            what goes fades.
    """

    @property
    def name(self) -> str: ...
    @property
    def when(self) -> When: ...

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Session:
        """A training of ``model`` in place.

        Args:
            model: on the device that it trains on.
            network: its analysis.
            goes: (coupled channels,) bool, what the search wants to go; nothing where it has not been.
            steps: of the whole training.
        """


class Penalties:
    """lambda_c * w on the gradients of all that makes a coupled channel c: filters, biases, norm scales and shifts.

    The methods' own codes penalise filters alone. Behind a filter there is a norm, which undoes any shrinking, and the
    channel goes on telling its shift; so here all of it fades.

    Attributes:
        strength: (coupled channels,) lambda.
    """

    def __init__(self, model: nn.Module, network: Network) -> None:
        self.rows = rows_of(all_makers(model, network), network)
        device = next(model.parameters()).device
        self.strength = torch.zeros(network.count, device=device)

    def gradients(self) -> None:
        """Add them."""
        for rows in self.rows:
            if rows.parameter.grad is not None:
                rows.parameter.grad.add_(rows.spread(self.strength) * rows.parameter.detach())


def filters_of(model: nn.Module, network: Network) -> tuple[Rows, ...]:
    """The filters that make coupled channels."""
    return rows_of(makers(model, network), network)


def mean_sizes(filters: Sequence[Rows], like: Tensor) -> Tensor:
    """(coupled channels,): mean |w| over the filters that make each; 0 where there are none."""
    sums, counts = torch.zeros_like(like), torch.zeros_like(like)
    for rows in filters:
        rows.add_to(sums, rows.parameter.detach().abs())
        rows.add_to(counts, torch.ones_like(rows.parameter))
    return sums / counts.clamp(min=1)


def smallest(network: Network, sizes: Tensor, goes: Tensor, share: float = 1.0) -> Tensor:
    """As many channels of every group as ``goes`` has there, or that share of them: those of the least size."""
    found = torch.zeros_like(goes)
    for group in network.free:
        numbers = torch.from_numpy(group.numbers).to(goes.device)
        order = numbers[torch.argsort(sizes[numbers], stable=True)]
        found[order[: round(share * int(goes[numbers].sum()))]] = True
    return found


def multiply(filters: Sequence[Rows], factors: Tensor) -> None:
    """Multiply what belongs to each coupled channel by its factor, in place; other rows stay."""
    with torch.no_grad():
        for rows in filters:
            rows.parameter.mul_(rows.spread(factors, elsewhere=1.0))
