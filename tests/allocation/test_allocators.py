"""Each allocator against its formula, and all of them against the budget."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.cluster import AffinityPropagation

from hwprune.allocation.adapruner import AdaPrunerStyle
from hwprune.allocation.base import Allocator
from hwprune.allocation.ddpnas import Ddpnas, Slot
from hwprune.allocation.epruner import EPruner, exemplars
from hwprune.allocation.genetic import Fitness, Genetic, crossed, mutated, sensitivities
from hwprune.allocation.graph import GraphStyle, Predictor, adjacency, climb, facts_of, learn
from hwprune.errors import HwpruneError
from hwprune.graph.makers import makers, squared_distances
from tests.allocation.situations import WIDTHS, Judge, situation

ALL = [
    AdaPrunerStyle(),
    EPruner(),
    Ddpnas(sweeps=1),
    Genetic(population=4, generations=2),
    GraphStyle(candidates=4, proposals=2),
]


@pytest.mark.parametrize("limit", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("allocator", ALL, ids=lambda allocator: allocator.name)
def test_what_is_kept_fits_the_budget_and_the_choices(allocator: Allocator, limit: float) -> None:
    where = situation(limit, multiple=2)
    kept = allocator.kept(where)
    widths = {name: len(channels) for name, channels in kept.items()}

    assert where.holds(widths)
    for group in where.problem.groups:
        own = list(kept[group.name])
        assert len(own) in group.choices and own == sorted(set(own)) and own[-1] < WIDTHS[group.name]
    again = allocator.kept(situation(limit, multiple=2))
    assert {name: list(own) for name, own in again.items()} == {name: list(own) for name, own in kept.items()}


@pytest.mark.parametrize("allocator", ALL, ids=lambda allocator: allocator.name)
def test_where_nothing_fits_the_narrowest_are_told(allocator: Allocator) -> None:
    where = situation(1e-6)

    assert {name: len(own) for name, own in allocator.kept(where).items()} == where.narrowest


def test_adapruners_widths_are_in_proportion_to_the_mean_scale_of_norms() -> None:
    where = situation(0.3)
    means = {name: float(where.model[int(name) + 1].weight.detach().abs().mean()) for name in WIDTHS}
    widths = {name: len(own) for name, own in AdaPrunerStyle().kept(where).items()}
    steps = [(name, choice) for name, width in WIDTHS.items() for choice in range(1, width + 1)]
    scales = [(choice - 0.5) / WIDTHS[name] / means[name] + 1e-6 for name, choice in steps]

    assert any(where.nearest({name: scale * mean for name, mean in means.items()}) == widths for scale in scales)
    assert len(set(widths.values())) > 1


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_exemplars_are_those_of_scikit_learn_for_the_papers_similarities(beta: float) -> None:
    where = situation()
    weight = where.model[6].weight.detach().flatten(1).double()
    found = -squared_distances(makers(where.model, where.network)["6"], 16)
    own = np.array([[-float((a - b).square().sum()) for b in weight] for a in weight])
    preference = np.array([beta * np.median(own[:, k]) for k in range(len(own))])
    expected = AffinityPropagation(affinity="precomputed", preference=preference, random_state=0).fit(own)

    np.testing.assert_allclose(found, own, atol=1e-9)
    assert exemplars(found, beta, damping=0.5, iterations=200) == sorted(expected.cluster_centers_indices_)


def test_equally_far_filters_are_all_exemplars_or_hardly_any() -> None:
    filters = np.random.default_rng(0).standard_normal((64, 2000))  # of so many weights nearly equally far
    similarities = -np.array([[np.sum((one - other) ** 2) for one in filters] for other in filters])

    below, above = (len(exemplars(similarities, beta, damping=0.5, iterations=200)) for beta in (0.9, 1.1))

    assert below == 64 and above <= 8


def test_a_larger_beta_leaves_fewer_exemplars() -> None:
    found = -squared_distances(makers(situation().model, situation().network)["6"], 16)
    counts = [len(exemplars(found, beta, damping=0.5, iterations=200)) for beta in (0.0, 0.3, 1.0, 10.0)]

    assert counts[0] == 16 and counts == sorted(counts, reverse=True) and counts[-1] < counts[1]


def test_filters_that_are_alike_leave_one_exemplar_each() -> None:
    where = situation(0.4)
    with torch.no_grad():
        weight = where.model[6].weight
        weight[:] = weight[[0, 1, 2, 3] * 4] + 0.001 * torch.randn(weight.shape)
    kept = EPruner().kept(where)["6"]
    if len(kept) >= 4:
        assert {index % 4 for index in kept} == {0, 1, 2, 3}
    else:
        assert len({index % 4 for index in kept}) == len(kept)


def test_a_distribution_follows_the_papers_update_and_loses_its_worst_option() -> None:
    slot = Slot(3, momentum=0.9)
    for option, accuracies in ((0, (0.50, 0.52)), (1, (0.51, 0.50)), (2, (0.40, 0.45))):
        for accuracy in accuracies:
            slot.saw(option, accuracy)
    seen = np.array([[0.50, 0.52], [0.51, 0.50], [0.40, 0.45]])
    e = np.mean([np.exp(100 * sweep) / np.exp(100 * sweep).sum() for sweep in seen.T], axis=0)
    theta = 1 / 3 + 0.1 * e
    theta[2] = 0
    slot.prune()

    assert slot.alive == [0, 1]
    np.testing.assert_allclose(slot.theta, theta / theta.sum())


def test_every_option_is_sampled_once_in_a_sweep_and_the_best_ratios_are_left() -> None:
    where = situation(0.9, rule=lambda widths: widths["6"] / 16)  # only the last group matters
    kept = Ddpnas(options=4, sweeps=2).kept(where)
    judge = where.judge
    assert isinstance(judge, Judge)

    assert len(judge.asked) == 2 * (4 + 3 + 2)
    assert len(kept["6"]) == max(asked["6"] for asked in judge.asked)


def test_sensitivity_is_the_accuracy_that_half_of_a_group_costs() -> None:
    where = situation(rule=lambda widths: 0.1 * widths["0"] + 0.01 * widths["3"])

    assert sensitivities(where) == pytest.approx({"0": 0.4, "3": 0.06, "6": 0.0})


def test_children_have_as_many_channels_and_what_both_parents_share() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        mother, father = (sorted(random.choice(12, 5, replace=False).tolist()) for _ in range(2))
        child = crossed(mother, father, random)
        assert len(set(child)) == 5 and set(mother) & set(father) <= set(child) <= set(mother) | set(father)
        other = mutated(child, 12, 0.5, random)
        assert len(set(other)) == 5 and set(other) <= set(range(12)) and other == sorted(other)


def test_an_evolved_subset_leaves_the_answers_nearer_than_the_one_it_began_with() -> None:
    where = situation()
    fitness = Fitness(where, 16)
    fitness.settle("0", [0, 2, 3, 5, 6])
    first = [0, 1, 2, 3, 4]
    found = [
        Genetic(population=12, generations=count).evolved(first, 16, fitness, "6", np.random.default_rng(0))
        for count in (0, 8)
    ]
    none, short, long = (fitness.of("6", one) for one in (first, *found))

    assert all(len(set(one)) == 5 for one in found)
    assert long <= short <= none and long < none


def test_fitness_is_the_distance_of_the_masked_networks_softened_answers() -> None:
    where = situation()
    with torch.no_grad():
        where.model[-1].weight *= 100  # so that answers differ by more than rounding
        x = where.batches[0][0]
        whole = where.model(x)
        masked = torch.relu(where.model[:8](x))
        masked[:, [1, 5]] = 0
        answers = where.model[9:](masked)
    expected = torch.nn.functional.kl_div((answers / 4).log_softmax(1), (whole / 4).softmax(1), reduction="batchmean")

    assert Fitness(where, 16).of("6", [i for i in range(16) if i not in (1, 5)]) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_groups_of_one_operator_are_joined_and_the_matrix_is_kipf_and_wellings() -> None:
    joined = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1.0]])
    roots = np.diag(joined.sum(1) ** -0.5)

    np.testing.assert_allclose(adjacency(situation()), roots @ joined @ roots, rtol=1e-6)


def test_the_graph_network_learns_which_ratios_are_good_and_climbs_there() -> None:
    torch.manual_seed(0)
    where = situation()
    ratios = torch.rand(64, 3) * 0.9 + 0.1
    network = Predictor(facts_of(where), adjacency(where))
    learn(network, ratios, ratios[:, 2] - ratios[:, 0])
    climbed = climb(network, torch.full((1, 3), 0.5))

    assert climbed[0, 2] > 0.6 and climbed[0, 0] < 0.4
    assert float(climbed.mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AdaPrunerStyle(least=1.0), "least of the allocation"),
        (lambda: EPruner(damping=0.3), "damping"),
        (lambda: EPruner(iterations=0), "iterations"),
        (lambda: Ddpnas(options=1), "options"),
        (lambda: Genetic(population=1), "population"),
        (lambda: GraphStyle(candidates=1), "candidates"),
    ],
)
def test_options_that_mean_nothing_are_refused(make: type, told: str) -> None:
    with pytest.raises(HwpruneError, match=re.escape(told)):
        make()
