"""The dense and the pruned network of a finished run, in the form that a runtime takes and at any batch size."""

from __future__ import annotations

from pathlib import Path

import torch

from hwprune.cli.opening import Origin
from hwprune.device import resolve
from hwprune.errors import HwpruneError, RunError
from hwprune.files import write_atomically
from hwprune.loop.saved import load
from hwprune.loop.settings import Settings
from hwprune.plan import Plan
from hwprune.run import Run
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RUNTIMES, RuntimeSpec, spec_for
from hwprune.validation.certify import Source

ONNX_FILES = ("dense.onnx", "model.onnx")


def finished(path: Path) -> tuple[Run, Settings]:
    """The run of a directory and what was asked of it. Raises `RunError` where it is not finished."""
    run = Run.resume(path)
    settings = Settings.from_json(run.settings)
    for name in ONNX_FILES:
        if not (path / name).exists():
            raise RunError(f"{path / name} is not there: the run is not finished", fix=f"hwprune prune --resume {path}")
    return run, settings


def asked_spec(settings: Settings, device: str, runtime: str | None, precision: str | None) -> RuntimeSpec:
    """What the command line asks for; what it leaves out is the run's own, but for the runtime of another device."""
    chosen = runtime if device or runtime else settings.runtime
    return spec_for(
        resolve(device or settings.device), chosen, precision=precision or settings.precision, threads=settings.threads
    )


def sources(run: Run, settings: Settings, spec: RuntimeSpec, batch: int) -> tuple[Source, Source]:
    """The dense and the pruned network for a runtime.

    The run's ONNX files where they fit; at another batch size both networks are exported again, into the run's
    ``batch-N`` folder. The pytorch runtime takes modules.

    Raises:
        RunError: the networks are needed as modules, and the run's model cannot be loaded by name.
    """
    if batch < 1:
        raise HwpruneError(f"the batch size cannot be {batch}", fix="it is at least 1")
    reads_onnx = spec.name != "pytorch" and spec.name in RUNTIMES
    if reads_onnx and batch == settings.batch:
        return run.path / ONNX_FILES[0], run.path / ONNX_FILES[1]
    folder = run.path / f"batch-{batch}"
    files = [folder / name for name in ONNX_FILES]
    if reads_onnx and all(file.exists() for file in files):
        return files[0], files[1]
    generator = torch.Generator().manual_seed(0)
    shapes = Plan.load(run.path / "plan.json").input_shapes
    inputs = tuple(torch.randn(batch, *shape[1:], generator=generator) for shape in shapes)
    modules = Origin.from_json(run.origin).open_model(), load(run.path)
    if not reads_onnx:
        return (modules[0], inputs), (modules[1], inputs)
    for file, module in zip(files, modules, strict=True):
        write_atomically(file, export(module, inputs))
    return files[0], files[1]


def file_for(run: Run, settings: Settings, spec: RuntimeSpec, batch: int, stem: str) -> Path:
    """Where a result lies: ``STEM.json`` for the run's own runtime, else in ``STEM/`` under the runtime's name."""
    own = asked_spec(settings, "", None, None)
    if spec == own and batch == settings.batch:
        return run.path / f"{stem}.json"
    return run.path / stem / f"{spec.name}-{resolve(spec.device).slug}-{spec.precision}-batch{batch}.json"
