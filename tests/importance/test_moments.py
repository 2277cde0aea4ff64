from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import hwprune
from hwprune.importance.moments import RIDGE, Gathering, blocks_of


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
