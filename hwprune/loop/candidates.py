"""One candidate: cut, exported, its engines built in child processes, timed where the device is, written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from torch import nn

from hwprune.clocks import watch_for
from hwprune.cost.work import Work
from hwprune.files import write_atomically
from hwprune.loop.job import Job
from hwprune.plan import Plan
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.certify import Certificate, Source, certify
from hwprune.validation.engine import EngineReport, build_engine, measure_ratio
from hwprune.validation.ledger import Candidate, Ledger

FP32_BYTES = 4


def ledger_of(job: Job) -> Ledger:
    """The run's ledger."""
    return Ledger(job.run.path / "ledger.parquet")


def tried(
    job: Job,
    name: str,
    milestone: int,
    plan: Plan,
    predicted_ms: float | None,
    *,
    network: nn.Module | None = None,
    counted: Work | None = None,
    rewritten: bool = False,
) -> Candidate:
    """The candidate of that name: from the ledger when it is there, else built and measured now.

    ``network`` is the cut network where it has weights of its own by now; else the dense one's are cut. ``counted`` is
    its work where that does not follow from the plan, and ``rewritten`` whether layers of it were rewritten.

    A builder that crashes, hangs or refuses is written down and costs this candidate only.
    """
    ledger = ledger_of(job)
    known = next((c for c in ledger.candidates if c.id == name and dict(c.widths) == plan.kept_widths), None)
    if known is not None:
        return known
    job.reporter.stage(f"{name}: building engines")
    small = job.subject.small(plan) if network is None else network
    folder = job.run.path / "candidates" / name
    plan.save(folder / "plan.json")
    for own in job.all:
        write_atomically(folder / own.onnx_name, own.subject.onnx(small, rewritten=rewritten))
    reports = [_timed(own, folder / own.onnx_name, small, folder) for own in job.all]
    for number, spec in enumerate(job.subject.validators, start=1):
        job.reporter.advance(number, 1 + len(job.subject.validators))
        reports.append(_engine(job, folder / job.onnx_name, spec, folder))
    main = reports[0].beside
    counted = counted or job.subject.work(plan.kept_widths)
    candidate = Candidate(
        id=name,
        milestone=milestone,
        widths=plan.kept_widths,
        predicted_ms=predicted_ms,
        macs=counted.macs,
        parameters=counted.parameters,
        activation_bytes=counted.activation_elements * FP32_BYTES,
        measured_ms=main.candidate_ms if main else None,
        dense_ms=main.dense_ms if main else None,
        ratio=main.ratio if main else None,
        p95_ms=reports[0].p95_ms,
        engines=tuple(reports),
    )
    ledger.append(candidate)
    job.run.log(f"candidate {name}: predicted {predicted_ms} ms, measured {candidate.ratio} of the dense latency")
    return candidate


def certificate_of(
    job: Job, file: Path, small: Callable[[], nn.Module], earlier: Sequence[Certificate] = ()
) -> Certificate:
    """The paired test of a cut network against the dense one: of its ONNX file where the runtime reads one."""
    subject = job.subject
    networks: tuple[Source, Source] = (subject.dense_onnx, file)
    if not subject.runtime.reads_onnx:
        networks = (subject.model, subject.inputs), (small(), subject.inputs)
    return certify(*networks, subject.spec, batch=job.settings.batch, earlier=earlier, on_progress=job.reporter.advance)


def confirmation_of(job: Job, candidate: Candidate) -> Path:
    """File of the certificate that a candidate got before it was delivered."""
    name = f"{job.name}-certificate.json" if job.name else "certificate.json"
    return job.run.path / "candidates" / candidate.id / name


def dense_candidate(job: Job) -> Candidate:
    """The dense network as the ledger's first row, timed against itself: its ratio shows the noise."""
    if not all(own.subject.exported for own in job.all):
        raise RuntimeError("the dense network was not exported")
    full = Plan.keeping(job.subject.network, {})
    return tried(job, "dense", 0, full, None)


def _timed(job: Job, file: Path, small: nn.Module, folder: Path) -> EngineReport:
    """The engine of a deployment: in a child process where the runtime reads ONNX, else in this one."""
    if job.subject.runtime.reads_onnx:
        beside = job.subject.dense_onnx if job.subject.runtime.can_time else None
        return _engine(job, file, job.subject.spec, folder, beside=beside)
    started = time.monotonic()
    with closing(job.subject.engine(small)) as engine, closing(job.subject.engine(job.subject.model)) as dense:
        build_s = time.monotonic() - started
        ratio = measure_ratio(dense, engine, watch=watch_for(job.subject.runtime.cuda_index))
        memory = engine.memory()
        return EngineReport(
            ok=True,
            error="",
            runtime=job.subject.spec.name,
            device=job.subject.spec.device,
            precision=job.subject.runtime.precision,
            version=job.subject.runtime.version,
            build_s=build_s,
            size_bytes=engine.size_bytes,
            activation_bytes=memory.activation_bytes,
            weight_bytes=memory.weight_bytes,
            samples_ms=engine.time(warmup=3, repeats=30),
            beside=ratio,
        )


def _engine(job: Job, file: Path, spec: RuntimeSpec, folder: Path, beside: Path | None = None) -> EngineReport:
    out = folder / f"{job.name or f'{spec.name}-{spec.device}'}.engine"
    report = build_engine(file, spec, out=out, beside=beside, timeout_s=job.settings.engine_timeout_s)
    if not report.ok:
        job.reporter.note(f"no engine from {spec.name} for {spec.device}: {report.error.splitlines()[0]}")
    return report
