"""The law for writes in place: into parts, through views, into buffers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.graph.laws import Case, Net, check, conv


def added_in_part(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, : y.shape[1] // 2] += 1.0
    return net.b(y)


def activated_in_part(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, : y.shape[1] // 2].relu_()
    return net.b(y)


def scaled_in_part(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    scale = y.new_ones(y.shape[1])
    scale[: y.shape[1] // 2] = 2.0
    return net.b(y * scale.view(-1, 1, 1))


def added_from_another(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, :4] += net.c(x)
    return net.b(y)


def added_in_space(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, :, 0] += net.c(x)[:, :, 1]
    return net.b(y)


def halves_swapped(net: Net, x: Tensor) -> Tensor:
    y, out = net.a(x), torch.zeros_like(net.a(x))
    half = y.shape[1] // 2
    out[:, half:], out[:, :half] = y[:, :half], y[:, half:]
    return net.b(out)


def collected(net: Net, x: Tensor) -> Tensor:
    out = x.new_zeros(x.shape[0], 3, 8, 4, 4)
    for i in range(3):
        out[:, i] = net.a(x) * i
    return net.b(out.sum(1))


def collected_by_width(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    out = y.new_empty(y.shape[0], 2, *y.shape[1:])
    out[:, 0], out[:, 1] = y, y.flip(1)
    return net.b(out.flatten(1, 2))


def into_a_buffer(net: Net, x: Tensor) -> Tensor:
    net.memory.copy_(net.a(x))
    return net.b(net.memory * 2)


def into_half_a_buffer(net: Net, x: Tensor) -> Tensor:
    memory = net.memory.clone()
    memory[:, :4] = net.a(x)
    return net.b(memory)


def one_channel_cleared(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, 3] = 0
    return net.b(y)


def some_channels_cleared(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[:, torch.tensor([1, 4])] = 0.5
    return net.b(y)


def masked_to_zero(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y[y < 0] = 0
    return net.b(y)


def written_through_a_view(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    y.view(y.shape[0], -1, 16).mul_(net.c(x).flatten(2))
    return net.b(y)


def written_after_the_view(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).clone()
    part = y[:, : y.shape[1] // 2]
    y.add_(net.c(x))
    return net.b(torch.cat([part, part], 1))


def accumulated(net: Net, x: Tensor) -> Tensor:
    total = torch.zeros(2, 8, 4, 4)
    for layer in (net.a, net.c):
        total += layer(x)
    return net.b(total)


def copied_transposed(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    out = torch.empty_like(y)
    out.transpose(2, 3).copy_(y)
    return net.b(out)


def shift(net: Net, x: Tensor) -> Tensor:
    """Temporal shift as TSM writes it: a part of the channels moves along, the rest stays."""
    y = net.a(x)
    out, fold = torch.zeros_like(y), y.shape[1] // 4
    out[:, :fold, :-1] = y[:, :fold, 1:]
    out[:, fold : 2 * fold, 1:] = y[:, fold : 2 * fold, :-1]
    out[:, 2 * fold :] = y[:, 2 * fold :]
    return net.b(out)


def two(run, free: str = "", stays: str = "", **more) -> Case:
    """Layers "a" and "c" of eight channels, "b" of as many inputs as asked for."""
    width, half = more.pop("reads", 8), more.pop("half", 8)
    return Case(lambda: Net(run, a=conv(3, 8), c=conv(3, half), b=conv(width, 2), **more), free, stays)


# What is written into a part of a tensor is right, pinned or refused, never wrong: `check` holds each cut to it.
WRITES = {
    "added_in_part": two(added_in_part),
    "activated_in_part": two(activated_in_part),
    "scaled_in_part": two(scaled_in_part),
    "added_from_another": two(added_from_another, half=4),
    "added_in_space": two(added_in_space, "a:8"),
    "halves_swapped": two(halves_swapped),
    "collected": two(collected),
    "collected_by_width": two(collected_by_width, reads=16),
    "into_a_buffer": two(into_a_buffer, memory=torch.zeros(2, 8, 4, 4)),
    "into_half_a_buffer": Case(
        lambda: Net(into_half_a_buffer, a=conv(3, 4), b=conv(8, 2), memory=torch.randn(2, 8, 4, 4))
    ),
    "one_channel_cleared": two(one_channel_cleared, stays="a"),
    "some_channels_cleared": two(some_channels_cleared, stays="a"),
    "masked_to_zero": two(masked_to_zero),
    "written_through_a_view": two(written_through_a_view, "a:8"),
    "written_after_the_view": two(written_after_the_view),
    "accumulated": two(accumulated),
    "copied_transposed": two(copied_transposed, "a:8"),
    "temporal_shift": two(shift),
    "in_place_chain": two(lambda n, x: n.b(n.a(x).clone().mul_(2).add_(n.c(x)).relu_().clamp_(max=3)), "a:8"),
    "in_place_activation_of_a_shared_value": Case(
        lambda: Net(lambda n, x: n.b((y := n.a(x)) + functional.relu(y, inplace=True)), a=conv(3, 8), b=conv(8, 2)),
        "a:8",
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes_in_place_are_never_silently_wrong(name: str) -> None:
    check(WRITES[name])
