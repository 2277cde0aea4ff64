"""The end of a run: accuracy got back, the network written, its engines built, the speed-up certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from hwprune.cost.work import Work
from hwprune.errors import ModelError
from hwprune.files import write_atomically
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.loop.candidates import certificate_of, confirmation_of, ledger_of, tried
from hwprune.loop.job import Job
from hwprune.loop.judging import recovered_statistics
from hwprune.loop.transforming import is_rewritten, written_otherwise
from hwprune.plan import Plan
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.recovery.evaluate import evaluate
from hwprune.recovery.finetune import finetune
from hwprune.recovery.recipe import Progress
from hwprune.validation.certify import Certificate
from hwprune.validation.ledger import Candidate


def recovered(job: Job, plan: Plan, weights: Path | None) -> tuple[nn.Module, dict[str, Any]]:
    """The network cut for real, checked against the dense one, its layers rewritten where the run asks for that, with
    batch norm re-estimated and fine-tuned.

    ``weights`` are those of the network on its way down where it trained there, else None.

    Returns the network and its accuracy right after the cut, with new statistics, and after fine-tuning.

    Raises:
        ModelError: the cut network does not equal the dense one with the removed channels zeroed.
    """
    source = job.source(weights)
    small = cut(source, plan, job.subject.network)
    found: dict[str, Any] = dict(job.run.once("pruned", lambda: _check(job, source, small, plan)))
    small = recovered_statistics(job, plan, weights)
    otherwise = written_otherwise(job, small)
    if otherwise.rewritings:
        small = otherwise.of(small)
        reestimate(small, job.data.calibration)
    found["statistics"] = job.run.once("statistics", lambda: asdict(evaluate(small, job.data.validation)))
    recipe = job.settings.recipe
    if recipe.steps(len(job.data.train)) > 0:
        job.reporter.stage(f"fine-tuning ({recipe.epochs} {'epoch' if recipe.epochs == 1 else 'epochs'})")

        def heard(progress: Progress) -> None:
            job.reporter.advance(progress.step, progress.steps)
            if progress.finished is not None:
                job.run.log(f"epoch {progress.finished.number}: loss {progress.finished.loss:.4f}")

        file = job.run.path / "finetune.safetensors"
        teacher = job.subject.model if recipe.distill else None
        finetune(small, job.data, recipe, teacher=teacher, checkpoint=file, on_progress=heard)
    found["finetuned"] = job.run.once("finetuned", lambda: asdict(evaluate(small, job.data.validation)))
    return small.cpu(), found


def _check(job: Job, source: nn.Module, small: nn.Module, plan: Plan) -> dict[str, Any]:
    job.reporter.stage("cutting and verifying")
    verification = verify(source, small, plan, job.subject.network)
    if not verification.equal:
        raise ModelError(
            "the pruned network does not compute what the dense one does without the removed channels",
            where=f"relative difference {verification.error:.2g}, rounding explains {verification.tolerance:.2g}",
            effect="the network was not written",
            fix="this is a bug of hwprune: please report the model; --exclude works round it",
        )
    return {"verification": asdict(verification), "cut": asdict(evaluate(small, job.data.validation))}


def written(job: Job, small: nn.Module, plan: Plan) -> None:
    """``plan.json``, ``model.safetensors``, ``model.onnx`` and the engines of the network as it will be deployed."""
    plan.save(job.run.path / "plan.json")
    facts = {"format": "pt"}  # one entry only: several change their order from save to save
    write_safetensors(job.run.path / "model.safetensors", small.state_dict(), facts)
    write_atomically(job.run.path / "model.onnx", job.subject.onnx(small, rewritten=is_rewritten(job)))


def certified(job: Job, small: nn.Module, plan: Plan, counted: Work) -> list[Certificate | None]:
    """The paired tests against the dense network, on the weights that are delivered; None without the device.

    One for each deployment of the run, its own first. The rebuilds that confirmed candidates of these widths count
    too.
    """
    known = ledger_of(job).candidates
    rewritten = is_rewritten(job)  # then it is another network than the candidates were
    same = [] if rewritten else [one for one in known if dict(one.widths) == plan.kept_widths]
    predicted = same[0].predicted_ms if same else None
    milestone = known[-1].milestone if known else 0
    tried(job, "delivered", milestone, plan, predicted, network=small, counted=counted, rewritten=rewritten)
    return [_certified(own, small, same) for own in job.all]


def _certified(job: Job, small: nn.Module, same: Sequence[Candidate]) -> Certificate | None:
    if not job.subject.runtime.can_time:
        return None
    file = job.run.path / "candidates" / "delivered" / job.onnx_name
    path = job.run.path / (f"certificate/{job.name}.json" if job.name else "certificate.json")

    def measure() -> dict[str, Any]:
        job.reporter.stage(f"certifying against the dense network{f' with {job.name}' if job.name else ''}")
        confirmations = [confirmation_of(job, one) for one in same]
        earlier = [Certificate.load(one) for one in confirmations if one.exists()]
        certificate = certificate_of(job, file, lambda: small, earlier)
        certificate.save(path)
        return {"verdict": certificate.verdict, "ratio": certificate.comparison.ratio}

    job.run.once(job.stage("certified"), measure)
    return Certificate.load(path)
