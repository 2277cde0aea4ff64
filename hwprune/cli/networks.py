"""The dense and the pruned network of a finished run, in the form that a runtime takes and at any batch size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hwprune.cli.opening import Origin
from hwprune.device import resolve
from hwprune.errors import HwpruneError, RunError
from hwprune.files import write_atomically
from hwprune.loop.saved import load
from hwprune.loop.settings import Settings
from hwprune.plan import Plan
from hwprune.run import Run
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RuntimeSpec, slug_of, spec_for, with_files
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


def asked_spec(run: Run, settings: Settings, device: str, runtime: str | None, precision: str | None) -> RuntimeSpec:
    """What the command line asks for; what it leaves out is the run's own, but for the runtime of another device.

    Calibration inputs and tactics' timings are those that lie beside the run.
    """
    chosen = runtime if device or runtime else settings.runtime
    spec = spec_for(
        resolve(device or settings.device), chosen, precision=precision or settings.precision, threads=settings.threads
    )
    return with_files(spec, run.path)


def sources(run: Run, settings: Settings, spec: RuntimeSpec, batch: int) -> tuple[Source, Source]:
    """The dense and the pruned network for a runtime: ONNX files, or modules for the pytorch runtime.

    Raises:
        HwpruneError: the batch size is none; or the networks are needed as modules, and the run's model cannot be
            loaded by name.
    """
    if spec.name != "pytorch":
        return exported(run, settings, batch)
    modules, inputs = _modules(run, batch)
    return (modules[0], inputs), (modules[1], inputs)


def exported(run: Run, settings: Settings, batch: int) -> tuple[Path, Path]:
    """ONNX files of both networks: the run's own, or for another batch size new ones in its ``batch-N`` folder."""
    if batch < 1:
        raise HwpruneError(f"the batch size cannot be {batch}", fix="it is at least 1")
    folder = run.path if batch == settings.batch else run.path / f"batch-{batch}"
    dense, pruned = (folder / name for name in ONNX_FILES)
    if not (dense.exists() and pruned.exists()):
        modules, inputs = _modules(run, batch)
        for file, module in zip((dense, pruned), modules, strict=True):
            write_atomically(file, export(module, inputs))
    return dense, pruned


def _modules(run: Run, batch: int) -> tuple[tuple[nn.Module, nn.Module], tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    shapes = Plan.load(run.path / "plan.json").input_shapes
    inputs = tuple(torch.randn(batch, *shape[1:], generator=generator) for shape in shapes)
    return (Origin.from_json(run.origin).open_model(), load(run.path)), inputs


def file_for(run: Run, settings: Settings, spec: RuntimeSpec, batch: int, stem: str) -> Path:
    """Where a result lies: ``STEM.json`` for the run's own runtime, else in ``STEM/`` under the runtime's name."""
    own = asked_spec(run, settings, "", None, None)
    if spec == own and batch == settings.batch:
        return run.path / f"{stem}.json"
    return run.path / stem / f"{slug_of(spec, batch)}.json"
