"""A run directory: what was asked, what is done, and where everything lies. All of it survives a kill at any time.

run.json            settings, versions, and the result of every finished stage
plan.json           which channels stay
model.safetensors   the pruned weights; `hwprune.load` rebuilds the network from these three
model.onnx          the pruned network
dense.onnx          the network that it was made from
ledger.parquet      every candidate: predicted, measured, engines
candidates/         each one's plan, ONNX file and engines
finetune.safetensors  the last finished epoch
trained-*.safetensors  weights that were trained on the way down, of the dense network's shapes
group-fisher.safetensors  the state of that training
certificate.json    the paired test against the dense network
certificate/        the same test with other runtimes or batch sizes
explanation.json    where the time went, layer by layer; explanation/ with other runtimes or batch sizes
batch-N/            both networks exported for another batch size
calibration.npz     training inputs that engines in int8 and fp8 find their scales with
timing.cache        TensorRT's timings of tactics, so that equal layers get equal ones
log.txt             what happened when
curve.csv           of a run with several targets: a row for each
points/             the same: a run directory for each
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwprune.errors import RunError, StorageError, listed
from hwprune.files import write_atomically

SCHEMA = 1
# All that a run makes but run.json, which is replaced last: until then there is a run here.
CONTENT = (
    "plan.json",
    "certificate.json",
    "model.safetensors",
    "finetune.safetensors",
    "trained-*.safetensors",
    "group-fisher.safetensors",
    "importance-*.safetensors",
    "model.onnx",
    "dense.onnx",
    "ledger.parquet",
    "calibration.npz",
    "timing.cache",
    "log.txt",
    "candidates/*",
    "engines",
    "certificate",
    "explanation.json",
    "explanation",
    "batch-[0-9]*",
    "curve.csv",
    "points/*",
)


class Run:
    """One run directory, made new by `create` or opened again by `resume`."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document

    @classmethod
    def create(
        cls, path: Path, settings: Mapping[str, Any], *, origin: Mapping[str, Any] | None = None, force: bool = False
    ) -> Run:
        """A new directory; an old run is only replaced with ``force``, and files that are no run's never are.

        ``origin`` says where model and data come from, for a resume in another process.

        Raises:
            RunError: there is a run already, or there are other files of the same names.
            StorageError: the place cannot be written.
        """
        cls.check_free(path, force=force)
        try:
            (path / "candidates").mkdir(parents=True, exist_ok=True)
            for old in _content(path):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        except OSError as error:
            raise StorageError(path, error=error) from error
        run = cls(path, {"schema": SCHEMA, "settings": dict(settings), "origin": dict(origin or {}), "stages": {}})
        run.save()
        return run

    @classmethod
    def check_free(cls, path: Path, *, force: bool = False) -> None:
        """Raises RunError unless `create` may put a run there; writes nothing."""
        if (path / "run.json").exists():
            if force:
                return
            raise RunError(
                f"there is a run in {path} already",
                effect="it was left as it is",
                fix=f"go on with `hwprune prune --resume {path}`, choose another folder, or pass --force to replace it",
            )
        if others := [file.name for file in _content(path) if file.is_file()]:
            raise RunError(
                f"{path} holds {listed(others)}, but it is no run",
                effect="nothing was written there: a run has files of the same names",
                fix="choose another folder",
            )

    @classmethod
    def resume(cls, path: Path) -> Run:
        """Open a directory that `create` has made.

        Raises:
            RunError: there is none, or its ``run.json`` is damaged.
        """
        file = path / "run.json"
        try:
            document = json.loads(file.read_text())
        except FileNotFoundError:
            raise RunError(f"there is no run in {path}", fix="pass the folder that `hwprune prune` printed") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged", where=str(error), fix="start a new run in another folder") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise RunError(f"{file} is not of schema {SCHEMA}", fix="use the version of hwprune that made it")
        if not all(isinstance(document.get(name), dict) for name in ("settings", "origin", "stages")):
            raise RunError(
                f"{file} is damaged", where="parts of it are missing", fix="start a new run in another folder"
            )
        return cls(path, document)

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked, as plain values."""
        return dict(self.document["settings"])

    @property
    def origin(self) -> dict[str, Any]:
        """Where model and data come from, as plain values; empty for a run of the Python API."""
        return dict(self.document.get("origin", {}))

    @property
    def stages(self) -> dict[str, Any]:
        """Results of finished stages."""
        found: dict[str, Any] = self.document["stages"]
        return found

    def once(self, stage: str, compute: Callable[[], Any]) -> Any:
        """The stage's result: remembered if it is finished, else computed and remembered. Plain values only."""
        if stage not in self.stages:
            started = time.monotonic()
            result = compute()
            self.stages[stage] = json.loads(json.dumps(result))
            self.save()
            self.log(f"{stage} finished in {time.monotonic() - started:.1f} s")
        return self.stages[stage]

    def keep(self, name: str, value: Any) -> None:
        """Remember a part of a stage that is not finished, for a resume."""
        self.document.setdefault("parts", {})[name] = value
        self.save()

    def kept(self, name: str) -> Any:
        """What `keep` remembered, or None."""
        return self.document.get("parts", {}).get(name)

    def save(self) -> None:
        """Write ``run.json`` atomically."""
        write_atomically(self.path / "run.json", json.dumps(self.document, indent=1).encode())

    def log(self, line: str) -> None:
        """Add a line to ``log.txt``."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        try:
            with (self.path / "log.txt").open("a") as file:
                file.write(f"{stamp} {line}\n")
        except OSError as error:
            raise StorageError(self.path / "log.txt", error=error) from error


def _content(path: Path) -> list[Path]:
    return [found for pattern in CONTENT for found in sorted(path.glob(pattern))]
