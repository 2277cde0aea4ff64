"""What became of the candidates at a target: measured, confirmed, told, and what the next one is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

from hwprune.errors import TargetError
from hwprune.loop.aim import Aim, Aims
from hwprune.loop.candidates import certificate_of, confirmation_of
from hwprune.loop.goal import amount_of
from hwprune.loop.job import Job
from hwprune.loop.unmeasured import correlated_of
from hwprune.plan import Plan
from hwprune.units import format_percent
from hwprune.validation.certify import Certificate
from hwprune.validation.ledger import Candidate

# That a candidate is within its target, before it is taken: 82 to 100 % of simulated networks, as machines are noisy or
# quiet, then end at 97 to 100 % of it, and 5.4 % at most above. With the end of the certificate's own interval in its
# place 59 to 96 % do, the others below (`benchmarks/interval_coverage.py`).
SURE: Final = 0.9


def meets(aims: Aims, measured: Sequence[float]) -> bool:
    """Whether these shares of the dense latencies are within all goals."""
    return all(taken <= aim.goal.ratio for aim, taken in zip(aims, measured, strict=True))


def fullest(aims: Aims, measured: Sequence[float]) -> float:
    """The largest share of a target that is taken."""
    return max(taken / aim.goal.ratio for aim, taken in zip(aims, measured, strict=True))


@dataclass(frozen=True)
class Try:
    """A candidate at the last milestone.

    Attributes:
        corrections: steps by which each latency was aimed lower.
        factor: by which the memory was aimed lower.
        measured: its share of each dense latency; 0 where none is bounded or the device is not here.
        fits: whether its engine was measured within the bound on memory.
        met: whether it meets all that was asked.
    """

    candidate: Candidate
    corrections: tuple[int, ...]
    factor: float
    measured: tuple[float, ...]
    fits: bool
    met: bool


def mended(aim: Aim, tries: Sequence[Try]) -> int:
    """The correction after a try that was not taken: what it teaches, but between tries too slow and tries within.

    One that was tried before where nothing is left between them.
    """
    last, place = tries[-1], aim.place
    before, measured = last.corrections[place], last.measured[place]
    if not aim.goal.measured:
        return before
    taught = aim.steps(measured, last.candidate.widths, before)
    wanted = max(before + 1, taught) if measured > aim.goal.ratio else min(before, taught)
    slow = [one.corrections[place] for one in tries if one.measured[place] > aim.goal.ratio]
    within = [one.corrections[place] for one in tries if one.measured[place] <= aim.goal.ratio]
    if slow and within and not max(slow) < wanted < min(within):
        return (max(slow) + min(within) + 1) // 2
    return wanted


def never_met(job: Job, aims: Aims, tries: Sequence[Try]) -> TargetError:
    """The error where none of the candidates has met its goals."""
    best = min(tries, key=lambda one: fullest(aims, one.measured))
    found = [
        f"{format_percent(taken)} of the dense latency{aim.where}"
        for aim, taken in zip(aims, best.measured, strict=True)
        if aim.goal.measured
    ]
    memory = aims[0].goal.memory
    if memory is not None:
        found += [memory.told(one.candidate) for one in tries if not one.fits][-1:]
    bound = f" within --max-memory {memory.limit}" if memory is not None else ""
    asked = " and ".join(f"{aim.goal.target}{aim.where}" for aim in aims)
    return TargetError(
        f"no candidate was measured at {asked}{bound}",
        where=f"best of {len(tries)}: {', '.join(found)}",
        effect=f"all candidates are in {job.run.path / 'ledger.parquet'}",
        fix="prune again with a higher target or more --tries; the latency table is kept, so that takes less time",
    )


def confirmed(aims: Aims, candidate: Candidate, plan: Plan, *, fits: bool) -> tuple[float, ...]:
    """The candidate's share of each dense latency; infinite where no engine of it could be timed.

    Two builds of one network differ by a percent or two. So one that seems to meet its goals takes the paired test with
    rebuilt engines that the delivered network will take, and counts as slow as it is at most with `SURE`. One that
    misses a goal or does not fit into the memory will not be delivered, and is not tested.
    """
    seen = [0.0 if not aim.goal.measured else inf if (m := aim.measured(candidate)) is None else m for aim in aims]
    if not fits or not meets(aims, seen):
        return tuple(seen)

    def test(job: Job) -> float:
        job.reporter.stage(f"{candidate.id}: certifying{f' with {job.name}' if job.name else ''}")
        file = job.run.path / "candidates" / candidate.id / job.onnx_name
        certificate = certificate_of(job, file, partial(job.subject.small, plan))
        certificate.save(confirmation_of(job, candidate))
        return certificate.upper(SURE)

    return tuple(
        float(aim.job.run.once(aim.job.stage(f"{candidate.id} confirmed"), partial(test, aim.job)))
        if aim.goal.measured
        else 0.0
        for aim in aims
    )


def missed(aims: Aims, certificates: Sequence[Certificate | None], run: Path) -> tuple[str, ...]:
    """A sentence for each certificate of a delivered network whose ratio is above the target.

    Its candidate was confirmed within the target, but that was before the last training, and the ratio itself changes
    with what else a shared machine does.
    """
    return tuple(
        f"Above the target {aim.goal.target}{aim.where} when measured last: {format_percent(found.comparison.ratio)}. "
        f"The same widths were confirmed within it before; certify again on an idle machine: hwprune certify {run}"
        for aim, found in zip(aims, certificates, strict=True)
        if found is not None and aim.goal.measured and found.comparison.ratio > aim.goal.ratio
    )


def tell(aims: Aims, candidate: Candidate) -> None:
    """A line about a candidate: predicted beside measured, on every deployment."""
    job = aims[0].job
    cost = job.subject.work(candidate.widths)
    parts = [f"{format_percent(cost.macs / job.subject.work().macs)} of the MACs"]
    for aim in aims:
        goal, measured = aim.goal, aim.measured(candidate)
        if goal.correlated and (correlated := correlated_of(job)) is not None:
            parts.append(f"{goal.bounded} {format_percent(correlated.share(candidate.widths))}")
        elif goal.target.quantity == "latency" and (predicted := aim.predicted_ms(candidate.widths)) is not None:
            parts.append(f"latency{aim.where} predicted {format_percent(predicted / goal.dense)}")
        elif goal.target.quantity != "latency":
            parts.append(f"{goal.target.title} {format_percent(amount_of(cost, goal.target) / goal.dense)}")
        parts.append("latency not measured" if measured is None else f"measured {format_percent(measured)}")
    if aims[0].goal.memory is not None:
        parts.append(aims[0].goal.memory.told(candidate))
    job.reporter.note(f"{candidate.id}: {', '.join(parts)}")
