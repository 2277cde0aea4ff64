"""Engines of TensorRT-RTX for cards that are not here: does each build, how long does it take, how large is it.

    python benchmarks/tensorrt_engines.py [--model NAME ...] [--device NAME ...] [--precision NAME ...] [--again]

Every network is exported once at its usual input (batch 1, random weights: they change neither time nor size) and
built for every card in a child process with a time limit, as candidates of a run are. A build that fails is a row with
its reason. Results are written as they come and kept; a run that is started again does what is missing or failed.
Memory is what the builder plans for an execution context. Nothing is timed but the builds: there need be no card. With
an idle machine about half an hour on one core; the seconds of builds are of the machine that is named, and in INT8 and
FP8 the quantisation is in them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from recording import RESULTS, fingerprint, markdown, record

from hwprune.cli.profiling import DEFAULT_MODELS
from hwprune.device import resolve
from hwprune.errors import EngineError
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RuntimeSpec
from hwprune.units import format_bytes
from hwprune.validation.engine import build_engine

MODELS = (*DEFAULT_MODELS, "densenet121")
DEVICES = ("t4", "rtx3090", "rtx4090", "rtx5090")  # sm_75, sm_86, sm_89, sm_120
PRECISIONS = ("fp32", "fp16", "int8", "fp8")
NAME = "tensorrt_engines"


def main() -> int:
    """Build what is missing and write the table; exit 1 where an FP32 or FP16 engine was not built."""
    options = _options()
    path = RESULTS / f"{NAME}.json"
    rows = {} if options.again or not path.exists() else _keyed(json.loads(path.read_text(encoding="utf-8"))["rows"])
    for model in options.model:
        asked = [(device, precision) for device in options.device for precision in options.precision]
        # A build that failed is tried again: what was wrong may have been the machine's.
        missing = [pair for pair in asked if rows.get((model, *pair), {"error": "not tried"})["error"]]
        if not missing:
            continue
        with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
            onnx, export_s = _exported(model, Path(folder))
            for device, precision in missing:
                row = {"model": model, "export_s": export_s} | _row(onnx, device, precision, options.limit)
                rows[model, device, precision] = row
                print(f"{model} {row['target']} {precision}: {row['error'] or _cell(row)}", flush=True)
                _write(path, rows)
    print((RESULTS / f"{NAME}.md").read_text(encoding="utf-8"))
    return int(any(row["error"] for row in rows.values() if row["precision"] in ("fp32", "fp16")))


def _exported(model: str, folder: Path) -> tuple[Path, float]:
    torch.manual_seed(0)
    network = torchvision.models.get_model(model, weights=None).eval()
    started = time.perf_counter()
    path = folder / f"{model}.onnx"
    path.write_bytes(export(network, (torch.randn(1, 3, 224, 224),)))
    return path, round(time.perf_counter() - started, 2)


def _row(onnx: Path, device: str, precision: str, limit_s: float) -> dict[str, Any]:
    capability = resolve(device).compute_capability
    if capability is None:
        raise SystemExit(f"{device} is no card with a compute capability")
    known = {"device": device, "target": f"sm_{capability[0]}{capability[1]}", "precision": precision}
    try:
        report = build_engine(onnx, RuntimeSpec("tensorrt_rtx", device, precision), time=False, timeout_s=limit_s)
    except EngineError as error:  # the card does not have the precision
        return known | {
            "build_s": None,
            "size_bytes": None,
            "planned_bytes": None,
            "error": error.what.splitlines()[0],
            "version": "",
        }
    return known | {
        "build_s": None if report.build_s is None else round(report.build_s, 2),
        "size_bytes": report.size_bytes,
        "planned_bytes": report.activation_bytes,
        "error": _without_paths(report.error),
        "version": report.version,
    }


def _write(path: Path, rows: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> None:
    # In the order of MODELS, DEVICES, PRECISIONS, with others behind.
    def place(key: tuple[str, str, str]) -> tuple[int, ...]:
        known = (MODELS, DEVICES, PRECISIONS)
        return tuple(names.index(one) if one in names else len(names) for one, names in zip(key, known, strict=True))

    ordered = [dict(rows[key]) for key in sorted(rows, key=place)]
    record(path, {"command": f"python benchmarks/{NAME}.py", "fingerprint": fingerprint(), "rows": ordered})
    path.with_suffix(".md").write_text(_page(ordered), encoding="utf-8")


def _page(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row a network and precision, one column a target."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    found = {(row["model"], row["precision"], row["target"]): row for row in rows}
    lines = [
        [model, precision, *(_cell(found.get((model, precision, target))) for target in targets)]
        for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in rows)
    ]
    built = [row for row in rows if not row["error"]]
    failed = [f"- {row['model']} {row['precision']} {row['target']}: {_reason(row)}" for row in rows if row["error"]]
    versions = ", ".join(dict.fromkeys(row["version"] for row in rows if row["version"]))
    text = [
        f"Engines of TensorRT-RTX {versions} built without a GPU by `benchmarks/{NAME}.py` at batch 1: {len(built)} of "
        f"{len(rows)}. Seconds of the build, size of the engine, memory that the builder plans for a context.",
        markdown(("network", "precision", *targets), lines),
        *(["Not built:", "\n".join(failed)] if failed else []),
    ]
    return "\n\n".join(text) + "\n"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["error"]:
        return "not built"
    planned = "" if row["planned_bytes"] is None else f", {format_bytes(row['planned_bytes'])}"
    return f"{row['build_s']:.1f} s, {format_bytes(row['size_bytes'])}{planned}"


def _reason(row: Mapping[str, Any]) -> str:
    return " ".join(str(row["error"]).split())


def _without_paths(text: str) -> str:
    """A reason without the folders of the machine that it came from."""
    return re.sub(r"(?:/[\w.+-]+)+/(?=[\w.+-]+)", "", text)


def _keyed(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(row["model"], row["device"], row["precision"]): row for row in rows}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=list(MODELS), help="networks of torchvision")
    parser.add_argument("--device", nargs="+", default=list(DEVICES), help="cards, such as rtx3090")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one build")
    parser.add_argument("--again", action="store_true", help="build everything, whatever is recorded")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
