"""Which channels a network of known widths begins with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwprune.errors import HwpruneError
from hwprune.graph.makers import makers, squared_distances
from hwprune.importance.criterion import cross_entropy
from hwprune.inheritance.adaptive import CANDIDATES, Adaptive
from hwprune.inheritance.exemplar import Exemplar
from tests.allocation.situations import WIDTHS, situation

HALF = {name: width // 2 for name, width in WIDTHS.items()}


@pytest.mark.parametrize("best", CANDIDATES)
def test_the_criterion_whose_choice_is_most_accurate_counts(best: str) -> None:
    where = situation()
    scores = CANDIDATES[best].scores(where.model, where.network, where.batches, cross_entropy)
    wanted = {name: set(np.argsort(-own, kind="stable")[: HALF[name]].tolist()) for name, own in scores.items()}

    def judge(kept: dict[str, list[int]]) -> float:
        return float(sum(len(wanted[name] & set(own)) for name, own in kept.items()))

    object.__setattr__(where, "judge", judge)
    kept = Adaptive().kept(where, HALF)

    assert {name: set(own) for name, own in kept.items()} == wanted


def test_without_norms_the_criterion_of_norms_is_left_out() -> None:
    where = situation()
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4))
    from hwprune.graph.coupling import analyze

    object.__setattr__(where, "model", model.eval())
    object.__setattr__(where, "network", analyze(model, torch.zeros(1, 3, 8, 8)))
    kept = Adaptive().kept(where, {"0": 4})

    assert len(kept["0"]) == 4
    with pytest.raises(HwpruneError, match="go through none"):
        Adaptive("bn-scale").kept(where, {"0": 4})


def test_exemplars_stand_for_filters_that_are_alike() -> None:
    where = situation()
    with torch.no_grad():
        weight = where.model[6].weight
        weight[:] = weight[[0, 1, 2, 3] * 4] + 0.001 * torch.randn(weight.shape)
    kept = Exemplar().kept(where, {**WIDTHS, "6": 4})

    assert {index % 4 for index in kept["6"]} == {0, 1, 2, 3} and list(kept["0"]) == list(range(8))


@pytest.mark.parametrize("width", [1, 3, 7, 15])
def test_there_are_as_many_exemplars_as_channels_are_wanted(width: int) -> None:
    where = situation()
    kept = Exemplar().kept(where, {**WIDTHS, "6": width})["6"]
    similarities = -squared_distances(makers(where.model, where.network)["6"], 16)

    assert len(set(kept)) == width and list(kept) == sorted(kept) and max(kept) < len(similarities)


def test_what_is_no_criterion_is_refused() -> None:
    with pytest.raises(HwpruneError, match="some of these with"):
        Adaptive("l1+l3")
    with pytest.raises(HwpruneError, match="damping of the inheritance"):
        Exemplar(damping=0.2)
