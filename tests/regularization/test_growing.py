"""GReg's penalties: how they grow, what they do to weights, and what is picked by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import HwpruneError
from hwprune.regularization.greg import Greg1, Greg2
from tests.regularization.layers import WIDTHS, going, network, only_drawn


@given(steps=st.integers(1, 500), every=st.integers(1, 50), stabilize=st.floats(0, 0.9), ceiling=st.floats(0.01, 10))
def test_the_penalty_grows_evenly_to_the_ceiling_and_stays_there(
    steps: int, every: int, stabilize: float, ceiling: float
) -> None:
    strengths = [Greg1(ceiling, every, stabilize).strength(step, steps) for step in range(steps + 1)]
    jumps = np.diff(strengths)

    assert strengths[0] == 0 and (jumps >= 0).all() and max(strengths) <= ceiling
    np.testing.assert_allclose(jumps[jumps > 0], max(jumps, default=0), rtol=1e-6)
    if every <= (1 - stabilize) * steps:
        assert strengths[-1] == pytest.approx(ceiling)


def test_what_goes_shrinks_by_its_penalty_and_what_stays_does_not_move() -> None:
    model, found = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options, steps, lr = Greg1(ceiling=2.0, every=1, stabilize=0.5), 20, 0.1
    only_drawn(options, model, found, going(found, {"0": 2, "3": 3}), steps, lr)
    # the strength that a step sees is the one after the step before
    shrunk = float(np.prod([1 - lr * options.strength(step, steps) for step in range(steps)]))

    for name, rows in (("0.weight", 2), ("1.weight", 2), ("1.bias", 2), ("3.weight", 3), ("3.bias", 3), ("4.bias", 3)):
        value = model.state_dict()[name]
        torch.testing.assert_close(value[:rows], before[name][:rows] * shrunk)
        torch.testing.assert_close(value[rows:], before[name][rows:])
    torch.testing.assert_close(model[8].weight, before["8.weight"])


def test_a_uniform_penalty_first_and_then_the_smallest_are_picked() -> None:
    model, found = network()
    wanted = going(found, {"0": 3, "3": 1})
    session = Greg2(every=1, pick=0.25, uniform=0.01).begin(model, found, wanted, 40)
    for step in range(1, 10):
        session.stepped(step)
    free = torch.from_numpy(np.concatenate([group.numbers for group in found.free]))
    assert len(set(session.penalties.strength[free].tolist())) == 1
    assert 0 < float(session.penalties.strength.max()) <= 0.01 and torch.equal(session.goes, wanted)
    with torch.no_grad():  # as if training had left these smaller than the others
        model[0].weight[[1, 4, 5]] *= 0.1
        model[3].weight[6] *= 0.1
    session.stepped(10)

    picked = {name: set(np.flatnonzero(session.goes[found.group(name).numbers].numpy())) for name in WIDTHS}
    assert picked == {"0": {1, 4, 5}, "3": {6}}
    for step in range(11, 41):
        session.stepped(step)
    assert session.penalties.strength[session.goes].tolist() == pytest.approx([1.0] * 4)
    assert not session.penalties.strength[~session.goes].any()


def test_under_a_uniform_penalty_flat_directions_shrink_most() -> None:
    curvature, penalty = torch.tensor([0.1, 1.0, 10.0]), 0.5
    weights = torch.ones(3)
    for _ in range(4000):
        weights -= 0.05 * (curvature * (weights - 1) + penalty * weights)

    torch.testing.assert_close(weights, curvature / (curvature + penalty))


@pytest.mark.parametrize(
    ("option", "value"), [("ceiling", 0.0), ("every", 0), ("stabilize", 1.0), ("pick", 0.0), ("recover", 1e-4)]
)
def test_options_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(HwpruneError, match=f"{option} of the regulariser 'greg2' cannot be"):
        Greg2(**{option: value})  # type: ignore[arg-type]
