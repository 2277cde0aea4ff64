"""How far the table's predictions are from measurements, on the table's grid of widths and off it.

    python benchmarks/prediction_error.py [--model MODEL ...] [--table FILE] [--settings 20] [--out DIR]

Per network: the layers that the table lacks are measured; the predictor is calibrated on a dozen random networks;
other random networks, which nothing has seen, are predicted and then measured, all of them twice with rebuilt
engines. The second measurement "predicts" the first as well as anything can: that is the noise. Off the grid
("any widths") every group has any number of channels, and exactly the layers of those networks are measured first.

ONNX Runtime on one thread, batch 1, fp32. Keep the machine idle: a neighbour that fills the shared cache shows in the
noise. A quarter of an hour for both networks; networks recorded on the same machine before stay in the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.cli import show
from hwprune.latency.held_out import HeldOut, PredictionError
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table
from hwprune.loop.profiling import checked
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model

MODELS = ("hwprune.models.cifar_resnet:resnet20", "resnet18")
CALIBRATION = 12
MOST_MEDIAN, MOST_P95 = 0.05, 0.12  # what the table is held to on its grid
HEADS = ("network", "widths", "figures", "median", "95th percentile", "within 5 %", "within 10 %", "rank correlation")


def main() -> int:
    """Measure, print the table, write the JSON; exit 1 where an error is above its limit."""
    options = _options()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.table or options.out / "prediction_error.parquet"
    file = options.out / "prediction_error.json"
    measured = [_network(model, table, options) for model in options.model]
    networks = sorted([*_others(file, options.model), *measured], key=lambda network: network["model"])
    document = {
        "fingerprint": fingerprint(),
        "runtime": dict(LatencyTable.load(table).fingerprint),
        "limits": {"median": MOST_MEDIAN, "p95": MOST_P95},
        "networks": networks,
    }
    text = markdown(HEADS, [row for network in networks for row in _rows(network)])
    record(file, document)
    (options.out / "prediction_error.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    checks = [network["checks"][0]["error"] for network in networks]
    return int(any(error["median"] > MOST_MEDIAN or error["p95"] > MOST_P95 for error in checks))


def _network(model: str, table: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings("100%", runtime="onnxruntime", most_widths=options.most_widths, seed=options.seed)
    started = time.monotonic()
    with show.progress() as bars, tempfile.TemporaryDirectory(prefix="hwprune-benchmark-") as folder:
        subject = Subject(load_model(model), describe_inputs(model), settings, Path(folder), bars, model)
        rows = len(measured_table(subject, table))
        profiled = time.monotonic()
        count = options.settings
        held = checked(subject, table, calibration=CALIBRATION, count=count, again=count, anywhere=count)
    return {
        "model": model,
        "input": list(subject.input_shape),
        "command": " ".join(["python benchmarks/prediction_error.py", *_asked(model, options)]),
        "groups": {name: list(widths) for name, widths in subject.choices.items()},
        "table_rows": rows,
        "profile_s": round(profiled - started, 1),
        "check_s": round(time.monotonic() - profiled, 1),
        "checks": [_check(one) for one in held],
    }


def _check(held: HeldOut) -> dict[str, Any]:
    noise = held.noise
    return {"error": asdict(held.error), "noise": asdict(noise) if noise else None, **held.as_json()}


def _rows(network: dict[str, Any]) -> list[tuple[str, ...]]:
    name = network["model"].rpartition(":")[2]
    return [
        (name, widths, figures, *_figures(PredictionError(**check[key])))
        for widths, check in zip(("on the grid", "any"), network["checks"], strict=False)
        for figures, key in (("predicted", "error"), ("measured again", "noise"))
    ]


def _figures(error: PredictionError) -> tuple[str, ...]:
    shares = (error.median, error.p95, error.within5, error.within10)
    return (*(f"{100 * share:.1f} %" for share in shares), f"{error.spearman:.3f}")


def _asked(model: str, options: argparse.Namespace) -> Sequence[str]:
    """What measures this network again, without this machine's paths."""
    asked = [f"--model {model}"]
    for name, usual in (("settings", 20), ("most_widths", 16), ("seed", 0)):
        value = getattr(options, name)
        asked += [f"--{name.replace('_', '-')} {value}"] if value != usual else []
    return asked


def _others(file: Path, asked: Sequence[str]) -> list[dict[str, Any]]:
    """Networks recorded before on this hardware with these versions, and not measured now."""
    if not file.exists():
        return []
    known, now = json.loads(file.read_text(encoding="utf-8")), fingerprint()
    same = all(known["fingerprint"][key] == now[key] for key in ("device", "packages"))
    return [network for network in known["networks"] if same and network["model"] not in asked]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", help="repeatable; default: " + " and ".join(MODELS))
    parser.add_argument("--table", type=Path, help="latency table to use and add to; default: one in --out")
    parser.add_argument("--settings", type=int, default=20, help="networks of each kind")
    parser.add_argument("--most-widths", type=int, default=16, help="of one group on the grid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.model = options.model or list(MODELS)
    return options


if __name__ == "__main__":
    sys.exit(main())
