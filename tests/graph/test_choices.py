"""What the user chooses about coupling: whole groups or offsets, heads or their dimensions, free inputs."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from hwprune.cost.work import parameter_names, work
from hwprune.errors import HwpruneError
from hwprune.graph.choices import Choices
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.plan import Plan
from tests.graph.networks import random_plan

OFFSETS = Choices(conv_groups="offsets")


def macs_of_real_shapes(model: nn.Module, x: Tensor) -> int:
    """Multiply-accumulates by hand: what hooks see of every convolution and linear layer while the network runs."""
    found = []

    def seen(module: nn.Module, args: Any, out: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        transposed = isinstance(module, nn.ConvTranspose2d)
        positions = prod(args[0].shape[2:] if transposed else out.shape[2:]) if out.dim() > 2 else 1
        found.append(out.shape[0] * positions * weight.numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(seen)
    with torch.no_grad():
        model(x)
    return sum(found)


def grouped(kind: type[nn.Module] = nn.Conv2d) -> nn.Module:
    """Four groups of several channels between two convolutions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), kind(16, 24, 3, groups=4), nn.ReLU(), nn.Conv2d(24, 5, 1)
    ).eval()


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("widths", [(2, 3), (1, 6), (4, 1), (1, 1)])
def test_offsets_leave_the_number_of_groups_and_the_work_counted_is_that_of_the_cut_network(
    kind: type[nn.Module], widths: tuple[int, int]
) -> None:
    model, x = grouped(kind), torch.zeros(1, 3, 8, 8)
    network = analyze(model, x, choices=OFFSETS)
    assert network.widths == {"0": 4, "3": 6}
    plan = Plan.keeping(network, {name: range(n) for name, n in zip(("0", "3"), widths, strict=True)})
    small = cut(model, plan, network)
    counted = work(network, parameter_names(model), plan.kept_widths)

    convolution = small[3]
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
    assert (convolution.groups, convolution.in_channels, convolution.out_channels) == (4, 4 * widths[0], 4 * widths[1])
    assert verify(model, small, plan, network).equal
    assert counted.macs == macs_of_real_shapes(small, x)
    assert counted.parameters == sum(parameter.numel() for parameter in small.parameters())


def test_both_choices_of_groups_count_the_work_of_a_resnext() -> None:
    torch.manual_seed(0)
    model, x = torchvision.models.resnext50_32x4d(weights=None).eval(), torch.zeros(1, 3, 64, 64)
    for choices in (Choices(), OFFSETS):
        network = analyze(model, x, choices=choices)
        plan = random_plan(network, np.random.default_rng(0))
        small = cut(model, plan, network)

        assert work(network, parameter_names(model), plan.kept_widths).macs == macs_of_real_shapes(small, x)
        assert small.layer1[0].conv2.groups == (32 if choices is OFFSETS else small.layer1[0].conv2.in_channels // 4)


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_depthwise_convolution_loses_whole_groups_whatever_is_chosen(depthwise: bool) -> None:
    middle = nn.Conv2d(8, 8, 3, groups=8) if depthwise else nn.Conv2d(8, 16, 3, groups=8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), middle, nn.Conv2d(middle.out_channels, 5, 1)).eval()
    network = analyze(model, torch.zeros(1, 3, 8, 8), choices=OFFSETS)
    plan = Plan.keeping(network, {"0": range(3)})
    small = cut(model, plan, network)

    assert small[1].groups == 3
    assert verify(model, small, plan, network).equal


class Attention(nn.Module):
    """Four heads of eight dimensions, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_dim = 4, 8
        self.qkv, self.out = nn.Linear(16, 96), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / self.head_dim**0.5).softmax(-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, self.heads * self.head_dim))
        return mixed


def test_attention_loses_whole_heads_or_the_same_dimensions_of_every_head() -> None:
    torch.manual_seed(0)
    model, x = Attention().eval(), torch.randn(2, 5, 16)
    for choices, width, kept, rows in (
        (Choices(), 4, [0, 3], 3 * 2 * 8),
        (Choices(attention="head_dims"), 8, [0, 2, 3], 3 * 4 * 3),
    ):
        network = analyze(model, x, choices=choices)
        assert network.widths == {"qkv": width}
        plan = Plan.keeping(network, {"qkv": kept})
        small = cut(model, plan, network)

        assert small.qkv.weight.shape == (rows, 16)
        assert verify(model, small, plan, network).equal


def test_channels_of_the_input_may_go_where_the_user_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(1, 6, 8, 8)
    assert "input of 0" not in analyze(model, x).widths

    network = analyze(model, x, choices=Choices(free_inputs=True))
    plan = Plan.keeping(network, {"input of 0": [0, 3, 5]})
    small = cut(model, plan, network)

    assert small[0].in_channels == 3
    assert verify(model, small, plan, network).equal
    masked = x.clone()
    masked[:, [1, 2, 4]] = 0
    torch.testing.assert_close(small(x[:, [0, 3, 5]]), model(masked))


@pytest.mark.parametrize("wrong", [{"conv_groups": "half"}, {"attention": "head-dims"}])
def test_a_choice_that_there_is_not_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HwpruneError, match=f"unknown {next(iter(wrong))}"):
        Choices(**wrong)
