"""The law that every rule keeps, as one function, and the small networks that it is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from tests.graph.networks import random_plan

IMAGE, TOKENS, VECTOR = torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 3), torch.zeros(2, 3)


class Net(nn.Module):
    """Modules, tensors and numbers by name, and a forward that is given the network and its inputs."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def weight(*shape: int) -> nn.Parameter:
    """A parameter of random numbers."""
    return nn.Parameter(torch.randn(shape))


def conv(ins: int, outs: int, kernel: int = 1, **more: Any) -> nn.Conv2d:
    """A convolution that keeps the size of its maps."""
    return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, **more)


def around(operation: Callable[[Tensor], Tensor], *, width: int = 8, rank: int = 4) -> nn.Module:
    """Convolution "a" of ``width`` channels, the operation, and whatever layer "b" can read its output.

    ``rank`` 3 and 5 stand for signals and volumes.
    """
    kinds = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    first = kinds[rank](3, width, 1)
    with torch.no_grad():
        out = operation(first(torch.zeros(2, 3, *(4,) * (rank - 2))))
    last = kinds[out.dim()](out.shape[1], 2, 1) if out.dim() > 2 else nn.Linear(out.shape[1], 2)
    return Net(lambda net, x: net.b(operation(net.a(x))), a=first, b=last)


@dataclass(frozen=True)
class Case:
    """A network, and what its analysis has to find, so that the law cannot hold because nothing may go.

    Attributes:
        build: makes it, awake.
        free: names of groups that must be free, each with its width where it matters ("a:4").
        stays: modules whose channels must stay, and words that one of the reasons must have.
        inputs: what it runs on.
    """

    build: Callable[[], nn.Module]
    free: str = ""
    stays: str = ""
    why: str = ""
    inputs: tuple[Tensor, ...] = field(default=(IMAGE,))


def keeps(operation: Callable[[Tensor], Tensor], free: str = "a", *, rank: int = 4, width: int = 8) -> Case:
    """A case in which the channels that reach the operation may go."""
    shape = (2, 3, *(4,) * (rank - 2))
    return Case(lambda: around(operation, rank=rank, width=width), free=free, inputs=(torch.zeros(shape),))


def pins(operation: Callable[[Tensor], Tensor], why: str, *, rank: int = 4, width: int = 8) -> Case:
    """A case in which the channels that reach the operation stay, for a reason with these words."""
    shape = (2, 3, *(4,) * (rank - 2))
    return Case(lambda: around(operation, rank=rank, width=width), stays="a", why=why, inputs=(torch.zeros(shape),))


def linear(
    run: Callable[..., Tensor], *inputs: Tensor, free: str = "", stays: str = "", why: str = "", **parts: Any
) -> Case:
    """A case in which layer "a" makes eight features, and ``run(net, features)`` what layer "b" reads."""
    return Case(lambda: Net(lambda n, x: n.b(run(n, n.a(x))), a=nn.Linear(3, 8), **parts), free, stays, why, inputs)


def check(case: Case, *, plans: int = 3) -> Network:
    """Analyse, find what must be free or stay, and hold the pruned network against the dense one at random widths."""
    torch.manual_seed(0)
    model = case.build().eval()
    inputs = case.inputs if len(case.inputs) > 1 else case.inputs[0]
    network = analyze(model, inputs)
    reasons = {group.name: group.pinned for group in network.groups if group.pinned}
    for wanted in case.free.split():
        name, _, width = wanted.partition(":")
        assert name in network.widths, (name, network.widths, reasons)
        assert not width or network.widths[name] == int(width), network.widths
    for name in case.stays.split():
        assert not any(group.partition("#")[0] == name for group in network.widths), network.widths
    assert case.why in " | ".join(reasons.values()), reasons
    for seed in range(plans):
        plan = random_plan(network, np.random.default_rng(seed))
        result = verify(model, cut(model, plan, network), plan, network)
        assert result.equal, (result, plan.kept)
    return network
