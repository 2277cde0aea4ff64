"""The way down to the target: refresh importance, search, build and measure a candidate, correct, repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, inf, log

import numpy as np
from safetensors.numpy import load_file, save
from torch import nn

from hwprune.cost.normalisation import LayerCost, latency_ops, mac_ops, memory_ops, parameter_ops, price
from hwprune.cost.work import Work
from hwprune.errors import HwpruneError, TargetError
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.importance.criterion import Criterion, Scores, cross_entropy
from hwprune.importance.fisher import Fisher
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.taylor import Taylor
from hwprune.latency.predictor import Predictor
from hwprune.loop.candidates import certificate_of, tried
from hwprune.loop.job import Job
from hwprune.loop.unmeasured import correlated_of, has_stand_in
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Problem
from hwprune.target import Target
from hwprune.units import format_percent
from hwprune.validation.ledger import Candidate

CRITERIA: Mapping[str, Criterion] = {c.name: c for c in (Fisher(), Magnitude(), Taylor())}
# Measured over predicted is corrected in steps of this ratio, so that noise below it does not change the widths.
STEP = 1.02
CLOSE = 0.97  # a candidate between this share of the target and the target is taken
MILESTONE = 0.8  # of the cost is kept from one milestone to the next, unless the user says how many there are


@dataclass(frozen=True)
class Goal:
    """The target as a share of the dense network, and how to budget for it.

    Attributes:
        target: what was asked.
        ratio: bound as a share of the dense network's.
        dense: what the dense network has, in the target's unit.
        measured: whether only a measured candidate can meet it.
        correlated: whether its "latency" is the correlated cost, because nobody has measured the device.
    """

    target: Target
    ratio: float
    dense: float
    measured: bool
    correlated: bool = False

    @property
    def bounded(self) -> str:
        """What is bounded, for messages."""
        return "correlated cost" if self.correlated else self.target.quantity


def goal_of(job: Job, dense_ms: float | None) -> Goal:
    """The goal, where the dense network's latency is ``dense_ms``: measured where the device is here, else predicted.

    Raises:
        TargetError: the target is not below the dense network's cost.
    """
    target = Target.parse(job.settings.target)
    if target.quantity != "latency":
        dense = float(amount_of(job.subject.work(), target))
        return Goal(target, target.ratio(dense), dense, False)
    if dense_ms is None:
        raise TargetError("a latency target needs the dense network's latency")
    measured, correlated = job.subject.runtime.can_time, has_stand_in(job.run)
    return Goal(target, target.ratio(dense_ms), dense_ms, measured, correlated)


def amount_of(work: Work, target: Target) -> int:
    """What a target that is not a latency bounds."""
    return {"macs": work.macs, "params": work.parameters, "memory": work.activation_elements}[target.quantity]


def milestones_of(goal: Goal, count: int) -> list[float]:
    """Ratios from the first milestone down to the goal, evenly spaced in proportion.

    >>> from hwprune.target import Target
    >>> [round(r, 2) for r in milestones_of(Goal(Target.parse("50%"), 0.5, 1.0, True), 0)]
    [0.84, 0.71, 0.59, 0.5]
    """
    steps = count or max(1, ceil(log(goal.ratio) / log(MILESTONE)))
    return [goal.ratio ** (step / steps) for step in range(1, steps + 1)]


def search_down(job: Job, goal: Goal, predictor: LayerCost | None) -> Plan:
    """The plan that meets the goal, as measured where the device is here.

    Raises:
        TargetError: out of reach; says the best that can be reached.
    """
    plan = Plan.keeping(job.subject.network, {})
    correction = int(job.run.once("margin", lambda: _margin(goal, predictor)))
    *on_the_way, last = milestones_of(goal, job.settings.milestones)
    if "target" not in job.run.stages:
        _check_reachable(job, goal, predictor, last)
    for number, ratio in enumerate(on_the_way, start=1):
        name = f"milestone-{number}"
        step = partial(_milestone, job, goal, predictor, plan, number, ratio, correction)
        correction = int(job.run.once(name, step))
        plan = Plan.load(job.run.path / "candidates" / name / "plan.json")
    final: str = job.run.once("target", lambda: _approach(job, goal, predictor, plan, last, correction))
    return Plan.load(job.run.path / "candidates" / final / "plan.json")


def _margin(goal: Goal, predictor: LayerCost | None) -> int:
    """Steps to aim below the target by at first: the predictor's band. What is measured on the way replaces it."""
    if goal.target.quantity != "latency" or not isinstance(predictor, Predictor):
        return 0
    return ceil(log(1 + predictor.band) / log(STEP) - 1e-9)


