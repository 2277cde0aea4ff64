"""Cutting channels for real: a smaller copy of a network, checked call by call against the dense one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.errors import HardCodedSizeError
from hwprune.graph.blame import culprit
from hwprune.graph.call import Rule
from hwprune.graph.coupling import analyze
from hwprune.graph.following import Follower, LostError, follow
from hwprune.graph.inputs import Inputs
from hwprune.graph.narrowing import Rows, narrowed, smaller
from hwprune.graph.network import Network
from hwprune.graph.rules import RULES
from hwprune.modes import tensors_of, uncollected
from hwprune.plan import Plan


def kept_channels(network: Network, plan: Plan) -> NDArray[np.bool_]:
    """Per coupled channel of the network: does it stay? (coupled channels,)"""
    stays = np.ones(network.count, dtype=bool)
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
        rules: channel rules by operator for that analysis.

    Raises:
        PlanError: the plan belongs to another network.
        HardCodedSizeError: the copy's own code insists on an old width; names the module.
    """
    if network is None:
        network = analyze(model, tuple(torch.zeros(shape) for shape in plan.input_shapes), rules=rules)
    plan.check_fits(network)
    stays = kept_channels(network, plan)
    with uncollected():
        small = narrowed(model, network.channel_of, stays, network.attributes, network.offsets)
        _check(small, network, stays)
    return small


def embedded(model: nn.Module, small: nn.Module, plan: Plan, network: Network) -> dict[str, Tensor]:
    """State of ``model`` with the tensors of its cut copy ``small``, trained or not, back in their places.

    What the plan removes stays as it is, so cutting a network with this state to the same plan, or to a narrower one,
    inherits what ``small`` has learnt.
    """
    rows, own = Rows(kept_channels(network, plan)), small.state_dict()
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    for name, value in state.items():
        dims = rows.of(network.channel_of.get(name, (None,) * value.dim()))
        index = [np.arange(size) if kept is None else kept for size, kept in zip(value.shape, dims, strict=True)]
        value[tuple(map(torch.from_numpy, np.ix_(*index)))] = own[name].cpu()
    return state


def cut_inputs(network: Network, stays: NDArray[np.bool_], inputs: Inputs) -> Inputs:
    """Inputs without the channels that went from them."""
    values, rows = iter(network.trace.inputs), Rows(stays)
    return Inputs(*inputs.mapped(lambda x: smaller(x, rows.of(network.dims(next(values))))))


def _check(small: nn.Module, network: Network, stays: NDArray[np.bool_]) -> None:
    """Run the copy on hollow tensors and see that every call does what it did in the dense network, at its widths."""
    follower = Follower(network.trace, network.dims, lambda at: network.literals.get(at, ()), stays)
    try:
        follow(small, tensors_of(small), cut_inputs(network, stays, network.inputs), network.forward, follower)
    except LostError as error:
        raise _hard_coded(str(error)) from error
    except Exception as error:  # the user's own code may raise anything at a width it does not expect
        module, line = culprit(error, small)
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _hard_coded(f"{what}, {type(small.get_submodule(module)).__name__} {module!r}, {line}") from error
    if follower.mismatches:
        first = follower.mismatches[0]
        raise _hard_coded(f"{network.trace.ops[first.position]}, {first.line}")


def _hard_coded(where: str) -> HardCodedSizeError:
    return HardCodedSizeError(
        "the pruned network does not follow the plan: its code has a width written into it",
        where=where,
        fix="exclude the modules in question (--exclude 'NAME.*'), or take the width from the tensor's shape",
    )
