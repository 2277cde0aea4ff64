"""One search: importance and costs of the present network become a problem, and its solution a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from hwprune.cost.normalisation import MEASURED, price
from hwprune.errors import TargetError
from hwprune.importance.criterion import Scores
from hwprune.loop.aim import Aims
from hwprune.loop.allocating import allocated
from hwprune.loop.job import Job
from hwprune.loop.place import Place
from hwprune.loop.unmeasured import correlated_of
from hwprune.plan import Plan
from hwprune.search.alternatives import Bounds, bounded
from hwprune.search.exact import exact
from hwprune.search.greedy import greedy
from hwprune.search.objective import Objective, lost_at
from hwprune.search.order import Order
from hwprune.search.problem import Budget, Group, Op, Problem, Solution, solved

# What the log says is lost.
PAID: Final[Mapping[Objective, str]] = {
    "loss": "importance",
    "odds": "importance over the share that stays",
    "shares": "logarithm of shares",
}


def searched(
    job: Job,
    aims: Aims,
    place: Place,
    scores: Scores,
    ratios: Sequence[float],
    memory: Budget | None,
    bounds: Bounds,
) -> Plan:
    """A plan of channels at ``place``, or that may come back there, whose predicted cost on every deployment is that
    ratio of the dense one's; ``bounds`` hold the widths of groups.
    """
    plan, orders = place.plan, orders_at(place, scores)
    problem = bounded(problem_of(job, aims, place, orders, ratios, memory), bounds)
    if job.settings.allocation:
        places = allocated(job, plan, place.weights, problem, scores)
        kept = {name: [plan.kept[name][i] for i in own] for name, own in places.items()}
        solution = solved(problem, {name: len(channels) for name, channels in kept.items()})
    else:
        solution = _solution(job, problem)
        kept = {name: order.kept(solution.widths[name]) for name, order in orders.items()}
    if not solution.feasible:
        raise _short(aims, problem.budgets, solution)
    return Plan.keeping(job.subject.network, {**plan.kept, **kept})


def orders_at(place: Place, scores: Scores) -> dict[str, Order]:
    """In which order the channels of each group go that may lose some."""
    return {name: order for name in place.plan.kept if (order := place.order(name, scores)) is not None}


def problem_of(
    job: Job, aims: Aims, place: Place, orders: Mapping[str, Order], ratios: Sequence[float], memory: Budget | None
) -> Problem:
    """What is searched at a place; see `searched`."""
    groups = tuple(_group(job, name, width, orders.get(name)) for name, width in place.plan.kept_widths.items())
    budgets = [aim.budget(ratio) for aim, ratio in zip(aims, ratios, strict=True)]
    goal = aims[0].goal
    if memory is not None and goal.memory is not None:
        budgets.append(goal.memory.within_reach(memory, {group.name: group.choices[0] for group in groups}))
    return Problem(groups, tuple(budgets), _price(job, aims))


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
        job.run.log(f"exact search: {PAID[job.settings.objective]} {solution.lost:.4g} lost{proof}")
    return solution


def _group(job: Job, name: str, width: int, order: Order | None) -> Group:
    if order is None:
        return Group(name, (width,), (0.0,))
    most, layers, objective = len(order.channels), job.subject.producers[name], job.settings.objective
    widths = (*(choice for choice in job.subject.choices[name] if choice < most), most)
    paid = (lost_at(order.lost(choice), order.lost(0), layers, objective) for choice in widths)
    return Group(name, widths, tuple(paid))


def _short(aims: Aims, budgets: Sequence[Budget], solution: Solution) -> TargetError:
    """The error for a solution that is not feasible: of the first budget that does not hold."""
    short = next(place for place, budget in enumerate(budgets) if solution.spent[budget.name] > budget.limit)
    memory = aims[0].goal.memory
    if short == len(aims) and memory is not None:
        return memory.out_of_reach(solution.spent[budgets[short].name])
    return aims[short].out_of_reach(solution.widths, budgets[short])
