from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.layer import Layer
from tests.graph.networks import build


def test_batch_norm_and_relu_behind_a_convolution_are_fused_and_others_are_not() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), nn.Hardswish())
    layers = analyze(model, torch.zeros(1, 3, 8, 8)).layers

    assert [(layer.dense.kind, layer.fused) for layer in layers] == [
        ("conv", False),
        ("norm", True),
        ("activation", True),
        ("norm", False),
        ("activation", False),
    ]


def test_what_is_read_twice_is_not_fused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y.relu() + y

    layers = analyze(Twice(), torch.zeros(1, 3, 4, 4)).layers

    assert [layer.fused for layer in layers if layer.dense.kind == "activation"] == [False]


def test_layers_have_the_geometry_that_the_hardware_sees() -> None:
    layers = {layer.name: layer.dense for layer in analyze(build("resnext50_32x4d"), torch.zeros(2, 3, 64, 64)).layers}

    assert layers["layer2.0.conv2"] == Layer(
        "conv",
        256,
        256,
        batch=2,
        size=(16, 16),
        kernel=(3, 3),
        stride=(2, 2),
        padding=(1, 1),
        dilation=(1, 1),
        group_width=8,
        variant="bias",
        out_size=(8, 8),
    )
    assert layers["fc"] == Layer("linear", 2048, 1000, batch=2, variant="bias")
    assert layers["maxpool"].kernel == (3, 3)


def test_a_shared_module_gets_a_layer_per_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    assert [layer.name for layer in analyze(Shared(), torch.zeros(1, 4, 4, 4)).layers] == ["conv", "conv@2"]
