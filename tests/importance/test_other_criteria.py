from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hwprune.graph.coupling import analyze
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.taylor import Taylor


def network_and_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(96, 5)
    )
    return model.eval(), analyze(model, torch.zeros(1, 3, 8, 8))


def test_magnitude_is_the_norm_of_what_makes_the_channel_over_the_groups_mean() -> None:
    model, network = network_and_model()
    scores = Magnitude().scores(model, network, [], cross_entropy)
    # a coupled channel of the grouped convolution: two channels of the first, three of the second
    first, second = model[0].weight.detach(), model[3].weight.detach()
    norms = [float(torch.cat([first[2 * k :][:2].flatten(), second[3 * k :][:3].flatten()]).norm()) for k in range(2)]

    np.testing.assert_allclose(scores["0"], np.array(norms) / np.mean(norms), rtol=1e-6)


def test_taylor_is_the_squared_sum_of_weight_times_gradient() -> None:
    model, network = network_and_model()
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    scores = Taylor().scores(model, network, [(x, y)], cross_entropy)

    (cross_entropy(model(x), y) / 4).backward()
    expected = []
    for k in range(2):
        change = 0.0
        for module, each in ((model[0], 2), (model[1], 2), (model[3], 3)):
            rows = slice(each * k, each * (k + 1))
            for parameter in (module.weight, module.bias):
                change += float((parameter * parameter.grad)[rows].detach().double().sum())
        expected.append(change**2)

    np.testing.assert_allclose(scores["0"], expected, rtol=1e-5)
