"""The law of coupling: removing a dead channel never changes what the network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hwprune.graph.coupling import analyze
from hwprune.graph.reshaping import segments
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from tests.graph.networks import random_plan

CHANNEL_KEEPING = {
    "relu": torch.relu,
    "in_place": lambda t: functional.relu_(t * 1.0),
    "gelu": functional.gelu,
    "hardswish": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "flip": lambda t: t.flip(1),
    "add_of_flipped": lambda t: t + t.flip(1),
    "cat_with_itself": lambda t: torch.cat([t, t * 2], 1),
    "chunk": lambda t: torch.mul(*t.chunk(2, 1)),
    "shuffle": lambda t: t.view(1, 2, -1, *t.shape[2:]).transpose(1, 2).flatten(1, 2),
    "channels_last": lambda t: t.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2),
    "squeeze_excite": lambda t: t * t.mean((2, 3), keepdim=True).sigmoid(),
    "max_pool": lambda t: functional.max_pool2d(t, 2),
    "interpolate": lambda t: functional.interpolate(t, scale_factor=2.0, mode="bilinear"),
    "in_place_add": lambda t: (t * 1.0).add_(t),
    "broadcast_bias": lambda t: t + torch.ones(1, 1, 4, 4),
    "literal_pad": lambda t: functional.pad(t, (0, 0, 0, 0, 2, 1)),
    "spatial_softmax": lambda t: t.flatten(2).softmax(-1).view(t.shape),
}


class Between(nn.Module):
    """An operation between two convolutions, the first of which has eight channels."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.first, self.operation = nn.Conv2d(3, 8, 1), operation
        with torch.no_grad():
            self.last = nn.Conv2d(operation(self.first(torch.zeros(1, 3, 4, 4))).shape[1], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operation(self.first(x)))


@pytest.mark.parametrize("name", CHANNEL_KEEPING)
def test_removing_channels_equals_zeroing_them_at_the_consumer(name: str) -> None:
    torch.manual_seed(0)
    model = Between(CHANNEL_KEEPING[name])
    network = analyze(model, torch.zeros(1, 3, 4, 4))
    assert "first" in network.widths
    for seed in range(4):
        plan = random_plan(network, np.random.default_rng(seed))

        assert verify(model, cut(model, plan, network), plan, network).equal


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.ConvTranspose2d(8, 6, 2, stride=2),
        lambda: nn.ConvTranspose2d(8, 8, 2, stride=2, groups=4),
        lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8),
        lambda: nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False),
    ],
    ids=["transposed", "transposed_grouped", "depthwise_with_multiplier", "grouped"],
)
def test_every_kind_of_convolution_keeps_the_law(layer) -> None:
    torch.manual_seed(0)
    middle = layer()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), middle, nn.ReLU(), nn.Conv2d(middle.out_channels, 2, 1))
    network = analyze(model, torch.zeros(1, 3, 6, 6))
    assert len(network.free) >= 1
    for seed in range(4):
        plan = random_plan(network, np.random.default_rng(seed))

        assert verify(model, cut(model, plan, network), plan, network).equal


def _factors(n: int, rng: np.random.Generator) -> tuple[int, ...]:
    parts = []
    while n > 1:
        divisor = int(rng.choice([d for d in range(2, n + 1) if n % d == 0]))
        parts.append(divisor)
        n //= divisor
        if rng.random() < 0.2:
            parts.append(1)
    return tuple(parts)


@given(st.integers(2, 120), st.integers(0, 10_000))
def test_segments_cover_every_axis_once_and_hold_the_same_elements(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = _factors(size, rng), _factors(size, rng)
    found = list(segments(before, after))

    assert [axis for a, _ in found for axis in a] == [i for i, n in enumerate(before) if n > 1]
    assert [axis for _, b in found for axis in b] == [i for i, n in enumerate(after) if n > 1]
    for a, b in found:
        assert np.prod([before[i] for i in a]) == np.prod([after[i] for i in b])


OPERATIONS = list(CHANNEL_KEEPING.values())


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=1, max_size=3), st.integers(0, 1000))
def test_chains_of_operations_keep_the_law(chain: list[int], seed: int) -> None:
    def run(t: Tensor) -> Tensor:
        for i in chain:
            t = OPERATIONS[i](functional.interpolate(t, size=(4, 4)))
        return t

    torch.manual_seed(seed)
    try:
        model = Between(run)
    except RuntimeError:  # an odd number of channels cannot be chunked in two
        return
    network = analyze(model, torch.zeros(1, 3, 4, 4))
    plan = random_plan(network, np.random.default_rng(seed))

    assert verify(model, cut(model, plan, network), plan, network).equal
