"""The story of one run: from a trained network and a target to a smaller network that meets it as measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from hwprune.cost.normalisation import LayerCost
from hwprune.cost.work import Work
from hwprune.data.batches import Data
from hwprune.data.fits import check_fits
from hwprune.errors import EngineError
from hwprune.loop.beforehand import check_all
from hwprune.loop.candidates import dense_candidate, ledger_of
from hwprune.loop.finish import certified, recovered, written
from hwprune.loop.goal import Goal, goal_of, needs_table
from hwprune.loop.job import Job
from hwprune.loop.memory import check_told, memory_goal
from hwprune.loop.milestones import search_down
from hwprune.loop.prediction import calibrated, measured_table
from hwprune.loop.reporter import Reporter, Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.loop.tables import begin_with_shipped, table_path, usual_table
from hwprune.loop.unmeasured import (
    correlated_of,
    has_stand_in,
    remember,
    required_mixture,
    stands_in,
    told,
)
from hwprune.plan import Plan
from hwprune.recovery.evaluate import evaluate
from hwprune.run import Run
from hwprune.target import Target
from hwprune.validation.certify import Certificate
from hwprune.validation.ledger import Candidate


@dataclass(frozen=True, eq=False)
class Result:
    """What a run has made.

    Attributes:
        model: the pruned network, fine-tuned, in eval mode.
        plan: which channels stay.
        accuracy: top-1 on the validation data by stage: dense, cut, statistics, finetuned.
        dense, pruned: counted work.
        candidates: every network that was tried, the dense one first and the delivered one last.
        certificate: the paired latency test; None where the device is not in this machine.
        directory: of the run.
        unmeasured: "" where the device's latency was measured or came from a table; else, in words, what the target
            is a share of instead, and that nothing was timed.
    """

    model: nn.Module
    plan: Plan
    accuracy: Mapping[str, float]
    dense: Work
    pruned: Work
    candidates: tuple[Candidate, ...]
    certificate: Certificate | None
    directory: Path
    unmeasured: str = ""


def prune(
    model: nn.Module,
    *,
    data: Data,
    target: str,
    device: str = "cpu",
    out: str | Path = "runs/pruned",
    table: str | Path | None = None,
    settings: Settings | None = None,
    model_reference: str = "",
    reporter: Reporter | None = None,
    force: bool = False,
) -> Result:
    """Make ``model`` meet ``target`` on ``device``, losing as little accuracy as can be; ``model`` stays as it is.

    Args:
        model: a trained classifier.
        data: see `hwprune.data.load.load_data`.
        target: "60%" of the dense latency, "1.5ms", "macs:2G", "params:50%", "memory:4M".
        device: "cpu", "cuda", or a name such as "rtx3090".
        out: a new run directory.
        table: latency table; None takes the user's own for this device, runtime and precision, else what ships.
        settings: everything else; its target and device give way to the ones above.
        model_reference: how `hwprune.load` finds the network again.
        reporter: hears of progress.
        force: replace a run that is in ``out``.

    Raises:
        HwpruneError: one of its kinds, saying what, where and how to mend it. Ctrl-C leaves a run that `resume` ends.
    """
    base = asdict(settings or Settings(target))
    asked = Settings.from_json({**base, "target": target, "device": device})
    file = Path(table) if table is not None else usual_table(asked)
    subject = Subject(model, data.input_shape, asked, Path(out), reporter or Silent(), model_reference)
    return begun(subject, data, file, origin={"model": model_reference}, force=force)


def begun(subject: Subject, data: Data, table: Path, *, origin: Mapping[str, Any], force: bool) -> Result:
    """A new run in the subject's folder; nothing is written there before all that can be checked is."""
    Run.check_free(subject.folder, force=force)
    subject.reporter.stage("checking the network, the data and the device")
    instead = stands_in(subject, table, usual=table_path(subject.settings))
    check_all(subject, data, None if instead else table)
    run = Run.create(subject.folder, subject.settings.as_json(), origin=origin, force=force)
    if instead or subject.settings.normalisation == "correlated":
        remember(run, required_mixture(subject.settings), instead_of_table=instead)
    return _all_of(Job(subject, data, run, table))


