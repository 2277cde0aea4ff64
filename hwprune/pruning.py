"""The story of one run: from a trained network and a target to a smaller network that meets it as measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
from torch import nn

from hwprune.cost.work import Work
from hwprune.data.batches import Data
from hwprune.data.fits import check_fits
from hwprune.errors import EngineError, TargetError
from hwprune.files import write_atomically
from hwprune.loop.aim import Aims
from hwprune.loop.aiming import points_of
from hwprune.loop.allocating import inherited
from hwprune.loop.beforehand import check_all
from hwprune.loop.candidates import dense_candidate, ledger_of
from hwprune.loop.damped import damped
from hwprune.loop.finish import certified, recovered, written
from hwprune.loop.job import Job
from hwprune.loop.masked import masked_down
from hwprune.loop.memory import check_told
from hwprune.loop.milestones import search_down
from hwprune.loop.place import Place
from hwprune.loop.points import point
from hwprune.loop.regularized import drawn_after, drawn_before
from hwprune.loop.reporter import Reporter, Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.loop.tables import table_path, usual_table
from hwprune.loop.transforming import work_of
from hwprune.loop.trying import missed
from hwprune.loop.unmeasured import (
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

STAGES: Final = ("cut", "statistics", "finetuned")  # after which accuracy is measured


@dataclass(frozen=True, eq=False)
class Result:
    """What a run has made.

    Attributes:
        target: that it meets, in words.
        model: the pruned network, fine-tuned, in eval mode.
        plan: which channels stay.
        accuracy: top-1 on the validation data by stage: dense, cut, statistics, finetuned.
        dense, pruned: counted work.
        candidates: every network that was tried, the dense one first and the delivered one last.
        certificate: the paired latency test; None where the device is not in this machine.
        further: the same on the further deployments of the settings, in their order.
        directory: of the run.
        unmeasured: "" where the device's latency was measured or came from a table; else, in words, what the target
            is a share of instead, and that nothing was timed.
    """

    target: str
    model: nn.Module
    plan: Plan
    accuracy: Mapping[str, float]
    dense: Work
    pruned: Work
    candidates: tuple[Candidate, ...]
    certificate: Certificate | None
    directory: Path
    unmeasured: str = ""
    further: tuple[Certificate | None, ...] = ()
    missed: tuple[str, ...] = ()


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
    if len(Target.parse_all(target)) > 1:
        raise TargetError(f"{target!r} is several targets", fix="hwprune.prune_curve meets one after the other")
    (result,) = prune_curve(
        model,
        data=data,
        targets=(target,),
        device=device,
        out=out,
        table=table,
        settings=settings,
        model_reference=model_reference,
        reporter=reporter,
        force=force,
    )
    return result


def prune_curve(
    model: nn.Module,
    *,
    data: Data,
    targets: Sequence[str],
    device: str = "cpu",
    out: str | Path = "runs/pruned",
    table: str | Path | None = None,
    settings: Settings | None = None,
    model_reference: str = "",
    reporter: Reporter | None = None,
    force: bool = False,
) -> tuple[Result, ...]:
    """Networks that meet one target after the other, from the loosest to the tightest: accuracy against latency.

    One analysis, one latency table, one calibration and one way down: each search goes on from the network that met
    the target before. Every network is fine-tuned from the dense weights and certified by itself, and lies in a run
    directory of its own in ``out/points``, unless there is one target only.

    Args:
        targets: of one kind, see `Target.parse_all`; the other arguments and errors are those of `prune`.
    """
    base = asdict(settings or Settings(targets[0]))
    asked = Settings.from_json({**base, "target": ",".join(targets), "device": device})
    file = Path(table) if table is not None else usual_table(asked)
    subject = Subject(model, data.input_shape, asked, Path(out), reporter or Silent(), model_reference)
    return begun(subject, data, file, origin={"model": model_reference}, force=force)


def begun(subject: Subject, data: Data, table: Path, *, origin: Mapping[str, Any], force: bool) -> tuple[Result, ...]:
    """A new run in the subject's folder; nothing is written there before all that can be checked is."""
    Run.check_free(subject.folder, force=force)
    subject.reporter.stage("checking the network, the data and the device")
    instead = stands_in(subject, table, usual=table_path(subject.settings))
    check_all(subject, data, None if instead else table)
    for other, other_table in _further(subject):
        check_all(other, data, other_table)
    run = Run.create(subject.folder, subject.settings.as_json(), origin=origin, force=force)
    if instead or subject.settings.normalisation == "correlated":
        remember(run, required_mixture(subject.settings), instead_of_table=instead)
    return _all_of(_job(subject, data, run, table))


