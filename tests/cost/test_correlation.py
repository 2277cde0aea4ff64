"""What published measurements say, Simpson's paradox, and which count can be trusted when."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from hwprune.cost.correlation import FEWEST, PointSet, Study, sets_of
from hwprune.cost.page import page
from hwprune.cost.plots import draw
from hwprune.cost.points import Point, read_points

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
GROUP_FISHER = {
    "macs": "macs (G)*1e9",
    "activations": "memory (M elements)*1e6",
    "latency_ms": "time (ms)",
}


def test_the_networks_of_the_regnet_paper_follow_their_activations() -> None:
    (networks,) = sets_of(read_points(DATA / "regnet_2003_13678.csv"))
    found = networks.correlations

    assert [round(found[name].pearson.value, 3) for name in ("macs", "parameters", "activations")] == [
        0.73,
        0.673,
        0.94,
    ]
    assert [round(found[name].kendall.value, 3) for name in ("macs", "parameters", "activations")] == [
        0.796,
        0.764,
        0.931,
    ]
    assert round(found["activations"].log_pearson.value, 3) == 0.985
    best = networks.fits[0]
    assert best.proxies == ("macs", "activations")
    assert (round(best.fit.mape, 3), round(best.fit.r, 3)) == (0.084, 0.996)


@pytest.fixture(scope="module")
def group_fisher() -> Study:
    """Table 1 of Group Fisher Pruning: 14 networks pruned to half of their MACs."""
    return Study("2080 Ti", sets_of(read_points(DATA / "group_fisher_table1.csv", GROUP_FISHER)))


def test_pruned_networks_of_group_fisher_follow_their_memory_and_not_their_parameters(group_fisher: Study) -> None:
    (within,) = group_fisher.sets

    assert (within.kind, len(within.compared)) == ("matched MACs", 14)
    assert round(within.correlations["activations"].pearson.value, 3) == 0.95
    assert round(within.correlations["activations"].spearman.value, 3) == 0.908
    assert round(within.correlations["parameters"].pearson.value, 2) == -0.22
    assert "macs" not in within.proxies


def test_pooling_them_says_the_opposite_and_is_called_simpsons_paradox(group_fisher: Study) -> None:
    pooled = group_fisher.pooled.correlations

    assert [round(pooled[n].pearson.value, 3) for n in ("macs", "parameters", "activations")] == [0.927, 0.861, 0.837]
    assert any("parameters" in note and "Simpson's paradox" in note for note in group_fisher.notes)
    assert any("follows MACs best" in note and "follows activation elements" in note for note in group_fisher.notes)


def _networks(count: int, rng: np.random.Generator) -> list[Point]:
    work = rng.uniform(1, 100, (count, 3)) * [1e8, 1e5, 1e5]
    return [Point(f"n{i}", float(a) * 1e-9, *map(float, (a, b, c)), family=f"f{i}") for i, (a, b, c) in enumerate(work)]


def test_a_count_that_makes_the_latency_is_trusted_and_the_others_mislead() -> None:
    study = Study("a made-up device", sets_of(_networks(40, np.random.default_rng(0))))

    assert "MACs hold (" in study.verdict
    assert "parameters do not hold" in study.verdict
    assert "activation elements do not hold" in study.verdict
    assert study.notes == ()


def _cut(latency: list[float], activations: list[float]) -> PointSet:
    dense = Point("net", 10.0, 1e9, 1e6, 1e7, base="net", family="f")
    cut = [
        Point(f"net {i}", ms, 5e8, 5e5, acts, base="net", family="f")
        for i, (ms, acts) in enumerate(zip(latency, activations, strict=True))
    ]
    return PointSet("plans of net", "matched MACs", (dense, *cut))


def test_macs_are_not_trusted_where_networks_of_equal_macs_differ() -> None:
    networks = sets_of(_networks(40, np.random.default_rng(0)))
    alike, apart = ([ms * spread for ms in (1.0, 1.01, 1.02, 1.03, 1.04)] for spread in (6.0, 6.0))
    apart = [6.0, 6.5, 7.0, 7.5, 8.0]
    acts = [4e6, 5e6, 6e6, 7e6, 8e6]

    assert "MACs hold (" in Study("d", (*networks, _cut(alike, acts))).verdict
    told = Study("d", (*networks, _cut(apart, acts))).verdict
    assert "MACs hold roughly" in told
    assert "where it is equal latency differs by 33 %" in told


def test_cut_networks_are_compared_by_what_they_save() -> None:
    points = _cut([8.0, 7.0, 6.0, 5.0], [9e6, 8e6, 7e6, 6e6])

    assert points.figures("latency_ms") == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert points.figures("activations") == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert points.proxies == ("activations",)
    assert points.equal == ("macs", "parameters")
    assert points.latency_spread == pytest.approx(0.6)
    assert points.correlations["activations"].spearman.value == pytest.approx(1)


def test_rows_of_a_table_fall_into_sets_by_what_they_were_cut_from() -> None:
    whole, cut = _networks(FEWEST, np.random.default_rng(1)), _cut([8.0, 7.0, 6.0, 5.0], [9e6, 8e6, 7e6, 6e6]).points

    assert [s.kind for s in sets_of([*whole, *cut])] == ["networks", "matched MACs"]
    assert [s.kind for s in sets_of(whole)] == ["networks"]
    assert sets_of(whole[:-1]) == ()


def test_the_page_needs_nothing_else_and_the_json_has_no_nan(group_fisher: Study) -> None:
    picture = draw(group_fisher)
    text = page(group_fisher, picture, {"source": "table 1 <of the paper>"})

    assert picture.startswith(b"\x89PNG")
    assert "Simpson&#x27;s paradox" in text
    assert "&lt;of the paper&gt;" in text
    assert "http" not in text.replace("data:image/png", "")
    assert 'src="data:image/png;base64,' in text
    assert json.loads(json.dumps(group_fisher.as_json(), allow_nan=False)) == group_fisher.as_json()
    assert isnan(Point("x", 1.0).macs)
