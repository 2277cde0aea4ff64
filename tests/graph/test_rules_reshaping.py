"""The law for changes of shape: views, orders of dimensions, repetitions, shuffles, patches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.graph.laws import Case, Net, check, keeps, pins


def shuffle(t: torch.Tensor, groups: int = 2) -> torch.Tensor:
    """Channel shuffle as ShuffleNet writes it."""
    n, c, h, w = t.shape
    return t.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


VIEWS = {
    "view": keeps(lambda t: t.view(t.shape[0], t.shape[1], -1)),
    "view_as": keeps(lambda t: t.flatten(2).view_as(t)),
    "reshape": keeps(lambda t: t.reshape(t.shape[0], -1, 2, 8)),
    "flatten": keeps(lambda t: t.flatten(1)),
    "flatten_space": keeps(lambda t: t.flatten(2)),
    "flatten_channels_last": keeps(lambda t: t.permute(0, 2, 3, 1).flatten(1)),
    "flatten_module": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 2)), free="0:8 2:6"
    ),
    "unflatten_and_back": keeps(lambda t: t.unflatten(1, (2, -1)).flatten(1, 2)),
    "unflatten_and_sum_of_halves": keeps(lambda t: t.unflatten(1, (2, -1)).sum(1), free="a:4"),
    "unflatten_and_sum_of_pairs": keeps(lambda t: t.unflatten(1, (-1, 2)).sum(2), free="a:4"),
    "unflatten_of_a_vector": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 4), nn.Flatten(), nn.Linear(5, 24), nn.Unflatten(1, (-1, 2, 2)), nn.Conv2d(6, 2, 1)
        ),
        free="0:5 2:6",
    ),
    "split_of_space": keeps(lambda t: t.view(*t.shape[:2], 2, 2, 4).mean(3)),
    "squeeze_and_unsqueeze": keeps(lambda t: t.unsqueeze(2).squeeze(2).unsqueeze(1).squeeze(1)),
    "squeeze_of_pooled": keeps(lambda t: functional.adaptive_avg_pool2d(t, 1).squeeze(-1).squeeze(-1)),
    "squeeze_all": keeps(lambda t: functional.adaptive_avg_pool2d(t, 1).squeeze()),
    "permute_and_back": keeps(lambda t: t.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
    "permute_negative": keeps(lambda t: t.permute(0, -2, -1, 1).permute(0, -1, 1, 2)),
    "transpose_and_back": keeps(lambda t: t.transpose(1, 2).relu().transpose(1, 2)),
    "transpose_of_space": keeps(lambda t: t.transpose(-1, -2)),
    "movedim": keeps(lambda t: t.movedim(1, -1).relu().movedim(-1, 1)),
    "swapaxes": keeps(lambda t: t.swapaxes(1, 3).swapaxes(3, 1)),
    "mT": keeps(lambda t: t.mT),
    "rot90_of_space": keeps(lambda t: t.rot90(1, (2, 3))),
    "rot90_and_back": keeps(lambda t: t.rot90(1, (1, 2)).relu().rot90(-1, (1, 2))),
    "rot90_half": keeps(lambda t: t.rot90(2, (1, 2))),
    "channels_as_space": pins(lambda t: t.transpose(1, 2), "spatial dimension"),
}


COPIES = {
    "expand": keeps(lambda t: t.unsqueeze(2).expand(-1, -1, 3, -1, -1)),
    "expand_as": keeps(lambda t: t.mean((2, 3), keepdim=True).expand_as(t) + t),
    "expand_over_channels": keeps(lambda t: t.amax((1, 2, 3), keepdim=True).expand(-1, t.shape[1], -1, -1) * t),
    "repeat": keeps(lambda t: t.repeat(1, 2, 1, 1), free="a:8"),
    "repeat_in_space": keeps(lambda t: t.repeat(1, 1, 2, 3)),
    "repeat_of_the_batch": keeps(lambda t: t.repeat(2, 1, 1, 1)),
    "repeat_with_a_new_dimension": keeps(lambda t: t.repeat(2, 1, 3, 1, 1).sum(0)),
    "tile": keeps(lambda t: t.tile(3, 1, 1), free="a:8"),
    "repeat_interleave": keeps(lambda t: t.repeat_interleave(2, 1), free="a:8"),
    "repeat_interleave_in_space": keeps(lambda t: t.repeat_interleave(2, 2).repeat_interleave(2, 3)),
}


SHUFFLES = {
    "view_and_transpose": keeps(shuffle),
    "view_and_transpose_in_four": keeps(lambda t: shuffle(t, 4), free="a:8", width=32),
    "view_with_a_free_size": keeps(lambda t: t.view(2, 2, -1, 4, 4).transpose(1, 2).flatten(1, 2)),
    "functional": keeps(lambda t: functional.channel_shuffle(t, 2), free="a:4"),
    "native": keeps(lambda t: torch.native_channel_shuffle(t, 2)),
    "module": Case(lambda: nn.Sequential(nn.Conv2d(3, 12, 1), nn.ChannelShuffle(3), nn.Conv2d(12, 2, 1)), free="0:4"),
    "pixel_shuffle": keeps(lambda t: functional.pixel_shuffle(t, 2), free="a:2"),
    "pixel_shuffle_module": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 36, 1), nn.PixelShuffle(3), nn.ReLU(), nn.Conv2d(4, 2, 1)), free="0:4"
    ),
    "pixel_unshuffle": keeps(lambda t: functional.pixel_unshuffle(t, 2), free="a:8"),
    "pixel_unshuffle_and_back": keeps(
        lambda t: functional.pixel_shuffle(functional.pixel_unshuffle(t, 2).relu(), 2), free="a:8"
    ),
    "space_to_depth": keeps(lambda t: torch.cat([t[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1), free="a:8"),
    "depth_to_space_by_views": keeps(
        lambda t: t.view(2, -1, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, -1, 8, 8), free="a:2"
    ),
}


PATCHES = {
    "unfold_module": keeps(nn.Unfold(3, padding=1), free="a:8"),
    "unfold_with_stride": keeps(lambda t: functional.unfold(t, (2, 1), stride=2)),
    "fold": keeps(lambda t: functional.fold(t.flatten(2), (5, 5), 2), free="a:2"),
    "unfold_and_fold": keeps(lambda t: functional.fold(functional.unfold(t, 2).relu(), (4, 4), 2), free="a:8"),
    "tensor_unfold_of_space": keeps(lambda t: t.unfold(2, 2, 2).unfold(3, 2, 1).mean((-1, -2))),
    "tensor_unfold_of_channels": pins(lambda t: t.unfold(1, 2, 2).sum(-1), "cut into windows"),
    "diagonal_of_space": keeps(lambda t: t.diagonal(0, 2, 3)),
    "diagonal_of_channels": pins(lambda t: t.diagonal(0, 1, 2), "side of a diagonal"),
    "tril_of_space": keeps(torch.tril),
    "triu_of_channels": pins(lambda t: t.movedim(1, -1).triu().movedim(-1, 1), "cut to a triangle"),
    "as_strided": pins(lambda t: t.as_strided((2, 4, 4, 4), (128, 32, 4, 1)), ""),
    "windows_and_back": keeps(
        lambda t: (
            t.permute(0, 2, 3, 1)
            .view(2, 2, 2, 2, 2, -1)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(-1, 4, t.shape[1])
            .view(2, 2, 2, 2, 2, -1)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(2, 4, 4, -1)
            .permute(0, 3, 1, 2)
        )
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_keep_the_law(name: str) -> None:
    check(VIEWS[name])


@pytest.mark.parametrize("name", COPIES)
def test_repetitions_keep_the_law(name: str) -> None:
    check(COPIES[name])


@pytest.mark.parametrize("name", SHUFFLES)
def test_shuffles_keep_the_law(name: str) -> None:
    check(SHUFFLES[name])


@pytest.mark.parametrize("name", PATCHES)
def test_patches_keep_the_law(name: str) -> None:
    check(PATCHES[name])


def test_a_width_written_into_a_view_is_never_cut_wrongly() -> None:
    """Eight channels as a literal: no attribute to repair, so they stay."""
    check(
        Case(
            lambda: Net(lambda net, x: net.b(net.a(x).view(-1, 8, 16)), a=nn.Conv2d(3, 8, 1), b=nn.Conv1d(8, 2, 1)),
            stays="a",
        )
    )
