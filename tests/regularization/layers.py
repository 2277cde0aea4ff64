"""A small network whose channels are coupled, and trainings of it in which nothing but the regulariser acts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.regularization.base import Regularizer, Session

WIDTHS = {"0": 6, "3": 8}


def network() -> tuple[nn.Sequential, Network]:
    """Two convolutions with norms, and a layer that reads the second."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )
    for norm in (model[1], model[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    found = analyze(model.eval(), torch.zeros(1, 3, 8, 8))
    assert found.widths == WIDTHS
    return model, found


def going(found: Network, counts: dict[str, int]) -> Tensor:
    """The first so many channels of every group."""
    goes = torch.zeros(found.count, dtype=torch.bool)
    for name, count in counts.items():
        goes[torch.from_numpy(found.group(name).numbers[:count])] = True
    return goes


def only_drawn(
    regularizer: Regularizer, model: nn.Module, found: Network, goes: Tensor, steps: int, lr: float
) -> Session:
    """Plain gradient descent on nothing but the regulariser."""
    session = regularizer.begin(model, found, goes, steps)
    for step in range(1, steps + 1):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        term = session.loss()
        if term is not None:
            term.backward()
        session.gradients()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
        session.stepped(step)
    return session
