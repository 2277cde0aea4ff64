"""Orthonormal filters (Lubana et al., "OrthoReg: Robust Network Pruning Using Orthonormality Regularization", 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hwprune.errors import check_options
from hwprune.graph.network import Network
from hwprune.regularization.base import Idle, When

Form = Literal["rows", "columns"]


@dataclass(frozen=True)
class OrthoReg:
    """Filters of a layer are drawn to be orthonormal, so that what removing several costs is the sum of what each does.

    The loss gets strength * sum over convolutions of alpha_l * |G_l|, the sum of absolute entries of

        G = M M^T - I   where a convolution has at most as many filters as weights in each, else   G = M^T M - I

    with M (filters, weights in each) of every convolution group, and alpha_l = sqrt(n_l) / sum sqrt(n_m), n_l the
    lesser of both sizes. From the authors' code (arXiv:2009.05014), which names the form layer by layer for its
    networks; the rule above gives the same where it matters. Depthwise convolutions are left out: nine weights of a
    channel cannot be orthogonal to those of hundreds of others, and channels do not mix there. The authors train
    without weight decay meanwhile. Made for the importance "orthoreg".

    It wants a long training, before and after: with 200 of 500 steps under it ResNet-20 ended at 57 ± 9 % of top-1, and
    at 71 ± 4 % with the importance alone (`benchmarks/methods.py`, three seeds). Filters that are orthonormal repeat
    each other less, so what goes is missed more, and fewer steps were left to make up for it.

    Attributes:
        strength: lambda; 1e-2 in the authors' code, 1e-3 for MobileNet.
    """

    strength: float = 1e-2
    name: str = "orthoreg"
    when: When = "before"

    def __post_init__(self) -> None:
        check_options(
            "regulariser",
            self,
            strength=(self.strength > 0, "above 0"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Orthonormal:
        """See `Regularizer.begin`."""
        return Orthonormal(self, model, goes)


def form_of(filters: int, weights: int) -> Form:
    """Which Gram matrix can be the identity."""
    return "rows" if filters <= weights else "columns"


def distance(matrix: Tensor, form: Form) -> Tensor:
    """Sum of the absolute entries of the Gram matrix of (filters, weights) less the identity, () ."""
    gram = matrix @ matrix.T if form == "rows" else matrix.T @ matrix
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().sum()


class Orthonormal(Idle):
    """A training under the regulariser."""

    def __init__(self, options: OrthoReg, model: nn.Module, goes: Tensor) -> None:
        self.options, self.goes = options, goes
        self.layers = [layer for layer in _convolutions(model) if min(_sizes(layer)) > 1 and not _depthwise(layer)]
        roots = [math.sqrt(min(_sizes(layer))) for layer in self.layers]
        self.shares = [root / sum(roots) for root in roots]

    def loss(self) -> Tensor | None:
        """The term of the loss; None for a network without such layers."""
        if not self.layers:
            return None
        terms = []
        for layer, share in zip(self.layers, self.shares, strict=True):
            form = form_of(*_sizes(layer))
            matrices = _filters(layer).chunk(layer.groups)
            terms.append(share * torch.stack([distance(matrix, form) for matrix in matrices]).sum())
        return self.options.strength * torch.stack(terms).sum()


def _convolutions(model: nn.Module) -> Iterator[_ConvNd]:
    return (module for module in model.modules() if isinstance(module, _ConvNd) and not module.transposed)


def _filters(layer: _ConvNd) -> Tensor:
    """(filters, weights in each), with the bias as one more weight where there is one, as in the authors' VGG."""
    weight = layer.weight.flatten(1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias[:, None]], dim=1)


def _sizes(layer: _ConvNd) -> tuple[int, int]:
    """Filters of one convolution group, and weights in each."""
    return layer.out_channels // layer.groups, _filters(layer).shape[1]


def _depthwise(layer: _ConvNd) -> bool:
    return layer.groups > 1 and layer.weight.shape[1] == 1
