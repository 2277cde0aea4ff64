"""What PyTorch takes on the CPU, against networks whose tensors can be counted by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwprune.runtimes.pytorch import PyTorchRuntime
from tests.runtimes.networks import Small, images, trained

FP32_BYTES = 4


def _activation_bytes(model: nn.Module, *inputs: torch.Tensor) -> int:
    memory = PyTorchRuntime().build(model, inputs).memory()
    assert memory.activation_bytes is not None
    return memory.activation_bytes


@settings(max_examples=20)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=6), st.integers(1, 8))
def test_a_chain_of_linear_layers_holds_two_neighbours_at_once(features: list[int], batch: int) -> None:
    chain = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(features)))
    made = [batch * size * FP32_BYTES for size in features[1:]]  # the input is the caller's
    pairs = [a + b for a, b in pairwise(made)]

    assert _activation_bytes(chain, torch.randn(batch, features[0])) == max(made[:1] + pairs)


def test_a_residual_branch_keeps_its_input_alive() -> None:
    class Residual(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = torch.relu(x)
            return kept + torch.relu(torch.relu(kept))

    x = torch.randn(2, 3, 16, 16)
    assert _activation_bytes(Residual(), x) == 3 * x.numel() * FP32_BYTES


def test_telling_the_memory_prints_nothing_and_leaves_the_outputs_as_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = PyTorchRuntime().build(trained(Small()), (images(),))
    before = engine.run([images().numpy()])[0]

    assert engine.memory() == engine.memory()
    assert (engine.run([images().numpy()])[0] == before).all()
    assert capfd.readouterr() == ("", "")
