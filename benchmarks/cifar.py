"""A network for CIFAR-10 pruned to a latency target, with the accuracy of every stage: one row of the README's table.

    python benchmarks/cifar.py --cifar FOLDER --weights FILE [--model MODEL] [--target 50%] [--epochs 2] [--out DIR]
    python benchmarks/cifar.py --from-run DIR

The first form prunes through the library, the second only reads a run that `hwprune prune` has finished (on the
machine of that run: the fingerprint is taken now). Both write results/cifar10_NAME.json and print a Markdown row.
FOLDER holds CIFAR-10 as npz files or in its python version; FILE is a safetensors file of the dense network.
"""

from __future__ import annotations

import argparse
import re
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from recording import RESULTS, fingerprint, markdown, record

import hwprune
from hwprune.cli import show
from hwprune.data.arrays import ArrayBatches, Images
from hwprune.loop.settings import Settings
from hwprune.models.resolve import load_model
from hwprune.recovery.recipe import Recipe
from hwprune.run import Run
from hwprune.validation.certify import Certificate
from hwprune.validation.ledger import Ledger

HEADS = ("network", "target", "latency", "top-1 dense", "cut", "batch norm", "fine-tuned", "MACs", "parameters")
STAMP, LOG_LINE = "%Y-%m-%d %H:%M:%S", re.compile(r"^(\S+ \S+) (.*)$")


def main() -> None:
    """Prune unless a run is given, write its figures, print its row."""
    options = _options()
    torch.set_num_threads(options.threads)
    folder = options.from_run or _pruned(options)
    found = figures(folder)
    target = options.record or RESULTS / f"cifar10_{found['model'].rpartition(':')[2]}.json"
    record(target, found)
    print(markdown(HEADS, [row(found)]))
    print(f"written to {target}")


def figures(folder: Path) -> dict[str, Any]:
    """All figures of a finished run, without paths of the machine. Raises RunError where it is not finished."""
    run = Run.resume(folder)
    plan, certificate = hwprune.Plan.load(folder / "plan.json"), Certificate.load(folder / "certificate.json")
    stages, settings = run.stages, Settings.from_json(run.settings)
    log = (folder / "log.txt").read_text(encoding="utf-8")
    told = certificate.as_dict()
    return {
        "model": plan.model,
        "command": command_of(plan.model, settings),
        "accuracy": stages["result"]["accuracy"],
        "images": stages["dense"]["count"],
        "certified": told["comparison"] | {"confidence": certificate.confidence, "verdict": certificate.verdict},
        "rebuilds": len(certificate.dense_blocks_ms),
        "latency_ms": {
            name: told[f"{name}_ms"] for name in ("dense_median", "dense_p95", "pruned_median", "pruned_p95")
        },
        "runtime": dict(certificate.runtime) | {"version": certificate.fingerprint.get("runtime", "")},
        "dense": stages["result"]["dense"],
        "pruned": stages["result"]["pruned"],
        "widths": plan.kept_widths,
        "verification": stages["pruned"]["verification"],
        "candidates": [
            {"id": c.id, "predicted_ms": c.predicted_ms, "measured_ms": c.measured_ms, "ratio": c.ratio, "macs": c.macs}
            for c in Ledger(folder / "ledger.parquet").candidates
        ],
        "stages_s": durations(log),
        "wall_s": wall_s(log),
        "fingerprint": fingerprint(settings.device),
    }


