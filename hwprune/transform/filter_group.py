"""Filter group approximation (Peng et al., "Extreme Network Compression via Filter Group Approximation", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from hwprune.errors import check_options


@dataclass(frozen=True)
class FilterGroups:
    """A convolution as a grouped one and a pointwise one.

    Its weights are split by groups of ``size`` input channels, M_i (outputs, size * kernel), and each is approximated
    by its truncated singular value decomposition P_i B_i of rank r: the B_i are a grouped convolution with r outputs a
    group, the P_i side by side a pointwise one. No other matrices of that rank are nearer, in the Frobenius norm. As in
    the paper r is the group's size unless ``rank`` says otherwise, so that the pair takes size / outputs + 1 / kernel
    of the MACs. The paper corrects each layer by its feature maps, which could not be read; fine-tuning does that here.

    Attributes:
        rank: of every group; 0 takes its size.
        least: size of a group, below which grouped convolutions are hardly faster than their arithmetic says.
    """

    rank: int = 0
    least: int = 4
    name: str = "filter-group-approximation"

    def __post_init__(self) -> None:
        check_options("transform", self, rank=(self.rank >= 0, "at least 0"), least=(self.least > 0, "at least 1"))

    def proposals(self, layer: nn.Module) -> Sequence[Mapping[str, int]]:
        """See `Transform.proposals`: the largest groups first. Pointwise and grouped convolutions are as they are."""
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or prod(layer.kernel_size) == 1:
            return ()
        sizes = [size for size in range(self.least, layer.in_channels) if layer.in_channels % size == 0]
        found = [{"size": size, "rank": min(self.rank or size, layer.out_channels)} for size in sizes]
        return [one for one in reversed(found) if _work(layer, **one) < _work_of(layer)]

    def rewritten(self, layer: nn.Module, options: Mapping[str, int]) -> nn.Sequential:
        """See `Transform.rewritten`."""
        if not isinstance(layer, nn.Conv2d):
            raise TypeError(f"a convolution is wanted, not {type(layer).__name__}")
        size, rank = options["size"], options["rank"]
        groups = layer.in_channels // size
        grouped = nn.Conv2d(
            layer.in_channels,
            groups * rank,
            layer.kernel_size,  # type: ignore[arg-type]  # a tuple of two
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=groups,
            bias=False,
            padding_mode=layer.padding_mode,
        )
        pointwise = nn.Conv2d(groups * rank, layer.out_channels, 1, bias=layer.bias is not None)
        halves = [halved(part.flatten(1), rank) for part in torch.split(layer.weight.detach(), size, dim=1)]
        with torch.no_grad():
            grouped.weight.copy_(torch.cat([right for _, right in halves]).view_as(grouped.weight))
            pointwise.weight.copy_(torch.cat([left for left, _ in halves], dim=1)[..., None, None])
            if layer.bias is not None and pointwise.bias is not None:
                pointwise.bias.copy_(layer.bias)
        return nn.Sequential(grouped, pointwise).to(layer.weight)


def halved(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(rows, rank) and (rank, columns) whose product is the nearest matrix of that rank; both of the same size.

    Where the rank is above what the matrix can have, the rest is zero.
    """
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    most = min(rank, len(values))
    roots = values[:most].sqrt()
    first, second = matrix.new_zeros(len(matrix), rank), matrix.new_zeros(rank, matrix.shape[1])
    first[:, :most], second[:most] = (left[:, :most] * roots).to(matrix), (roots[:, None] * right[:most]).to(matrix)
    return first, second


def _work(layer: nn.Conv2d, size: int, rank: int) -> int:
    """Multiply-accumulates of the pair at one position."""
    groups = layer.in_channels // size
    return groups * rank * size * prod(layer.kernel_size) + groups * rank * layer.out_channels


def _work_of(layer: nn.Conv2d) -> int:
    return layer.in_channels * layer.out_channels * prod(layer.kernel_size)
