"""Networks and random plans that the graph's tests share."""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from hwprune.graph.network import Network
from hwprune.plan import Plan

TORCHVISION = [
    "vgg11_bn",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "googlenet",
    "squeezenet1_0",
]


def build(name: str) -> nn.Module:
    """A torchvision network with random weights, awake."""
    extra = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    return awake(torchvision.models.get_model(name, weights=None, **extra), torch.randn(2, 3, 64, 64))


def awake(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Batch norms set to what the data gives them, so that the signal reaches the end of a deep random network."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.train()
    with torch.no_grad():
        model(inputs)
    return model.eval()


def random_plan(network: Network, rng: np.random.Generator) -> Plan:
    """Every free group cut to a random width, random channels kept."""
    kept = {
        group.name: sorted(rng.choice(group.width, rng.integers(1, group.width + 1), replace=False).tolist())
        for group in network.free
    }
    return Plan.keeping(network, kept)
