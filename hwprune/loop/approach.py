"""Candidates for one goal until one is measured at or just under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwprune.importance.criterion import Scores
from hwprune.loop.aim import STEP, Aims
from hwprune.loop.candidates import ledger_of, tried
from hwprune.loop.job import Job
from hwprune.loop.place import Place
from hwprune.loop.searching import searched
from hwprune.loop.trying import Try, confirmed, fullest, meets, mended, never_met, tell
from hwprune.search.alternatives import Bounds
from hwprune.search.problem import Budget
from hwprune.validation.ledger import Candidate

CLOSE = 0.98  # a candidate that is at most this share of a target, or more up to the target, is taken


def lower(ratios: Sequence[float], corrections: Sequence[int]) -> list[float]:
    """What to aim at, so that these ratios are measured."""
    return [ratio / STEP**steps for ratio, steps in zip(ratios, corrections, strict=True)]


def approach(
    job: Job,
    aims: Aims,
    place: Place,
    scores: Scores,
    ratios: Sequence[float],
    name: str,
    bounds: Bounds,
) -> str:
    """Candidates at the last milestone until one is measured at or just under all targets; the best one's name.

    ``bounds`` hold the widths of groups. Raises `TargetError` where none of the candidates meets the targets.
    """
    number, corrections = place.milestones + 1, place.corrections
    bound = aims[0].goal.memory
    tries: list[Try] = []
    while len({one.candidate.id for one in tries}) < job.settings.tries:
        factor = _memory_factor(job, aims, place, [one.candidate for one in tries])
        if any((corrections, factor) == (one.corrections, one.factor) for one in tries):
            break
        memory = None if bound is None else bound.budget(1.0, factor)
        narrower = searched(job, aims, place, scores, lower(ratios, corrections), memory, bounds)
        widths = narrower.kept_widths
        again = [one for one in tries if dict(one.candidate.widths) == widths]
        if again and memory is not None:
            break  # its engine would take as much again
        if again:
            tries.append(replace(again[0], corrections=corrections))
        else:
            candidate = tried(job, f"{name}-{len(tries) + 1}", number, narrower, aims[0].predicted_ms(widths))
            tell(aims, candidate)
            fits = bound is None or bound.met_by(candidate)
            measured = confirmed(aims, candidate, narrower, fits=fits)
            tries.append(Try(candidate, corrections, factor, measured, fits, meets(aims, measured) and fits))
        if tries[-1].met and (not any(aim.goal.measured for aim in aims) or fullest(aims, tries[-1].measured) >= CLOSE):
            break
        corrections = tuple(mended(aim, tries) for aim in aims)
    met = [one for one in tries if one.met]
    if not met:
        raise never_met(job, aims, tries)
    return max(met, key=lambda one: fullest(aims, one.measured)).candidate.id


def memory_budget(job: Job, aims: Aims, place: Place, share: float = 1.0) -> Budget | None:
    """What may be spent of the memory ``share`` of the way down, as the candidate at ``place`` has taught it.

    None where memory is not bounded.
    """
    memory = aims[0].goal.memory
    return None if memory is None else memory.budget(share, _memory_factor(job, aims, place, []))


def _memory_factor(job: Job, aims: Aims, place: Place, tries: Sequence[Candidate]) -> float:
    """Measured over predicted memory, as the candidate at ``place`` and the ``tries`` since have taught it."""
    memory = aims[0].goal.memory
    last = [one for one in ledger_of(job).candidates if one.id == place.candidate]
    return 1.0 if memory is None else memory.factor([*last, *tries])
