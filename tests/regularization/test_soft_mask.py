"""The soft masks of SFP, ASFP, SRFP and ASRFP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.importance.compensation import compensate
from hwprune.plan import Plan
from hwprune.regularization.soft_mask import SoftMask, asfp, asrfp, curve, sfp, srfp
from tests.regularization.layers import going, network, only_drawn


@given(start=st.floats(0, 0.71))
def test_the_share_goes_through_its_three_points_from_any_start(start: float) -> None:
    times = np.linspace(0, 1, 33)
    shares = [curve(time, start) for time in times]

    assert shares[0] == pytest.approx(start, abs=1e-9)
    assert shares[4] == pytest.approx(0.75) and shares[-1] == pytest.approx(1)
    assert (np.diff(shares) > -1e-12).all() and (np.diff(shares, 2) < 1e-9).all(), "it rises ever more slowly"


def test_the_smallest_filters_are_zeroed_and_may_grow_back() -> None:
    model, found = network()
    session = sfp(every=1).begin(model, found, going(found, {"0": 2}), 3)
    order = model[0].weight.detach().flatten(1).norm(dim=1).argsort()
    session.stepped(1)
    zero = (model[0].weight.detach().flatten(1) == 0).all(1)
    assert set(zero.nonzero().flatten().tolist()) == set(order[:2].tolist())
    assert (model[1].bias[zero] != 0).all(), "norms are left alone"

    with torch.no_grad():
        model[0].weight[zero] = 10.0
    session.stepped(2)
    again = (model[0].weight.detach().flatten(1) == 0).all(1)
    assert set(again.nonzero().flatten().tolist()) == set(order[2:4].tolist())


def test_a_filter_of_zeros_in_front_of_a_batch_norm_learns_far_faster_than_the_others() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).train()
    with torch.no_grad():
        model[0].weight[0] = 0
        model[1].bias.fill_(0.5)  # or the channel is nothing, and learns nothing
    model(torch.randn(8, 3, 8, 8)).square().mean().backward()
    gradients = model[0].weight.grad.flatten(1).norm(dim=1)

    assert gradients[0] > 30 * gradients[1:].max()


@pytest.mark.parametrize(
    ("mask", "shares", "factors"),
    [
        (sfp(every=1), [1, 1, 1, 1, 1, 1, 1, 1], [0] * 8),
        (asfp(every=1), [6 / 8, 1, 1, 1, 1, 1, 1, 1], [0] * 8),
        (srfp(every=1), [1] * 8, [7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
        (asrfp(every=1), [6 / 8, 1, 1, 1, 1, 1, 1, 1], [7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
    ],
    ids=lambda value: value.name if isinstance(value, SoftMask) else "",
)
def test_each_has_its_share_and_its_factor(mask: SoftMask, shares: list[float], factors: list[float]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 9, 1, bias=False), nn.ReLU(), nn.Conv2d(9, 2, 1))
    found = analyze(model, torch.zeros(1, 1, 2, 2))
    session = mask.begin(model, found, going(found, {"0": 8}), 8)
    for step, (share, factor) in enumerate(zip(shares, factors, strict=True), start=1):
        with torch.no_grad():
            model[0].weight[:] = torch.arange(1.0, 10.0)[:, None, None, None]
        session.stepped(step)
        count = round(8 * share)
        expected = torch.arange(1.0, 10.0)
        expected[:count] *= factor
        torch.testing.assert_close(model[0].weight.detach().flatten(), expected)


def test_what_norms_still_tell_moves_to_the_readers_before_the_cut() -> None:
    model, found = network()
    with torch.no_grad():
        model[1].bias[:] = 1.0  # so that a masked channel tells something behind its ReLU
    session = only_drawn(sfp(every=2), model, found, going(found, {"0": 2, "3": 3}), steps=4, lr=0.1)
    images = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        masked = model(images)
    goes = session.goes.numpy()
    kept = {group.name: np.flatnonzero(~goes[group.numbers]).tolist() for group in found.free}
    plan = Plan.keeping(found, kept)
    with torch.no_grad():
        lost = cut(model, plan, found)(images)
    compensate(model, found, [(images, None)], present=np.ones_like(goes), stays=~goes)
    with torch.no_grad():
        taken_over = cut(model, plan, found)(images)

    assert (lost - masked).abs().max() > 1e-2
    torch.testing.assert_close(taken_over, masked, rtol=1e-3, atol=1e-4)


def test_as_often_as_a_twentieth_of_the_steps_unless_asked_otherwise() -> None:
    model, found = network()
    assert sfp().begin(model, found, going(found, {}), 400).every == 20
    assert sfp().begin(model, found, going(found, {}), 3).every == 1
    assert sfp(7).begin(model, found, going(found, {}), 400).every == 7


@pytest.mark.parametrize("start", [-0.1, 0.72, 0.9])
def test_a_start_from_which_no_curve_leads_is_refused(start: float) -> None:
    with pytest.raises(HwpruneError, match="start of the regulariser 'asfp'"):
        asfp(start=start)