def go_on(
    model: nn.Module,
    data: Data,
    settings: Settings,
    run: Run,
    *,
    table: str | Path | None = None,
    model_reference: str = "",
    reporter: Reporter | None = None,
) -> Result:
    """Do what is left of a run; every finished step is taken from its directory."""
    file = Path(table) if table is not None else usual_table(settings)
    subject = Subject(model, data.input_shape, settings, run.path, reporter or Silent(), model_reference)
    check_fits(data, model)
    return _all_of(Job(subject, data, run, file))


def _all_of(job: Job) -> Result:
    subject, data, run = job.subject, job.data, job.run
    job.reporter.stage("the dense network")
    job.keep_calibration()
    found = run.once("dense", lambda: asdict(evaluate(subject.model, data.validation, device=subject.trainer)))
    accuracy = {"dense": found["top1"]}
    dense = dense_candidate(job)
    if not dense.engines[0].ok:
        raise EngineError(
            "the dense network's engine cannot be built",
            where=dense.engines[0].error,
            effect="nothing can be compared with it",
            fix="choose another --runtime or --precision, or a longer --engine-timeout",
        )
    check_told(job, dense)
    goal, predictor = _goal(job, dense.dense_ms)
    goal = replace(goal, memory=memory_goal(job, dense, predictor))
    plan = search_down(job, goal, predictor)
    small, found = recovered(job, plan)
    certificate = certified(job, small, plan, written(job, small, plan))
    accuracy |= {stage: found[stage]["top1"] for stage in ("cut", "statistics", "finetuned")}
    result = Result(
        model=small,
        plan=plan,
        accuracy=accuracy,
        dense=subject.work(),
        pruned=subject.work(plan.kept_widths),
        candidates=ledger_of(job).candidates,
        certificate=certificate,
        directory=run.path,
        unmeasured=told(job, plan.kept_widths),
    )
    run.once("result", lambda: _summary(result))
    return result


def _goal(job: Job, dense_ms: float | None) -> tuple[Goal, LayerCost | None]:
    """The goal, and the predictor that the search needs; None once the search is done, or where it needs none.

    A target that is not below the dense latency is refused before anything else is measured. Where the device is not
    here (``dense_ms`` is None), the table says what the dense network takes, or the mixture that stands in for it.
    """
    subject, run = job.subject, job.run
    latency = Target.parse(job.settings.target).quantity == "latency"
    goal = goal_of(job, dense_ms) if dense_ms is not None or not latency else None
    dense = "correlated dense cost" if has_stand_in(run) else "predicted dense latency"
    predictor: LayerCost | None = None
    if "target" not in run.stages and needs_table(subject):
        if has_stand_in(run):
            predictor = correlated_of(job)
        else:
            if job.table == table_path(job.settings):
                begin_with_shipped(job.table, job.settings, job.reporter)
            predictor = calibrated(job, measured_table(subject, job.table), dense_ms)
        if goal is None and predictor is not None:
            run.keep(dense, predictor.predict_ms(subject.network.widths))
    return goal or goal_of(job, run.kept(dense)), predictor


def _summary(result: Result) -> dict[str, Any]:
    return {
        "accuracy": dict(result.accuracy),
        "dense": asdict(result.dense),
        "pruned": asdict(result.pruned),
        "certificate": result.certificate.as_dict() if result.certificate else None,
        "unmeasured": result.unmeasured,
        "engines": [
            {"candidate": c.id, "runtime": e.runtime, "device": e.device, "ok": e.ok, "size_bytes": e.size_bytes}
            for c in result.candidates
            for e in c.engines
        ],
    }
