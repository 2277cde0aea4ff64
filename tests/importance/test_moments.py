from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hwprune
from hwprune.importance.moments import LEAST_ROWS, RIDGE, Gathering, Moments, blocks_of


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
    expected = np.cov(every, rowvar=False, bias=True)
    np.testing.assert_allclose(found.covariance.numpy(), expected, rtol=1e-3, atol=1e-4 * np.diag(expected).mean())
    # Four numbers make 64 channels: whatever rounding adds, the ridge has to keep the covariance invertible.
    assert np.linalg.eigvalsh(found.covariance.numpy()).min() > -0.01 * RIDGE * np.diag(expected).mean()


@pytest.mark.parametrize("rows", [LEAST_ROWS * 16 - 1, LEAST_ROWS * 16])
def test_entries_are_told_from_others_where_there_are_enough_values_of_them(rows: int) -> None:
    x = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0)).double()
    moments = Moments(x.mean(0), torch.cov(x.T, correction=0), rows)
    stays = np.arange(16) < 8

    slopes, shift = moments.takeover(stays, ~stays)
    if rows < LEAST_ROWS * 16:
        variances = np.diag(moments.covariance.numpy())
        assert not slopes.any()
        torch.testing.assert_close(shift, x.mean(0)[8:])
        np.testing.assert_allclose(moments.inverse, 1 / (variances + RIDGE * variances.mean()))
    else:
        assert slopes.all()
        assert moments.inverse.shape == (16, 16)
