"""The law for convolutions of every kind, also with weights that are computed."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from tests.graph.laws import IMAGE, Case, Net, check, weight

SIGNAL, VOLUME = torch.zeros(2, 3, 8), torch.zeros(2, 3, 4, 4, 4)


def between(layer: nn.Module, last: int, free: str, *, rank: int = 4) -> Case:
    """The layer reads eight channels of "0", and "2" reads ``last`` of its own."""
    conv = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[rank]
    inputs = {3: SIGNAL, 4: IMAGE, 5: VOLUME}[rank]
    return Case(lambda: nn.Sequential(conv(3, 8, 1), layer, conv(last, 2, 1)), free=free, inputs=(inputs,))


CONVOLUTIONS = {
    "1d": between(nn.Conv1d(8, 6, 3), 6, "0:8 1:6", rank=3),
    "2d": between(nn.Conv2d(8, 6, 3, stride=2, padding=1), 6, "0:8 1:6"),
    "3d": between(nn.Conv3d(8, 6, 2, bias=False), 6, "0:8 1:6", rank=5),
    "dilated": between(nn.Conv2d(8, 6, 2, dilation=2), 6, "0:8 1:6"),
    "transposed_1d": between(nn.ConvTranspose1d(8, 6, 3, stride=2), 6, "0:8 1:6", rank=3),
    "transposed_2d": between(nn.ConvTranspose2d(8, 6, 2, stride=2), 6, "0:8 1:6"),
    "transposed_3d": between(nn.ConvTranspose3d(8, 6, 2), 6, "0:8 1:6", rank=5),
    "transposed_grouped": between(nn.ConvTranspose2d(8, 12, 2, groups=4), 12, "0:4"),
    "transposed_depthwise": between(nn.ConvTranspose2d(8, 8, 2, groups=8), 8, "0:8"),
    "grouped": between(nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False), 12, "0:4"),
    "grouped_1d": between(nn.Conv1d(8, 4, 3, groups=2), 4, "0:2", rank=3),
    "depthwise": between(nn.Conv2d(8, 8, 3, groups=8), 8, "0:8"),
    "depthwise_3d": between(nn.Conv3d(8, 8, 1, groups=8), 8, "0:8", rank=5),
    "depthwise_with_multiplier": between(nn.Conv2d(8, 24, 3, padding=1, groups=8), 24, "0:8"),
    "grouped_on_a_cat": Case(
        lambda: Net(
            lambda n, x: n.d(n.c(torch.cat([n.a(x), n.b(x)], 1))),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(3, 8, 1),
            c=nn.Conv2d(12, 6, 1, groups=3),
            d=nn.Conv2d(6, 2, 1),
        ),
        free="b:2",  # all of "a" is one convolution group
    ),
    "grouped_across_a_cat": Case(
        lambda: Net(
            lambda n, x: n.d(n.c(torch.cat([n.a(x), n.b(x)], 1))),
            a=nn.Conv2d(3, 6, 1),
            b=nn.Conv2d(3, 6, 1),
            c=nn.Conv2d(12, 6, 1, groups=3),
            d=nn.Conv2d(6, 2, 1),
        )
    ),
    "depthwise_on_a_cat": Case(
        lambda: Net(
            lambda n, x: n.d(n.c(torch.cat([n.a(x), n.b(x)], 1))),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(3, 6, 1),
            c=nn.Conv2d(10, 10, 3, groups=10),
            d=nn.Conv2d(10, 2, 1),
        ),
        free="a:4 b:6",
    ),
    "two_grouped_in_a_row": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1, groups=2), nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 2, 1)
        )
    ),
    "scaled_weight": Case(
        lambda: Net(
            lambda n, x: n.b(functional.conv2d(n.a(x), n.w * n.scale.view(-1, 1, 1, 1))),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(6, 2, 1),
            w=weight(6, 8, 3, 3),
            scale=weight(6),
        ),
        free="a:8 w:6",
    ),
    "weight_as_a_sum": Case(
        lambda: Net(
            lambda n, x: n.b(functional.conv2d(n.a(x), n.v + n.w, n.bias)),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(6, 2, 1),
            v=weight(6, 8, 3, 3),
            w=weight(6, 8, 1, 1),
            bias=weight(6),
        ),
        free="v:6 w:8",
    ),
    "weight_in_a_bank": Case(
        lambda: Net(
            lambda n, x: n.b(functional.conv2d(n.a(x), (n.mix.softmax(0).view(-1, 1, 1, 1, 1) * n.bank).sum(0))),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(6, 2, 1),
            bank=weight(4, 6, 8, 1, 1),
            mix=weight(4),
        ),
        free="a:8",
    ),
    "one_filter_per_sample": Case(
        lambda: Net(
            lambda n, x: n.b(
                functional.conv2d(
                    n.a(x).flatten(0, 1).unsqueeze(0), n.k(x.mean((2, 3))).view(-1, 1, 3, 3), padding=1, groups=16
                ).view(2, -1, 4, 4)
            ),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(8, 2, 1),
            k=nn.Linear(3, 72),
        )
    ),
    "blur_by_a_buffer": Case(
        lambda: Net(
            lambda n, x: n.b(
                functional.conv2d(n.a(x), n.blur.expand(n.a(x).shape[1], 1, 3, 3), groups=n.a(x).shape[1])
            ),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(8, 2, 1),
            blur=torch.ones(1, 1, 3, 3),
        )
    ),
    "deformable": Case(
        lambda: Net(
            lambda n, x: n.b(n.d(n.a(x), n.offset(x))),
            a=nn.Conv2d(3, 8, 1),
            offset=nn.Conv2d(3, 18, 3, padding=1),
            d=torchvision.ops.DeformConv2d(8, 6, 3, padding=1),
            b=nn.Conv2d(6, 2, 1),
        ),
        free="a:8 d:6",
        stays="offset",
        why="where a deformable convolution looks",
    ),
    "deformable_grouped": Case(
        lambda: Net(
            lambda n, x: n.b(n.d(n.a(x), n.offset(x))),
            a=nn.Conv2d(3, 8, 1),
            offset=nn.Conv2d(3, 18, 3, padding=1),
            d=torchvision.ops.DeformConv2d(8, 6, 3, padding=1, groups=2),
            b=nn.Conv2d(6, 2, 1),
        ),
        stays="a d",
        why="deformable convolution with groups",
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_keep_the_law(name: str) -> None:
    check(CONVOLUTIONS[name])
