"""How far a table's predictions are from measurements, measured layer by layer and in context, beside the noise.

    python benchmarks/prediction_error.py [--model MODEL ...] [--method isolated ...] [--settings 30] [--out DIR]

Per network and method: what the table lacks is measured ("isolated" every layer at its widths, "in-context" whole
networks at sampled widths); the predictor is calibrated on a dozen random networks; other random networks, which
nothing has seen, are predicted and then measured, all of them twice with rebuilt engines. The second measurement
"predicts" the first as well as anything can: that is the noise. With --any-widths further networks have any number of
channels in every group, on the table's grid or off it.

A network is told well where at least 95 % of its settings are within 5 % of the prediction, or within twice the noise
(the median difference of the two measurements) where that is more, and the rank correlation is at least 0.98.

ONNX Runtime on one thread, batch 1, fp32. Keep the machine idle: a neighbour that fills the shared cache shows in the
noise. Stop and start it as you like: tables go on where they were, and what is recorded is not measured again unless
--again says so. Results of another machine or other versions are replaced.
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
from statistics import median
from typing import Any

import numpy as np
import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.cli import show
from hwprune.cli.profiling import DEFAULT_MODELS
from hwprune.latency.choosing import METHODS
from hwprune.latency.held_out import HeldOut, PredictionError
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table, uncalibrated
from hwprune.loop.profiling import checked
from hwprune.loop.sampling import DISTURBED, structure
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model

MODELS = (*DEFAULT_MODELS, "densenet121")
USUAL = {"settings": 30, "samples": 0, "most_widths": 16, "any_widths": 0, "seed": 0}
CALIBRATION = 12
TABLES = Path(__file__).parent / "tables"
CLOSE, TIMES_NOISE, SHARE, RANK = 0.05, 2.0, 0.95, 0.98  # what a network is held to, see above
HEADS = (
    *("network", "widths", "method", "error, median", "95th percentile", "within 5 %", "within 10 %"),
    *("noise, median", "95th percentile", "within 5 % or twice the noise", "rank correlation", "held to", "profiled"),
)


def main() -> int:
    """Measure, print the table, write the JSON after each network; exit 1 where one asked for is not told well."""
    options = _options()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "prediction_error.json"
    known = [] if options.again else [_key(network) for network in _recorded(file)]
    asked = [(model, method) for model in options.model for method in options.method]
    for model, method in asked:
        if (model, method) not in known:
            _keep(file, _network(model, method, options))
    networks = _recorded(file)
    text = markdown(HEADS, [row for network in networks for row in _rows(network)])
    (options.out / "prediction_error.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(not all(_is_told(network) for network in networks if _key(network) in asked))


def _network(model: str, method: Any, options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(
        "100%", runtime="onnxruntime", most_widths=options.most_widths, seed=options.seed, method=method
    )
    path = options.tables / f"prediction_error-{method}.parquet"
    started = time.monotonic()
    with show.progress() as bars, tempfile.TemporaryDirectory(prefix="hwprune-benchmark-") as folder:
        subject = Subject(load_model(model), describe_inputs(model), settings, Path(folder), bars, model)
        measured_table(subject, path, samples=options.samples or None)
        profiled = time.monotonic()
        held = checked(subject, path, calibration=CALIBRATION, count=options.settings, anywhere=options.any_widths)
        table = LatencyTable.load(path)
        return {
            "model": model,
            "method": method,
            "input": list(subject.input_shape),
            "command": " ".join(["python benchmarks/prediction_error.py", *_asked(model, method, options)]),
            "runtime": dict(table.fingerprint),
            "groups": {name: list(widths) for name, widths in subject.choices.items()},
            "table_rows": len(table),
            "profile_s": round(profiled - started, 1),  # 0 where the table was there already
            "check_s": round(time.monotonic() - profiled, 1),
            "checks": [_check(one) for one in held],
            **(_sampled(subject, table) if method == "in-context" else {}),
        }


def _sampled(subject: Subject, table: LatencyTable) -> dict[str, Any]:
    """What the samples cost, and how well each of them is told by all others."""
    samples = table.samples_of(structure(subject))
    context = uncalibrated(subject, table).contexts[0]
    parts = ("build_s", "time_s", "profile_s")
    return {
        "samples": len(samples),
        "samples_s": round(sum(getattr(sample, part) for sample in samples for part in parts), 1),
        "sample_s": {part: round(median(getattr(sample, part) for sample in samples), 3) for part in parts},
        "overhead_ms": context.overhead_ms,
        "crowding": context.crowding.exponent,
        "left_out": asdict(context.error),
        "disturbed": int(np.sum(context.doubt > DISTURBED)),
    }


def _check(held: HeldOut) -> dict[str, Any]:
    noise = held.noise
    bound = max(CLOSE, TIMES_NOISE * noise.median) if noise else CLOSE
    return {
        "error": asdict(held.error),
        "noise": asdict(noise) if noise else None,
        "bound": bound,
        "within_bound": held.share_within(bound),
        **held.as_json(),
    }


def _is_told(network: dict[str, Any]) -> bool:
    check = network["checks"][0]
    return bool(check["within_bound"] >= SHARE and check["error"]["spearman"] >= RANK)


def _rows(network: dict[str, Any]) -> list[tuple[str, ...]]:
    name = network["model"].rpartition(":")[2]
    cost_s = network.get("samples_s", network["profile_s"])
    size = f"{network['samples']} networks" if "samples" in network else f"{network['table_rows']} layers"
    profiled = f"{size}, {cost_s:.0f} s"
    return [
        (name, widths, network["method"], *_figures(check), "yes" if _is_told(network) else "no", profiled)
        for widths, check in zip(("on the grid", "any"), network["checks"], strict=False)
    ]


def _figures(check: dict[str, Any]) -> tuple[str, ...]:
    error, noise = PredictionError(**check["error"]), PredictionError(**check["noise"])
    shares = (error.median, error.p95, error.within5, error.within10, noise.median, noise.p95, check["within_bound"])
    return (*(f"{100 * share:.1f} %" for share in shares), f"{error.spearman:.3f}")


def _asked(model: str, method: str, options: argparse.Namespace) -> Sequence[str]:
    """What measures this network again, without this machine's paths."""
    asked = [f"--model {model}", f"--method {method}"]
    for name, usual in USUAL.items():
        value = getattr(options, name)
        asked += [f"--{name.replace('_', '-')} {value}"] if value != usual else []
    return asked


