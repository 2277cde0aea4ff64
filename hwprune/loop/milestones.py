"""The way down to the target: refresh importance, search, build and measure a candidate, correct, repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, inf, log

from safetensors.numpy import load_file, save
from torch import nn

from hwprune.cost.normalisation import LayerCost
from hwprune.errors import HwpruneError, TargetError
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.importance.criterion import Criterion, Scores, cross_entropy
from hwprune.importance.fisher import Fisher
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.taylor import Taylor
from hwprune.latency.predictor import Predictor
from hwprune.loop.candidates import certificate_of, ledger_of, tried
from hwprune.loop.goal import Goal, amount_of, milestones_of
from hwprune.loop.job import Job
from hwprune.loop.searching import check_reachable, searched
from hwprune.loop.unmeasured import correlated_of
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from hwprune.units import format_percent
from hwprune.validation.ledger import Candidate

CRITERIA: Mapping[str, Criterion] = {c.name: c for c in (Fisher(), Magnitude(), Taylor())}
# Measured over predicted is corrected in steps of this ratio, so that noise below it does not change the widths.
STEP = 1.02
CLOSE = 0.97  # a candidate between this share of the target and the target is taken


def search_down(job: Job, goal: Goal, predictor: LayerCost | None) -> Plan:
    """The plan that meets the goal, as measured where the device is here.

    Raises:
        TargetError: out of reach; says the best that can be reached.
    """
    plan = Plan.keeping(job.subject.network, {})
    *on_the_way, last = milestones_of(goal, job.settings.milestones)
    if "target" not in job.run.stages:
        check_reachable(job, goal, predictor, last)
    correction = int(job.run.once("margin", lambda: _margin(job, goal, predictor, last)))
    for number, ratio in enumerate(on_the_way, start=1):
        name = f"milestone-{number}"
        step = partial(_milestone, job, goal, predictor, plan, number, ratio, correction)
        correction = int(job.run.once(name, step))
        plan = Plan.load(job.run.path / "candidates" / name / "plan.json")
    final: str = job.run.once("target", lambda: _approach(job, goal, predictor, plan, last, correction))
    return Plan.load(job.run.path / "candidates" / final / "plan.json")


def _margin(job: Job, goal: Goal, predictor: LayerCost | None, ratio: float) -> int:
    """Steps to aim below the target by at first: the predictor's band, as far as the narrowest widths reach.

    What is measured on the way replaces it.
    """
    if goal.target.quantity != "latency" or not isinstance(predictor, Predictor):
        return 0
    steps = ceil(log(1 + predictor.band) / log(STEP) - 1e-9)
    while steps > 0:
        try:
            check_reachable(job, goal, predictor, ratio / STEP**steps)
            break
        except TargetError:
            steps -= 1
    return steps


def _milestone(
    job: Job, goal: Goal, predictor: LayerCost | None, plan: Plan, number: int, ratio: float, correction: int
) -> int:
    """One milestone on the way: its candidate is tried; returns the correction that it teaches."""
    scores = importance(job, plan, number)
    memory = None
    if goal.memory is not None:
        share = number / len(milestones_of(goal, job.settings.milestones))
        memory = goal.memory.budget(share, _memory_factor(job, goal, number, []))
    narrower, predicted = searched(job, goal, predictor, plan, scores, ratio / STEP**correction, memory)
    candidate = tried(job, f"milestone-{number}", number, narrower, predicted)
    _tell(job, candidate, goal)
    return _correction(candidate, predicted, goal, correction)


def _approach(job: Job, goal: Goal, predictor: LayerCost | None, plan: Plan, ratio: float, correction: int) -> str:
    """Candidates at the last milestone until one is measured at or just under the target; the best one's name."""
    number = len(milestones_of(goal, job.settings.milestones))
    scores = importance(job, plan, number)
    tries: list[_Try] = []
    while len(tries) < job.settings.tries:
        factor = _memory_factor(job, goal, number, [one.candidate for one in tries])
        if any((correction, factor) == (one.correction, one.factor) for one in tries):
            break
        memory = None if goal.memory is None else goal.memory.budget(1.0, factor)
        narrower, predicted = searched(job, goal, predictor, plan, scores, ratio / STEP**correction, memory)
        if memory is not None and any(dict(one.candidate.widths) == narrower.kept_widths for one in tries):
            break  # its engine would take as much again
        candidate = tried(job, f"target-{len(tries) + 1}", number, narrower, predicted)
        _tell(job, candidate, goal)
        fits = goal.memory is None or goal.memory.met_by(candidate)
        measured = _confirmed(job, candidate, narrower, goal, fits=fits) if goal.measured else 0.0
        tries.append(_Try(candidate, correction, factor, measured, fits))
        if measured > goal.ratio:
            correction = max(correction + 1, _steps(measured, predicted, goal, correction))
        elif fits and (not goal.measured or measured >= CLOSE * goal.ratio):
            break
        elif goal.measured:
            correction = min(correction, _steps(measured, predicted, goal, correction))
    met = [one for one in tries if one.measured <= goal.ratio and one.fits]
    if not met:
        raise _never_met(job, goal, tries)
    return max(met, key=lambda one: one.measured).candidate.id


@dataclass(frozen=True)
class _Try:
    """A candidate at the last milestone.

    Attributes:
        correction: steps by which the latency was aimed lower.
        factor: by which the memory was aimed lower.
        measured: its share of the dense latency; 0 where latency is not the target.
        fits: whether its engine was measured within the bound on memory.
    """

    candidate: Candidate
    correction: int
    factor: float
    measured: float
    fits: bool


def _never_met(job: Job, goal: Goal, tries: Sequence[_Try]) -> TargetError:
    found = []
    if goal.measured:
        found.append(f"{format_percent(min(one.measured for one in tries))} of the dense latency")
    if goal.memory is not None:
        found += [goal.memory.told(one.candidate) for one in tries if not one.fits][-1:]
    bound = f" within --max-memory {goal.memory.limit}" if goal.memory is not None else ""
    return TargetError(
        f"no candidate was measured at {goal.target}{bound}",
        where=f"best of {len(tries)}: {', '.join(found)}",
        effect=f"all candidates are in {job.run.path / 'ledger.parquet'}",
        fix="prune again with a higher target or more --tries; the latency table is kept, so that takes less time",
    )


def _memory_factor(job: Job, goal: Goal, number: int, tries: Sequence[Candidate]) -> float:
    """Measured over predicted memory, as the milestone before ``number`` and the ``tries`` since have taught it."""
    last = [one for one in ledger_of(job).candidates if one.id == f"milestone-{number - 1}"]
    return 1.0 if goal.memory is None else goal.memory.factor([*last, *tries])


def _confirmed(job: Job, candidate: Candidate, plan: Plan, goal: Goal, *, fits: bool) -> float:
    """The candidate's share of the dense latency; infinite where no engine of it could be timed.

    Two builds of one network differ by a percent or two. So one that seems to meet the goal takes the paired test with
    rebuilt engines that the delivered network will take, and counts as slow as the upper end of its interval. One that
    does not fit into the memory will not be delivered, and is not tested.
    """
    if candidate.ratio is None:
        return inf
    if candidate.ratio > goal.ratio or not fits:
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
        parts.append(f"{goal.target.title} {format_percent(amount_of(cost, goal.target) / goal.dense)}")
    measured = "latency not measured" if candidate.ratio is None else f"measured {format_percent(candidate.ratio)}"
    memory = [goal.memory.told(candidate)] if goal.memory is not None else []
    job.reporter.note(f"{candidate.id}: {', '.join([*parts, measured, *memory])}")


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