def row(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The figures as one row under `HEADS`."""
    accuracy, certified, dense, pruned = (found[name] for name in ("accuracy", "certified", "dense", "pruned"))
    target = re.search(r"--target (\S+)", found["command"])
    latency = f"{100 * certified['ratio']:.1f} % ({100 * certified['low']:.1f} to {100 * certified['high']:.1f})"
    tops = (f"{100 * accuracy[stage]:.2f} %" for stage in ("dense", "cut", "statistics", "finetuned"))
    shares = (f"{100 * pruned[name] / dense[name]:.1f} %" for name in ("macs", "parameters"))
    return (found["model"].rpartition(":")[2], target[1] if target else "", latency, *tops, *shares)


def command_of(model: str, settings: Settings) -> str:
    """The `hwprune prune` that asks for the same: every option that differs from its default.

    >>> command_of("resnet18", Settings("60%", threads=2, exclude=("fc",)))
    'hwprune prune resnet18 --weights FILE --data cifar10:FOLDER --target 60% --threads 2 --exclude fc --out DIR'
    """
    words = [f"hwprune prune {model} --weights FILE --data cifar10:FOLDER --target {settings.target}"]
    usual, recipe = Settings(settings.target), Recipe()
    for name in ("device", "runtime", "precision", "threads", "batch", "importance", "normalisation", "multiple"):
        words += _option(name, getattr(settings, name), getattr(usual, name))
    for name in ("min_width", "milestones", "tries", "seed"):
        words += _option(name, getattr(settings, name), getattr(usual, name))
    for name in ("epochs", "max_steps", "lr", "optimizer", "distill"):
        words += _option(name, getattr(settings.recipe, name), getattr(recipe, name))
    words += [] if settings.compensate else ["--no-compensate"]
    words += [f"--exclude {name}" for name in settings.exclude] + [f"--engine {name}" for name in settings.engines]
    return " ".join([*words, "--out DIR"])


def _option(name: str, value: object, usual: object) -> list[str]:
    return [] if value == usual else [f"--{name.replace('_', '-')} {value}"]


def durations(log: str) -> dict[str, float]:
    """Seconds of every finished stage.

    >>> durations("2026-01-01 00:00:09 dense finished in 8.5 s")
    {'dense': 8.5}
    """
    return {name: float(seconds) for name, seconds in re.findall(r"^\S+ \S+ (\S+) finished in (\S+) s$", log, re.M)}


def wall_s(log: str) -> float:
    """Seconds from the beginning of the first stage to the last line of the log.

    >>> wall_s("2026-01-01 00:00:09 dense finished in 9.0 s\\n2026-01-01 00:01:00 result finished in 0.0 s")
    60.0
    """
    stamps = [timegm(time.strptime(found[1], STAMP)) for line in log.splitlines() if (found := LOG_LINE.match(line))]
    first = next(iter(durations(log).values()), 0.0)
    return stamps[-1] - stamps[0] + first


def _pruned(options: argparse.Namespace) -> Path:
    """A new run in ``--out``."""
    if not options.cifar or not options.weights:
        raise SystemExit("pass --cifar FOLDER and --weights FILE, or --from-run DIR")
    model = load_model(options.model, weights=options.weights, num_classes=10)
    data = hwprune.load_data(f"cifar10:{options.cifar}", batch_size=128, seed=options.seed)
    if options.limit:
        data = replace(
            data,
            train=_head(data.train, options.limit),
            validation=_head(data.validation, options.limit),
            calibration=_head(data.calibration, options.limit),
        )
    recipe = Recipe(epochs=options.epochs, distill=options.distill, seed=options.seed)
    settings = Settings(options.target, recipe=recipe, seed=options.seed)
    with show.progress() as bars:
        found = hwprune.prune(
            model,
            data=data,
            target=options.target,
            out=options.out,
            table=options.table,
            settings=settings,
            model_reference=options.model,
            reporter=bars,
        )
    return found.directory


def _head(batches: Any, count: int) -> Any:
    """The first images only, to try the script out."""
    if not isinstance(batches, ArrayBatches):
        raise SystemExit("--limit takes images in memory only")
    return replace(batches, source=Images(batches.source.images[:count], batches.source.labels[:count]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cifar", "--data", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--weights", type=Path, help="safetensors file of the dense network")
    parser.add_argument("--model", default="hwprune.models.cifar_resnet:resnet56")
    parser.add_argument("--target", default="50%", help="share of the dense latency")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    parser.add_argument("--distill", type=float, default=0.5, help="share of the loss that is the dense network's")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"), help="run directory")
    parser.add_argument("--table", type=Path, help="latency table; default: the user's own")
    parser.add_argument("--limit", type=int, default=0, help="images of each part, to try the script out")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-run", type=Path, help="read this finished run instead of pruning")
    parser.add_argument("--record", type=Path, help="JSON to write; default: results/cifar10_NAME.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
