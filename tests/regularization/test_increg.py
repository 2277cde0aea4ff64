"""IncReg's increments and ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import HwpruneError
from hwprune.regularization.increg import IncReg, increment
from tests.regularization.layers import going, network, only_drawn


def slow(rank: float, going: int, unit: float) -> float:
    """The paper's two branches, with u = 0.25."""
    a = math.log(8) / going
    middle = -math.log(0.25) / a
    return unit * math.exp(-a * rank) if rank < middle else 0.5 * unit - unit * math.exp(-a * (2 * middle - rank))


@given(going=st.integers(1, 300), unit=st.floats(1e-6, 10))
def test_increments_at_the_first_middle_and_last_rank(going: int, unit: float) -> None:
    ranks = torch.tensor([0.0, 2 * going / 3, float(going), going + 1.0], dtype=torch.float64)
    first, middle, last, behind = increment(ranks, going, unit).tolist()

    assert first == pytest.approx(unit) and middle == pytest.approx(unit / 4)
    assert last == pytest.approx(0, abs=1e-9 * unit) and behind < 0


@given(going=st.integers(1, 100))
def test_increments_fall_with_the_rank_and_are_the_papers(going: int) -> None:
    ranks = torch.arange(0, going + 5, dtype=torch.float64)
    found = increment(ranks, going, 1.0)

    assert (torch.diff(found) < 0).all()
    np.testing.assert_allclose(found, [slow(float(rank), going, 1.0) for rank in ranks], rtol=1e-9, atol=1e-12)


def test_the_smallest_go_to_zero_for_good_and_the_others_are_given_back() -> None:
    model, found = network()
    with torch.no_grad():
        model[0].weight[[2, 5]] *= 0.2
        model[3].weight[7] *= 0.2
    kept = model[0].weight[[0, 1, 3, 4]].detach().clone()
    session = only_drawn(IncReg(), model, found, going(found, {"0": 2, "3": 1}), steps=200, lr=1e-4)
    gone = {name: set(np.flatnonzero(session.goes[found.group(name).numbers].numpy())) for name in ("0", "3")}

    assert gone == {"0": {2, 5}, "3": {7}} and torch.equal(session.goes, session.gone)
    assert not model[0].weight[[2, 5]].any() and not model[1].bias[[2, 5]].any() and not model[3].weight[7].any()
    torch.testing.assert_close(model[0].weight[[0, 1, 3, 4]], kept, rtol=0.02, atol=0)
    assert not session.penalties.strength[~session.goes].any()


def test_ranks_are_averaged_so_one_step_decides_nothing() -> None:
    model, found = network()
    session = IncReg(unit=1e-6).begin(model, found, going(found, {"0": 1}), 10)
    sizes = np.random.default_rng(0).permuted(np.tile(np.arange(6.0), (10, 1)), axis=1)
    for step, size in enumerate(sizes, start=1):
        with torch.no_grad():
            model[0].weight[:] = torch.from_numpy(size + 1)[:, None, None, None]
        session.stepped(step)

    found_ranks = session.ranks[torch.from_numpy(found.group("0").numbers)]
    np.testing.assert_allclose(found_ranks, sizes.mean(0), rtol=1e-5)  # sizes are their own ranks
    assert int(np.flatnonzero(session.goes[found.group("0").numbers])[0]) == int(sizes.mean(0).argmin())


def test_as_many_go_as_the_search_took_even_where_the_steps_did_not_do() -> None:
    model, found = network()
    session = only_drawn(IncReg(unit=1e-9), model, found, going(found, {"0": 4, "3": 7}), steps=3, lr=0.01)

    assert not session.gone.any()
    assert [int(session.goes[found.group(name).numbers].sum()) for name in ("0", "3")] == [4, 7]


@pytest.mark.parametrize(("option", "value"), [("ceiling", 0.0), ("unit", -1.0)])
def test_options_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(HwpruneError, match=f"{option} of the regulariser"):
        IncReg(**{option: value})  # type: ignore[arg-type]
