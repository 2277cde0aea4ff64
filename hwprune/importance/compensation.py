"""Weights that take over what removed channels told: the update of Optimal Brain Surgeon, by least squares.

A channel x_r of a layer's input that goes is told from those that stay, x_r = sum_s A_sr x_s + b_r, as well as the
training data allows, and the layer's weights take that in: W_s + sum_r A_sr W_r, and W_r b_r in the bias. That is the
interpolative decomposition of Chee et al. 2022 ("Model Preserving Compression for Neural Networks", arXiv:2108.00065).
For a pointwise layer it is the weight update of Hassibi and Stork's Optimal Brain Surgeon (NIPS 1992) for the squared
error of the layer's outputs; all positions of a kernel share A here, so that one covariance of channels will do.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.masks import masking
from hwprune.graph.network import Network
from hwprune.importance.criterion import Batches
from hwprune.importance.moments import Block, Gathering, Moments, blocks_of
from hwprune.importance.passes import passes
from hwprune.modes import device_of, evaluating


def compensate(
    model: nn.Module, network: Network, batches: Batches, *, present: NDArray[np.bool_], stays: NDArray[np.bool_]
) -> int:
    """Let the layers that read channels that go take over what those told, in place; returns how many layers did.

    The channels themselves, and what makes them, are left as they are: the network is to be cut next. A layer without
    a bias leaves the shift to the batch norm behind it, whose statistics are to be estimated anew; in a network
    without batch norm the fit has no shift. Weights that several layers share, or that are computed, stay.

    Args:
        model: the dense network, where channels that are not ``present`` count as zero.
        network: its analysis.
        batches: (inputs, targets) of training data, as for `Criterion.scores`; targets are not looked at.
        present: (coupled channels,) what is there before.
        stays: (coupled channels,) what is there afterwards; all of it is present.
    """
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    blocks = [
        block for block in blocks_of(model, network) if _gone(block, present, stays).any() and _own(block.layer, owners)
    ]
    if not blocks:
        return 0
    gathering = Gathering(blocks)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        if not present.all():
            mask = torch.from_numpy(present).to(device_of(model))
            stack.enter_context(masking(model, network, mask))
        stack.enter_context(gathering.watching())
        for _, run in passes(model, network, batches, _nothing):
            run()
    for block, moments in gathering.moments().items():
        _take_over(block, moments, _gone(block, present, stays), _left(block, stays))
    return len({block.module for block in blocks})


def _take_over(block: Block, moments: Moments, gone: NDArray[np.bool_], left: NDArray[np.bool_]) -> None:
    slopes, shift = moments.takeover(left, gone, shifted=block.shifted)
    weights = block.weights()
    lost = weights[torch.from_numpy(gone)]
    weights[torch.from_numpy(left)] += torch.einsum("sr,r...->s...", slopes.to(lost), lost)
    block.put_weights(weights)
    bias = block.layer._parameters.get("bias")
    if bias is not None:
        added = torch.einsum("r,r...->...", shift.to(lost), lost)  # (count, outputs, *kernel)
        own = block.of_outputs(bias.detach())
        own += added.sum([dim for dim in range(added.dim()) if dim != 1])


def _gone(block: Block, present: NDArray[np.bool_], stays: NDArray[np.bool_]) -> NDArray[np.bool_]:
    free = block.numbers >= 0
    return free & present[block.numbers] & ~stays[block.numbers]


def _left(block: Block, stays: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return (block.numbers < 0) | stays[block.numbers]


def _own(layer: nn.Module, owners: Counter[int]) -> bool:
    weight = layer._parameters.get("weight")
    return weight is not None and owners[id(weight)] == 1


def _nothing(outputs: object, targets: object) -> Tensor:
    return torch.zeros(())
