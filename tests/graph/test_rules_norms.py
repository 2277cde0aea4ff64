"""The law for norms, pools, interpolation and reductions."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from tests.graph.laws import Case, Net, around, check, keeps, pins, weight


def norm(layer: nn.Module, free: str = "0:8", *, rank: int = 4) -> Case:
    """A norm between a convolution and another."""
    conv = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[rank]
    return Case(
        lambda: nn.Sequential(conv(3, 8, 1), layer, conv(8, 2, 1)),
        free,
        inputs=(torch.zeros(2, 3, *(4,) * (rank - 2)),),
    )


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of a map, as ConvNeXt has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


def by_hand(net: Net, x: torch.Tensor) -> torch.Tensor:
    """Layer norm in its parts."""
    y = net.a(x)
    mean = y.mean(1, keepdim=True)
    variance = (y - mean).pow(2).mean(1, keepdim=True)
    return net.b((y - mean) / (variance + 1e-6).sqrt() * net.scale.view(-1, 1, 1) + net.shift[:, None, None])


NORMS = {
    "batch_1d": norm(nn.BatchNorm1d(8), rank=3),
    "batch_2d": norm(nn.BatchNorm2d(8)),
    "batch_3d": norm(nn.BatchNorm3d(8), rank=5),
    "batch_without_scale": norm(nn.BatchNorm2d(8, affine=False)),
    "batch_without_statistics": norm(nn.BatchNorm2d(8, track_running_stats=False)),
    "batch_of_vectors": Case(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), "0:8", inputs=(torch.zeros(2, 3),)
    ),
    "frozen_batch": norm(torchvision.ops.FrozenBatchNorm2d(8)),
    "instance": norm(nn.InstanceNorm2d(8)),
    "instance_with_scale": norm(nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
    "instance_1d": norm(nn.InstanceNorm1d(8, affine=True), rank=3),
    "instance_3d": norm(nn.InstanceNorm3d(8), rank=5),
    "group_of_all": norm(nn.GroupNorm(1, 8)),
    "group_of_four": norm(nn.GroupNorm(4, 8), free="0:4"),
    "group_of_each": norm(nn.GroupNorm(8, 8)),
    "group_without_scale": norm(nn.GroupNorm(2, 8, affine=False), free="0:2"),
    "group_of_tokens": Case(
        lambda: nn.Sequential(nn.Conv1d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv1d(8, 2, 1)),
        "0:2",
        inputs=(torch.zeros(2, 3, 4),),
    ),
    "layer_of_tokens": Case(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)), "0:8", inputs=(torch.zeros(2, 4, 3),)
    ),
    "layer_without_scale": Case(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 2)),
        "0:8",
        inputs=(torch.zeros(2, 4, 3),),
    ),
    "layer_2d": norm(LayerNorm2d(8)),
    "layer_of_maps": norm(nn.LayerNorm([8, 4, 4])),
    "layer_over_space": norm(nn.LayerNorm([4, 4])),
    "layer_by_hand": Case(
        lambda: Net(by_hand, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1), scale=weight(8), shift=weight(8)), "scale:8"
    ),
    "rms": Case(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.RMSNorm(8), nn.Linear(8, 2)), "0:8", inputs=(torch.zeros(2, 4, 3),)
    ),
    "local_response": norm(nn.LocalResponseNorm(3), free=""),
    "unit_length": keeps(lambda t: functional.normalize(t, dim=1)),
    "unit_length_in_space": keeps(lambda t: functional.normalize(t.flatten(2), dim=-1)),
    "global_response": Case(
        lambda: Net(
            lambda n, x: n.b(
                (lambda y, g: y + y * (g / (g.mean(1, keepdim=True) + 1e-6)) * n.gamma.view(-1, 1, 1))(
                    n.a(x), n.a(x).norm(2, (2, 3), keepdim=True)
                )
            ),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(8, 2, 1),
            gamma=weight(8),
        ),
        "gamma:8",
    ),
}


POOLS = {
    "max_1d": keeps(lambda t: functional.max_pool1d(t, 2), rank=3),
    "max_2d": keeps(lambda t: functional.max_pool2d(t, 3, 2, 1)),
    "max_3d": keeps(lambda t: functional.max_pool3d(t, 2), rank=5),
    "max_with_indices": keeps(lambda t: functional.max_pool2d(t, 2, return_indices=True)[0]),
    "average_1d": keeps(lambda t: functional.avg_pool1d(t, 2), rank=3),
    "average_2d": keeps(lambda t: functional.avg_pool2d(t, 2, count_include_pad=False)),
    "average_3d": keeps(lambda t: functional.avg_pool3d(t, 2), rank=5),
    "adaptive_average_1d": keeps(lambda t: functional.adaptive_avg_pool1d(t, 2), rank=3),
    "adaptive_average_2d": keeps(lambda t: functional.adaptive_avg_pool2d(t, (3, 1))),
    "adaptive_average_3d": keeps(lambda t: functional.adaptive_avg_pool3d(t, 2), rank=5),
    "adaptive_max_1d": keeps(lambda t: functional.adaptive_max_pool1d(t, 2), rank=3),
    "adaptive_max_2d": keeps(lambda t: functional.adaptive_max_pool2d(t, 2)),
    "adaptive_max_3d": keeps(lambda t: functional.adaptive_max_pool3d(t, 2), rank=5),
    "power_1d": keeps(lambda t: functional.lp_pool1d(t.exp(), 3, 2), rank=3),
    "power_2d": keeps(lambda t: functional.lp_pool2d(t, 2, 2)),
    "fractional_2d": Case(
        lambda: around(
            lambda t: functional.fractional_max_pool2d(
                t, 2, output_size=3, _random_samples=torch.full((2, t.shape[1], 2), 0.3).to(t)
            )
        )
    ),
    "unpooled": Case(
        lambda: around(lambda t: functional.max_unpool2d(*functional.max_pool2d(t, 2, return_indices=True), 2))
    ),
    "of_one_map": Case(
        lambda: Net(
            lambda n, x: n.b(functional.max_pool2d(n.a(x[0]), 2)).unsqueeze(0),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(8, 2, 1),
        )
    ),
    "over_channels": keeps(lambda t: functional.avg_pool1d(t.flatten(2).transpose(1, 2), 2).transpose(1, 2), free=""),
}


RESIZED = {
    **{
        mode: keeps(lambda t, mode=mode: functional.interpolate(t, scale_factor=1.5, mode=mode))
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    },
    **{
        f"{mode}_antialiased": keeps(lambda t, mode=mode: functional.interpolate(t, (3, 3), mode=mode, antialias=True))
        for mode in ("bilinear", "bicubic")
    },
    **{
        f"{mode}_1d": keeps(lambda t, mode=mode: functional.interpolate(t, 7, mode=mode), rank=3)
        for mode in ("nearest", "nearest-exact", "linear", "area")
    },
    **{
        f"{mode}_3d": keeps(lambda t, mode=mode: functional.interpolate(t, scale_factor=2, mode=mode), rank=5)
        for mode in ("nearest", "nearest-exact", "trilinear", "area")
    },
    "aligned": keeps(lambda t: functional.interpolate(t, (7, 5), mode="bilinear", align_corners=True)),
}


REDUCED = {
    "mean_in_space": keeps(lambda t: t.mean((2, 3))),
    "mean_over_channels": keeps(lambda t: t * t.mean(1, keepdim=True)),
    "sum_over_channels": keeps(lambda t: torch.cat([t, t.sum(1, keepdim=True)], 1)),
    "amax_over_channels": keeps(lambda t: t * t.amax(1, keepdim=True).sigmoid()),
    "spatial_attention": keeps(lambda t: t * torch.cat([t.mean(1, True), t.amax(1, True)], 1).mean(1, True).sigmoid()),
    "deviation": keeps(lambda t: t / (t.std(1, keepdim=True) + 1)),
    "norm_in_space": keeps(lambda t: t.norm(dim=(2, 3))),
    "logsumexp_in_space": keeps(lambda t: t.flatten(2).logsumexp(-1)),
    "mean_of_everything": keeps(lambda t: t - t.mean()),
    "product_over_channels": pins(lambda t: t * t.prod(1, keepdim=True), "ordered or compared"),
    "any_over_channels": pins(lambda t: t * (t > 0.5).any(1, keepdim=True), "ordered or compared"),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_keep_the_law(name: str) -> None:
    check(NORMS[name])


@pytest.mark.parametrize("name", POOLS)
def test_pools_keep_the_law(name: str) -> None:
    check(POOLS[name], plans=2)


@pytest.mark.parametrize("name", RESIZED)
def test_interpolation_keeps_the_law(name: str) -> None:
    check(RESIZED[name], plans=1)


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_keep_the_law(name: str) -> None:
    check(REDUCED[name])
