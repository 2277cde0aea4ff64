"""One search: importance and costs of the present plan become a problem, and its solution a narrower plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hwprune.allocation.base import best_of
from hwprune.cost.normalisation import MEASURED, price
from hwprune.errors import TargetError
from hwprune.importance.criterion import Scores
from hwprune.loop.aim import Aims
from hwprune.loop.allocating import allocated
from hwprune.loop.job import Job
from hwprune.loop.unmeasured import correlated_of
from hwprune.plan import Plan
from hwprune.search.exact import exact
from hwprune.search.greedy import greedy
from hwprune.search.objective import lost_at
from hwprune.search.problem import Budget, Group, Op, Problem, Solution, solved


def searched(
    job: Job,
    aims: Aims,
    plan: Plan,
    weights: Path | None,
    scores: Scores,
    ratios: Sequence[float],
    memory: Budget | None,
) -> Plan:
    """A narrower plan whose predicted cost on every deployment is that ratio of the dense one's."""
    groups = tuple(_group(job, name, width, scores) for name, width in plan.kept_widths.items())
    budgets = [aim.budget(ratio) for aim, ratio in zip(aims, ratios, strict=True)]
    goal = aims[0].goal
    if memory is not None and goal.memory is not None:
        budgets.append(goal.memory.within_reach(memory, {group.name: group.choices[0] for group in groups}))
    problem = Problem(groups, tuple(budgets), _price(job, aims))
    if job.settings.allocation:
        chosen = allocated(job, plan, weights, problem, scores)
        solution = solved(problem, {name: len(channels) for name, channels in chosen.items()})
    else:
        solution = _solution(job, problem)
        chosen = {name: best_of(scores, name, width) for name, width in solution.widths.items()}
    if not solution.feasible:
        raise _short(aims, budgets, solution)
    kept = {name: [plan.kept[name][i] for i in channels] for name, channels in chosen.items()}
    return Plan.keeping(job.subject.network, kept)


def _price(job: Job, aims: Aims) -> tuple[Op, ...]:
    """What importance is divided by; of what several deployments take, the sum of their shares."""
    prices = [
        price(
            aim.job.subject.network,
            job.settings.normalisation,
            parameters=aim.job.subject.parameters,
            measured=aim.predictor,
            correlated=correlated_of(job),
        )
        for aim in (aims if job.settings.normalisation in MEASURED else aims[:1])
    ]
    if len(prices) == 1:
        return prices[0]
    full = job.subject.network.widths
    whole = [sum(op.at(full) for op in ops) for ops in prices]
    return tuple(
        Op(op.groups, partial(_share, op, total)) for ops, total in zip(prices, whole, strict=True) for op in ops
    )


def _share(op: Op, total: float, widths: Mapping[str, int]) -> float:
    return op.at(widths) / total


def _solution(job: Job, problem: Problem) -> Solution:
    if job.settings.search == "greedy":
        return greedy(problem)
    solution = exact(problem)
    if solution.feasible:
        proof = "" if solution.bound is None else f", of which {solution.bound:.4g} must be"
        what = "importance" if job.settings.objective == "loss" else "logarithm of shares"
        job.run.log(f"exact search: {what} {solution.lost:.4g} lost{proof}")
    return solution


def _group(job: Job, name: str, width: int, scores: Scores) -> Group:
    # A group that is down to one channel is pinned in the smaller network and has no scores there.
    narrower = tuple(choice for choice in job.subject.choices[name] if choice < width) if name in scores else ()
    if not narrower:
        return Group(name, (width,), (0.0,))
    lost = np.concatenate([[0.0], np.cumsum(np.sort(scores[name]))])
    widths, layers = (*narrower, width), job.subject.producers[name]
    paid = (lost_at(float(lost[width - choice]), float(lost[-1]), layers, job.settings.objective) for choice in widths)
    return Group(name, widths, tuple(paid))


def _short(aims: Aims, budgets: Sequence[Budget], solution: Solution) -> TargetError:
    """The error for a solution that is not feasible: of the first budget that does not hold."""
    short = next(place for place, budget in enumerate(budgets) if solution.spent[budget.name] > budget.limit)
    memory = aims[0].goal.memory
    if short == len(aims) and memory is not None:
        return memory.out_of_reach(solution.spent[budgets[short].name])
    return aims[short].out_of_reach(solution.widths, budgets[short])