def _milestone(
    job: Job, goal: Goal, predictor: LayerCost | None, plan: Plan, number: int, ratio: float, correction: int
) -> int:
    """One milestone on the way: its candidate is tried; returns the correction that it teaches."""
    scores = importance(job, plan, number)
    narrower, predicted = _search(job, goal, predictor, plan, scores, ratio / STEP**correction)
    candidate = tried(job, f"milestone-{number}", number, narrower, predicted)
    _tell(job, candidate, goal)
    return _correction(candidate, predicted, goal, correction)


def _approach(job: Job, goal: Goal, predictor: LayerCost | None, plan: Plan, ratio: float, correction: int) -> str:
    """Candidates at the last milestone until one is measured at or just under the target; the best one's name."""
    number = len(milestones_of(goal, job.settings.milestones))
    scores = importance(job, plan, number)
    tries: dict[int, tuple[str, float]] = {}
    while len(tries) < job.settings.tries and correction not in tries:
        narrower, predicted = _search(job, goal, predictor, plan, scores, ratio / STEP**correction)
        candidate = tried(job, f"target-{len(tries) + 1}", number, narrower, predicted)
        _tell(job, candidate, goal)
        if not goal.measured:
            return candidate.id
        measured = _confirmed(job, candidate, narrower, goal)
        tries[correction] = candidate.id, measured
        if measured > goal.ratio:
            correction = max(correction + 1, _steps(measured, predicted, goal, correction))
        elif measured < CLOSE * goal.ratio:
            correction = min(correction, _steps(measured, predicted, goal, correction))
        else:
            break
    met = {name: measured for name, measured in tries.values() if measured <= goal.ratio}
    if not met:
        best = min(measured for _, measured in tries.values())
        raise TargetError(
            f"no candidate was measured at {goal.target}",
            where=f"best of {len(tries)}: {format_percent(best)} of the dense latency",
            effect=f"all candidates are in {job.run.path / 'ledger.parquet'}",
            fix="prune again with a higher target or more --tries; the latency table is kept, so that takes less time",
        )
    return max(met, key=lambda name: met[name])


def _confirmed(job: Job, candidate: Candidate, plan: Plan, goal: Goal) -> float:
    """The candidate's share of the dense latency; infinite where no engine of it could be timed.

    Two builds of one network differ by a percent or two. So one that seems to meet the goal takes the paired test with
    rebuilt engines that the delivered network will take, and counts as slow as the upper end of its interval.
    """
    if candidate.ratio is None:
        return inf
    if candidate.ratio > goal.ratio:
        return candidate.ratio

    def test() -> float:
        job.reporter.stage(f"{candidate.id}: certifying")
        file = job.run.path / "candidates" / candidate.id / "model.onnx"
        return certificate_of(job, file, partial(job.subject.small, plan)).comparison.high

    return float(job.run.once(f"{candidate.id} confirmed", test))


def _correction(candidate: Candidate, predicted_ms: float | None, goal: Goal, fallback: int) -> int:
    """The correction that a candidate on the way teaches; the one before where it was not measured."""
    if candidate.ratio is None or not goal.measured:
        return fallback
    return _steps(candidate.ratio, predicted_ms, goal, fallback)


def _steps(ratio: float, predicted_ms: float | None, goal: Goal, fallback: int) -> int:
    """Steps by which a measured share of the dense latency is above the predicted one, rounded up."""
    if predicted_ms is None or ratio == inf:
        return fallback
    return ceil(log(ratio * goal.dense / predicted_ms) / log(STEP) - 1e-9)


def _tell(job: Job, candidate: Candidate, goal: Goal) -> None:
    cost = job.subject.work(candidate.widths)
    parts = [f"{format_percent(cost.macs / job.subject.work().macs)} of the MACs"]
    if goal.correlated and (correlated := correlated_of(job)) is not None:
        parts.append(f"{goal.bounded} {format_percent(correlated.share(candidate.widths))}")
    elif goal.target.quantity == "latency" and candidate.predicted_ms is not None:
        parts.append(f"latency predicted {format_percent(candidate.predicted_ms / goal.dense)}")
    elif goal.target.quantity != "latency":
        parts.append(f"{goal.target.quantity} {format_percent(amount_of(cost, goal.target) / goal.dense)}")
    measured = "latency not measured" if candidate.ratio is None else f"measured {format_percent(candidate.ratio)}"
    job.reporter.note(f"{candidate.id}: {', '.join([*parts, measured])}")


