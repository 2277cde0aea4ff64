from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import hwprune
from hwprune.importance.moments import RIDGE, Gathering, blocks_of
from tests.importance.shrinking import shrunk


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_moments_are_those_of_all_batches_however_far_the_mean_lies_from_zero(mean: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 3)).eval()
    with torch.no_grad():
        model[0].bias += mean
    network = hwprune.analyze(model, (torch.randn(1, 4),))
    batches = [torch.randn(40, 4) + shift for shift in (0.0, 1.0, -2.0)]
    gathering = Gathering(blocks_of(model, network))
    with torch.no_grad():
        with gathering.watching():
            for batch in batches:
                model(batch)
        every = model[0](torch.cat(batches)).double().numpy()
    (found,) = gathering.moments().values()
    np.testing.assert_allclose(found.mean.numpy(), every.mean(0), rtol=1e-5, atol=1e-5)
    expected = shrunk(every[:, None], every[:40].mean(0))
    np.testing.assert_allclose(found.covariance.numpy(), expected, rtol=1e-3, atol=1e-4 * np.diag(expected).mean())
    # Four numbers make 64 channels: whatever rounding adds, the ridge has to keep the covariance invertible.
    assert np.linalg.eigvalsh(found.covariance.numpy()).min() > -0.01 * RIDGE * np.diag(expected).mean()


@given(
    samples=st.integers(2, 9), side=st.integers(1, 4), entries=st.integers(2, 9), seed=st.integers(0, 99)
)  # more positions than entries, and fewer
def test_covariances_are_shrunk_by_how_much_samples_differ(samples: int, side: int, entries: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, entries, 1), nn.Conv2d(entries, 3, 1)).eval()
    network = hwprune.analyze(model, (torch.zeros(1, 3, side, side),))
    x = torch.randn(samples, 3, side, side) + torch.randn(samples, 3, 1, 1)
    gathering = Gathering(blocks_of(model, network))
    with torch.no_grad():
        with gathering.watching():
            model(x)
        own = model[0](x).flatten(2).transpose(1, 2).double().numpy()
    (found,) = gathering.moments().values()
    expected = shrunk(own, own.mean((0, 1)))
    np.testing.assert_allclose(found.covariance.numpy(), expected, rtol=1e-3, atol=1e-5 * np.diag(expected).mean())


@pytest.mark.parametrize("positions", [1, 16])
def test_what_few_samples_tell_holds_for_others(positions: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 3, 1)).eval()
    network = hwprune.analyze(model, (torch.zeros(1, 64, positions, 1),))
    seen, others = (torch.randn(n, 64, 1, 1) + 0.1 * torch.randn(n, 64, positions, 1) for n in (40, 4000))
    gathering = Gathering(blocks_of(model, network))
    with torch.no_grad():
        with gathering.watching():
            model(seen)
        own = model[0](others).transpose(1, 3).reshape(-1, 64).double()
    (found,) = gathering.moments().values()
    stays = np.arange(64) < 48
    slopes, shift = found.takeover(stays, ~stays)
    missed = (own[:, :48] @ slopes + shift - own[:, 48:]).square().mean()

    assert missed < 0.9 * own[:, 48:].var(0).mean()


def test_one_sample_tells_no_channel_from_others() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)).eval()
    network = hwprune.analyze(model, (torch.zeros(1, 3, 9, 9),))
    gathering = Gathering(blocks_of(model, network))
    with torch.no_grad(), gathering.watching():
        model(torch.randn(1, 3, 9, 9))
    (found,) = gathering.moments().values()
    slopes, _ = found.takeover(np.arange(8) < 4, np.arange(8) >= 4)

    assert not slopes.any()
