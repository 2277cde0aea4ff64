"""The law of coupling on random networks, and that this test could fail."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from hwprune import Plan, analyze, cut
from hwprune.graph.rules import RULES
from tests.graph.random_blocks import BLOCKS
from tests.graph.random_law import Broken, Verdict, judge, masked
from tests.graph.random_networks import Program, compose, programs
from tests.graph.random_recipes import Recipe, Step, random_recipe, recipes

pytestmark = pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match num_features")


def allowed(program: Program, verdict: Verdict) -> bool:
    """Whether a verdict is as it should be: a number of channels written into a forward may be refused."""
    return verdict.outcome == "holds" or (verdict.outcome == "refused" and program.literal)


def network_of(*blocks: str) -> Program:
    return compose(Recipe(steps=tuple(Step(block) for block in blocks)))


@settings(max_examples=100, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_removing_channels_of_a_random_network_equals_never_having_heard_them(program: Program) -> None:
    verdict = judge(program)

    assert allowed(program, verdict), f"{verdict.outcome}: {verdict.detail}\n{program}"


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_alone_keeps_the_law(block: str) -> None:
    program = compose(Recipe(steps=(Step("conv3x3", options=(1,)), Step(block, other=1))))
    verdict = judge(program)

    assert [placed.block for placed in program.placed] == ["conv3x3", block]
    assert allowed(program, verdict), f"{verdict.outcome}: {verdict.detail}\n{program}"


@settings(max_examples=50, derandomize=True, database=None)
@given(recipes())
def test_every_recipe_is_a_network_and_prints_as_code_that_runs(recipe: Recipe) -> None:
    program = compose(recipe)
    scope: dict[str, object] = {}
    exec(repr(program), scope)

    assert repr(program) == repr(compose(recipe))
    with torch.no_grad():
        scope["model"](*scope["inputs"])


def test_random_networks_have_channels_to_remove_and_removing_them_shows() -> None:
    rng = np.random.default_rng(0)
    found: Counter[str] = Counter()
    for _ in range(60):
        program = compose(random_recipe(rng))
        verdict = judge(program, plans=1)
        found["blocks"] += len(program.placed)
        found["narrowed"] += sum(verdict.narrowed)
        found["free"] += verdict.free > 0
        found["plans"] += verdict.plans
        found["visible"] += verdict.visible
        found["masked"] += verdict.masked

    assert found["narrowed"] > 0.3 * found["blocks"], found
    assert found["free"] > 30, found
    assert found["visible"] > 0.9 * found["plans"], found
    assert found["masked"] > 15, found


@pytest.mark.parametrize(
    ("operator", "block"), [("flip", "flip_add"), ("roll", "roll"), ("_softmax", "softmax"), ("addmm", "linear")]
)
def test_a_rule_that_takes_an_operator_for_an_elementwise_one_is_found_out(operator: str, block: str) -> None:
    program = network_of("conv3x3", block, "conv3x3")

    assert judge(program).outcome == "holds"
    assert judge(program, rules={**RULES, operator: RULES["relu"]}).outcome != "holds"


def test_the_slow_way_notices_a_weight_in_the_wrong_place() -> None:
    program = network_of("conv3x3", "relu", "conv3x3")
    model = program.build()
    network = analyze(model, program.inputs())
    small = cut(model, Plan.keeping(network, {"m3": [0, 2]}), network)
    masked(model, small)
    with torch.no_grad():
        small.m3.weight.copy_(small.m3.weight.flip(0))

    with pytest.raises(Broken, match=r"m3\.weight"):
        masked(model, small)


def test_the_slow_way_is_the_dense_network_where_nothing_is_removed() -> None:
    program = network_of("conv3x3", "relu")
    model = program.build()
    network = analyze(model, program.inputs())
    result = masked(model, cut(model, Plan.keeping(network, {}), network))

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), result.parameters(), strict=True))