def check_importance(name: str) -> None:
    """Raises HwpruneError for a name that no criterion has."""
    if name not in CRITERIA:
        raise HwpruneError(f"unknown importance {name!r}", fix=f"choose one of {', '.join(sorted(CRITERIA))}")


def importance(job: Job, plan: Plan, milestone: int) -> Scores:
    """Importance of the channels that ``plan`` still keeps, judged in the network that it has made."""
    criterion = CRITERIA[job.settings.importance]
    file = job.run.path / f"importance-{milestone}.safetensors"
    if file.exists():
        return dict(load_file(file))
    job.reporter.stage(f"milestone {milestone}: importance ({criterion.name})")
    small = recovered_statistics(job, plan)
    inputs = tuple(x.to(job.subject.trainer) for x in job.subject.inputs)
    network = analyze(small, inputs, exclude=job.settings.exclude, choices=job.settings.choices)
    found = criterion.scores(small, network, job.importance_batches(milestone), cross_entropy)
    # A grouped convolution that is down to one offset is depthwise in the smaller network, where its groups go whole.
    scores = {name: score for name, score in found.items() if len(score) == len(plan.kept.get(name, ()))}
    write_atomically(file, save(scores))
    return scores


def recovered_statistics(job: Job, plan: Plan) -> nn.Module:
    """The network cut to ``plan``, with batch-norm statistics that fit it."""
    small = job.subject.small(plan).to(job.subject.trainer)
    if plan.removed:
        reestimate(small, job.data.calibration)
    return small


def _search(
    job: Job, goal: Goal, predictor: LayerCost | None, plan: Plan, scores: Scores, ratio: float
) -> tuple[Plan, float | None]:
    """A narrower plan whose predicted cost is ``ratio`` of the dense one's, and its predicted latency in ms."""
    budget = _budget(job, goal, predictor, ratio)
    groups = tuple(_group(name, width, scores, job.subject.choices[name]) for name, width in plan.kept_widths.items())
    priced = price(
        job.subject.network,
        job.settings.normalisation,
        parameters=job.subject.parameters,
        measured=predictor,
        correlated=correlated_of(job),
    )
    solution = greedy(Problem(groups, (budget,), priced))
    if not solution.feasible:
        raise _out_of_reach(goal, budget, solution.spent[budget.name])
    kept = {}
    for name, width in solution.widths.items():
        before = plan.kept[name]
        best = np.argsort(-scores[name], kind="stable")[:width] if name in scores else np.arange(width)
        kept[name] = [before[i] for i in best]
    narrower = Plan.keeping(job.subject.network, kept)
    # The correlated cost is no latency: the ledger's predicted milliseconds stay empty.
    return narrower, None if predictor is None or goal.correlated else predictor.predict_ms(solution.widths)


def _budget(job: Job, goal: Goal, predictor: LayerCost | None, ratio: float) -> Budget:
    name, limit = goal.target.quantity, ratio * goal.dense
    if name == "latency":
        if predictor is None:
            raise TargetError("a latency target needs a latency table")
        return Budget(name, latency_ops(job.subject.network, predictor), limit, predictor.constant_ms)
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


def _check_reachable(job: Job, goal: Goal, predictor: LayerCost | None, ratio: float) -> None:
    """Raises TargetError before anything is tried where even the narrowest widths cost too much."""
    budget = _budget(job, goal, predictor, ratio)
    least = budget.spent({name: choices[0] for name, choices in job.subject.choices.items()})
    if least > budget.limit:
        raise _out_of_reach(goal, budget, least)


def _out_of_reach(goal: Goal, budget: Budget, reached: float) -> TargetError:
    return TargetError(
        f"the target {goal.target} is out of reach",
        where=f"the best that can be reached: {format_percent(reached / goal.dense)} of the dense {goal.bounded}",
        effect="no network was written",
        fix="raise the target, or free channels with a smaller --min-width, fewer --exclude or a finer --multiple",
    )
