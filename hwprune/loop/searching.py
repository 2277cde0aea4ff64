"""One search: importance and costs of the present plan become a problem, and its solution a narrower plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwprune.cost.normalisation import LayerCost, latency_ops, mac_ops, memory_ops, parameter_ops, price
from hwprune.errors import TargetError
from hwprune.importance.criterion import Scores
from hwprune.loop.goal import Goal
from hwprune.loop.job import Job
from hwprune.loop.memory import NAME as MEMORY
from hwprune.loop.unmeasured import correlated_of
from hwprune.plan import Plan
from hwprune.search.exact import exact
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Problem, Solution
from hwprune.units import format_percent


def searched(
    job: Job,
    goal: Goal,
    predictor: LayerCost | None,
    plan: Plan,
    scores: Scores,
    ratio: float,
    memory: Budget | None,
) -> tuple[Plan, float | None]:
    """A narrower plan whose predicted cost is ``ratio`` of the dense one's, and its predicted latency in ms."""
    groups = tuple(_group(name, width, scores, job.subject.choices[name]) for name, width in plan.kept_widths.items())
    budgets = [_budget(job, goal, predictor, ratio)]
    if memory is not None and goal.memory is not None:
        budgets.append(goal.memory.within_reach(memory, {group.name: group.choices[0] for group in groups}))
    priced = price(
        job.subject.network,
        job.settings.normalisation,
        parameters=job.subject.parameters,
        measured=predictor,
        correlated=correlated_of(job),
    )
    solution = _solution(job, Problem(groups, tuple(budgets), priced))
    if not solution.feasible:
        raise _short(goal, predictor, budgets, solution)
    kept = {}
    for name, width in solution.widths.items():
        before = plan.kept[name]
        best = np.argsort(-scores[name], kind="stable")[:width] if name in scores else np.arange(width)
        kept[name] = [before[i] for i in best]
    narrower = Plan.keeping(job.subject.network, kept)
    # The correlated cost is no latency: the ledger's predicted milliseconds stay empty.
    return narrower, None if predictor is None or goal.correlated else predictor.predict_ms(solution.widths)


def _solution(job: Job, problem: Problem) -> Solution:
    if job.settings.search == "greedy":
        return greedy(problem)
    solution = exact(problem)
    if solution.feasible:
        proof = "" if solution.bound is None else f", of which {solution.bound:.4g} must be"
        job.run.log(f"exact search: importance {solution.lost:.4g} lost{proof}")
    return solution


def _budget(job: Job, goal: Goal, predictor: LayerCost | None, ratio: float) -> Budget:
    name, limit = goal.target.quantity, ratio * goal.dense
    if name == "latency":
        if predictor is None:
            raise TargetError("a latency target needs a latency table")
        return Budget(
            name, latency_ops(job.subject.network, predictor), predictor.summed_ms(limit), predictor.constant_ms
        )
    if name == "params":
        return Budget(name, parameter_ops(job.subject.network, job.subject.parameters), limit)
    return Budget(name, mac_ops(job.subject.network) if name == "macs" else memory_ops(job.subject.network), limit)


def _group(name: str, width: int, scores: Scores, choices: tuple[int, ...]) -> Group:
    # A group that is down to one channel is pinned in the smaller network and has no scores there.
    narrower = tuple(choice for choice in choices if choice < width) if name in scores else ()
    if not narrower:
        return Group(name, (width,), (0.0,))
    lost = np.concatenate([[0.0], np.cumsum(np.sort(scores[name]))])
    widths = (*narrower, width)
    return Group(name, widths, tuple(float(lost[width - choice]) for choice in widths))


def _short(goal: Goal, predictor: LayerCost | None, budgets: Sequence[Budget], solution: Solution) -> TargetError:
    """The error for a solution that is not feasible: of the first budget that does not hold."""
    short = next(budget for budget in budgets if solution.spent[budget.name] > budget.limit)
    if goal.memory is not None and short.name == MEMORY:
        return goal.memory.out_of_reach(solution.spent[short.name])
    return _out_of_reach(goal, _spent(goal, predictor, short, solution.widths))


def check_reachable(job: Job, goal: Goal, predictor: LayerCost | None, ratio: float) -> None:
    """Raises TargetError before anything is tried where even the narrowest widths cost too much."""
    budget = _budget(job, goal, predictor, ratio)
    narrowest = {name: choices[0] for name, choices in job.subject.choices.items()}
    if not budget.holds(narrowest):
        raise _out_of_reach(goal, _spent(goal, predictor, budget, narrowest))


def _spent(goal: Goal, predictor: LayerCost | None, budget: Budget, widths: Mapping[str, int]) -> float:
    """What the target bounds at these widths, in its own unit."""
    if goal.target.quantity == "latency" and predictor is not None:
        return predictor.predict_ms(widths)
    return budget.spent(widths)


def _out_of_reach(goal: Goal, reached: float) -> TargetError:
    return TargetError(
        f"the target {goal.target} is out of reach",
        where=f"the best that can be reached: {format_percent(reached / goal.dense)} of the dense {goal.bounded}",
        effect="no network was written",
        fix="raise the target, or free channels with a smaller --min-width, fewer --exclude or a finer --multiple",
    )
