"""Cutting channels for real: a smaller copy of a network, checked call by call against the dense one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.errors import HardCodedSizeError, ModelError
from hwprune.graph.call import Rule
from hwprune.graph.coupling import analyze
from hwprune.graph.inputs import Inputs
from hwprune.graph.narrowing import narrowed, smaller
from hwprune.graph.network import Network
from hwprune.graph.probe import mixed
from hwprune.graph.rules import RULES
from hwprune.graph.trace import trace
from hwprune.plan import Plan


def kept_channels(network: Network, plan: Plan) -> NDArray[np.bool_]:
    """Per coupled channel of the network: does it stay? (coupled channels,)"""
    stays = np.ones(sum(group.width for group in network.groups), dtype=bool)
    for group in network.free:
        if group.name in plan.kept:
            stays[group.numbers] = False
            stays[group.numbers[list(plan.kept[group.name])]] = True
    return stays


def cut(
    model: nn.Module, plan: Plan, network: Network | None = None, *, rules: Mapping[str, Rule] = RULES
) -> nn.Module:
    """A smaller copy of ``model`` with only the planned channels; ``model`` is left as it was.

    Args:
        model: the dense network.
        plan: which channels stay.
        network: its analysis; None analyses it now on float inputs of the plan's shapes, with nothing excluded.
        rules: channel rules by operator, as given to `analyze`.

    Raises:
        PlanError: the plan belongs to another network.
        HardCodedSizeError: the copy's own code insists on an old width; names the module.
    """
    if network is None:
        network = analyze(model, tuple(torch.zeros(shape) for shape in plan.input_shapes), rules=rules)
    plan.check_fits(network)
    stays = kept_channels(network, plan)
    small = narrowed(model, network.channel_of, stays, network.attributes, smaller, network.choices.conv_groups)
    _check(small, network, stays, rules)
    return small


def cut_inputs(network: Network, stays: NDArray[np.bool_]) -> Inputs:
    """The example inputs without the channels that went from them."""
    numbers = iter(network.input_channels)

    def narrow(x: Tensor) -> Tensor:
        here = next(numbers)
        if here is None:
            return x
        return x.index_select(1, torch.from_numpy(np.flatnonzero((here < 0) | stays[here])).to(x.device))

    return Inputs(*network.inputs.mapped(narrow))


def _check(small: nn.Module, network: Network, stays: NDArray[np.bool_], rules: Mapping[str, Rule]) -> None:
    """Trace the copy and see that every operator ties the same channels as it did in the dense network."""
    try:
        record = trace(small, cut_inputs(network, stays), network.forward)
    except ModelError as error:
        raise HardCodedSizeError(
            "the pruned network does not run: its code has a width written into it",
            where=error.what,
            fix="exclude the modules in question (--exclude 'NAME.*'), or take the width from the tensor's shape",
        ) from error
    before = [value.shape for value in network.trace.outputs]
    after = [value.shape for value in record.outputs]
    if before != after:
        raise HardCodedSizeError(
            f"the pruned network's outputs have shapes {after}, not {before}",
            fix="exclude the modules that make the outputs (--exclude 'NAME.*')",
        )
    wrong = mixed(record, network.channel_of, stays, rules, network.choices, network.keep)
    if len(wrong):
        names = [group.name for group in network.groups if np.isin(wrong, group.numbers).any()]
        raise HardCodedSizeError(
            "the pruned network mixes channels that the dense one kept apart",
            where=f"channels of {names[0] if names else 'a pinned group'}",
            effect="its code takes channels by number",
            fix="exclude the modules in question (--exclude 'NAME.*')",
        )
