"""What every recorded result carries, and how it is written: shared by the scripts of this folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hwprune.device import resolve
from hwprune.files import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("hwprune", "torch", "torchvision", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "numpy")


def fingerprint(device: str = "cpu") -> dict[str, Any]:
    """Hardware, versions and date that figures belong to."""
    hardware = resolve(device).fingerprint()
    hardware["os"] = platform.system()  # a kernel's build number says nothing of a latency
    return {
        "device": hardware,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
        "date": datetime.now(UTC).date().isoformat(),
    }


def processor() -> str:
    """What a latency of the CPU belongs to, in words."""
    facts = resolve("cpu").fingerprint()
    return f"{facts['cpu']} (family, model, stepping {facts['cpu_family_model_stepping']})"


def version_of(package: str) -> str:
    """Installed version, "" where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def record(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def percent(values: Sequence[float], sign: str = "") -> str:
    """Mean of some shares, with their standard deviation where there are several.

    >>> percent([0.5]), percent([0.5, 0.51, 0.52])
    ('50.0 %', '51.0 ± 1.0 %')
    """
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):{sign}.1f}{spread} %"


FIGURES = (
    *("certified latency", "top-1 untrained", "top-1 fine-tuned", "seeds"),
    *("MACs", "parameters", "pruning takes", "steps of it"),
)


def figures(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Cells of `FIGURES` for one method's runs over seeds; the first one's failure where all failed."""
    done = [run for run in runs if "failed" not in run]
    if not done:
        return (f"failed: {runs[0]['failed']}", *[""] * (len(FIGURES) - 1))
    return (
        percent([run["certified"]["ratio"] for run in done]),
        percent([run["top1"]["untrained"] for run in done]),
        percent([run["top1"]["tuned"] for run in done]),
        str(len(done)),
        f"{100 * mean(run['macs'] for run in done):.1f} %",
        f"{100 * mean(run['parameters'] for run in done):.1f} %",
        f"{mean(run['pruning_s'] for run in done):.0f} s",
        f"{mean(run['pruning_steps'] for run in done):.0f}",
    )


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "|" + "|".join(cells) + "|" if n == 1 else f"| {' | '.join(cells)} |" for n, cells in enumerate(lines)
    )