def go_on(
    model: nn.Module,
    data: Data,
    settings: Settings,
    run: Run,
    *,
    table: str | Path | None = None,
    model_reference: str = "",
    reporter: Reporter | None = None,
) -> tuple[Result, ...]:
    """Do what is left of a run; every finished step is taken from its directory."""
    file = Path(table) if table is not None else usual_table(settings)
    subject = Subject(model, data.input_shape, settings, run.path, reporter or Silent(), model_reference)
    check_fits(data, model)
    return _all_of(_job(subject, data, run, file))


def _further(subject: Subject) -> Iterator[tuple[Subject, Path]]:
    """The subjects of the further deployments, with the files of their latency tables."""
    for further in subject.settings.further:
        settings = subject.settings.of_further(further)
        same = settings.batch == subject.settings.batch  # then what is exported for one does for the other
        folder = subject.folder if same else subject.folder / f"batch-{settings.batch}"
        table = Path(further.table) if further.table else usual_table(settings)
        yield Subject(subject.model, subject.input_shape, settings, folder, subject.reporter, subject.reference), table


def _job(subject: Subject, data: Data, run: Run, table: Path) -> Job:
    further = tuple(Job(other, data, run, other_table, name=other.slug) for other, other_table in _further(subject))
    return Job(subject, data, run, table, further=further)


def _all_of(job: Job) -> tuple[Result, ...]:
    subject, data, run = job.subject, job.data, job.run
    job.reporter.stage("the dense network")
    for own in job.all:
        own.keep_calibration()
    found = run.once("dense", lambda: asdict(evaluate(subject.model, data.validation, device=subject.trainer)))
    dense = dense_candidate(job)
    for engine in dense.engines[: len(job.all)]:
        if not engine.ok:
            raise EngineError(
                "the dense network's engine cannot be built",
                where=engine.error,
                effect="nothing can be compared with it",
                fix="choose another --runtime or --precision, or a longer --engine-timeout",
            )
    check_told(job, dense)
    points = points_of(job, dense)
    start = drawn_before(job)
    place = replace(Place.start(job), weights=start)
    results = []
    for aims in points:
        goal = aims[0].goal
        name = "target" if len(points) == 1 else goal.target.slug
        down = masked_down if job.settings.way == "group-fisher" else search_down
        place = down(job, aims, place, name)
        own = job if len(points) == 1 else point(job, goal, place)
        results.append(_result(own, aims, place, start, found["top1"]))
        if own is not job:
            job.reporter.note(f"{goal.target}: finished in {own.run.path}")
    if len(results) > 1:
        write_atomically(run.path / "curve.csv", _frame(results).to_csv(index=False).encode())
    return tuple(results)


def _result(job: Job, aims: Aims, place: Place, start: Path | None, dense_top1: float) -> Result:
    """The network at this place, recovered, written and certified; ``start`` has the weights of the way's beginning."""
    plan, weights = drawn_after(job, *inherited(job, place.plan, place.weights, start))
    small, found = recovered(job, plan, damped(job, plan, weights))
    written(job, small, plan)
    counted = work_of(job, small, plan)
    certificate, *further = certified(job, small, plan, counted)
    result = Result(
        target=str(aims[0].goal.target),
        model=small,
        plan=plan,
        accuracy={"dense": dense_top1, **{stage: found[stage]["top1"] for stage in STAGES}},
        dense=job.subject.work(),
        pruned=counted,
        candidates=ledger_of(job).candidates,
        certificate=certificate,
        directory=job.run.path,
        unmeasured=told(job, plan.kept_widths),
        further=tuple(further),
        missed=missed(aims, (certificate, *further), job.run.path),
    )
    job.run.once("result", lambda: _summary(result))
    return result


def _frame(results: Sequence[Result]) -> pd.DataFrame:
    """A row for each point of a curve."""
    rows = []
    for result in results:
        found = result.certificate.comparison if result.certificate else None
        rows.append(
            {
                "target": result.target,
                "latency_ratio": found.ratio if found else None,
                "latency_ratio_low": found.low if found else None,
                "latency_ratio_high": found.high if found else None,
                **{f"top1_{stage}": result.accuracy[stage] for stage in ("dense", *STAGES)},
                **asdict(result.pruned),
                "directory": result.directory.name,
            }
        )
    return pd.DataFrame(rows)


def _summary(result: Result) -> dict[str, Any]:
    return {
        "accuracy": dict(result.accuracy),
        "dense": asdict(result.dense),
        "pruned": asdict(result.pruned),
        "certificate": result.certificate.as_dict() if result.certificate else None,
        "further": [one.as_dict() if one else None for one in result.further],
        "unmeasured": result.unmeasured,
        "missed": list(result.missed),
        "engines": [
            {"candidate": c.id, "runtime": e.runtime, "device": e.device, "ok": e.ok, "size_bytes": e.size_bytes}
            for c in result.candidates
            for e in c.engines
        ],
    }