def _key(network: dict[str, Any]) -> tuple[str, str]:
    return network["model"], network["method"]


def _recorded(file: Path) -> list[dict[str, Any]]:
    """Networks recorded on this hardware with these versions, sorted; those without a method were isolated."""
    if not file.exists():
        return []
    known, now = json.loads(file.read_text(encoding="utf-8")), fingerprint()
    same = all(known["fingerprint"][key] == now[key] for key in ("device", "packages"))
    found = [_with_method(network) for network in known["networks"] if same]
    return sorted(found, key=_key)


def _with_method(network: dict[str, Any]) -> dict[str, Any]:
    if "method" in network:
        return network
    return {**network, "method": "isolated", "checks": [_check(HeldOut.from_json(one)) for one in network["checks"]]}


def _keep(file: Path, network: dict[str, Any]) -> None:
    """Into the file, in place of what it had of this network and method."""
    others = [other for other in _recorded(file) if _key(other) != _key(network)]
    limits = {"close": CLOSE, "times_noise": TIMES_NOISE, "share": SHARE, "spearman": RANK}
    networks = sorted([*others, network], key=_key)
    record(file, {"fingerprint": fingerprint(), "limits": limits, "networks": networks})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", help="repeatable; default: " + ", ".join(MODELS))
    parser.add_argument("--method", action="append", choices=METHODS, help="repeatable; default: both")
    parser.add_argument("--settings", type=int, default=USUAL["settings"], help="unseen networks of each kind")
    parser.add_argument(
        "--samples", type=int, default=USUAL["samples"], help="networks measured whole in context; 0: enough"
    )
    parser.add_argument("--most-widths", type=int, default=USUAL["most_widths"], help="of one group on the grid")
    parser.add_argument("--any-widths", type=int, default=0, help="further unseen networks at any widths")
    parser.add_argument("--seed", type=int, default=USUAL["seed"])
    parser.add_argument("--again", action="store_true", help="check what is recorded already once more")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the latency tables to use and add to")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.model = options.model or list(MODELS)
    options.method = options.method or list(METHODS)
    return options


if __name__ == "__main__":
    sys.exit(main())
