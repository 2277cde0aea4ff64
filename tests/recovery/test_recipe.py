"""How to fine-tune."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hwprune.errors import HwpruneError
from hwprune.recovery.recipe import Recipe, make_optimizer


@given(st.integers(1, 300), st.floats(0, 0.9))
def test_the_rate_rises_to_its_highest_and_falls_to_nearly_nothing(steps: int, warmup: float) -> None:
    recipe = Recipe(lr=0.3, warmup=warmup)
    rates = [recipe.lr_at(step, steps) for step in range(steps)]

    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < min(rates) <= max(rates) <= 0.3 + 1e-9


def test_the_step_limit_is_part_of_the_schedule() -> None:
    assert Recipe(epochs=3).steps(10) == 30
    assert Recipe(epochs=3, max_steps=25).steps(10) == 25
    assert Recipe(epochs=3, max_steps=99).steps(10) == 30


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_and_norms_do_not_decay(optimizer: Any) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))

    made = make_optimizer(network.parameters(), Recipe(optimizer=optimizer, weight_decay=0.1))

    decays = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "3.weight": 0.1,
        "3.bias": 0.0,
    }


def test_frozen_parameters_are_not_trained() -> None:
    network = nn.Linear(2, 2)
    network.weight.requires_grad_(False)

    made = make_optimizer(network.parameters(), Recipe())

    assert [p is network.bias for group in made.param_groups for p in group["params"]] == [True]


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"epochs": -1},
        {"distill": 1.5},
        {"optimizer": "lion"},
        {"warmup": 1.0},
    ],
)
def test_impossible_recipes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(HwpruneError, match=next(iter(options))):
        Recipe(**options)


def test_a_recipe_is_plain_values() -> None:
    recipe = Recipe(epochs=3, distill=0.5, max_steps=7)

    assert Recipe(**recipe.as_json()) == recipe
    assert not any(isinstance(value, torch.Tensor) for value in recipe.as_json().values())
