"""What importance is best divided by: latency, memory, MACs or nothing, at one certified latency.

    python benchmarks/normalisations.py --cifar FOLDER --resnet56 FILE --imagenette FOLDER --mobilenet-v2 FILE
        [--target 60%] [--epochs 2] [--seed 0 --seed 1 --seed 2] [--runs DIR] [--out DIR]

Fisher information, the same dense weights, data, latency table, target and fine-tuning; only the divisor differs.
Every network ends at the target as certified, so what is compared is accuracy: with new batch-norm statistics and no
training, and after the epochs. The seed changes the images that importance is estimated on, their order and the
calibration.

ResNet-56 classifies CIFAR-10, MobileNetV2 ten classes of ImageNet: see `cases.py`.

ONNX Runtime on one thread, batch 1, fp32; training on two. A network is left out where its files are not given. Runs
are kept in ``--runs``, and finished ones are only read, so a stopped comparison goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from cases import add_files, given, opened
from recording import RESULTS, fingerprint, markdown, percent, record

import hwprune
from hwprune.cli import show
from hwprune.cost.normalisation import Normalisation
from hwprune.loop.settings import Settings
from hwprune.recovery.recipe import Recipe

COMPARED: tuple[Normalisation, ...] = ("latency", "memory", "flops", "none")
SEEDS = (0, 1, 2)
STAGES = ("statistics", "finetuned")
HEADS = (
    *("network", "divided by", "certified latency", "MACs", "parameters", "activations"),
    *("top-1 untrained", "latency's lead", "top-1 fine-tuned", "latency's lead"),
)


def main() -> int:
    """Prune what is missing, record all; exit 1 where dividing by latency is behind anything else."""
    options = _options()
    torch.set_num_threads(options.threads)
    file = options.out / "normalisations.json"
    for name in given(options):
        for seed in options.seed:
            for normalisation in options.normalisation:
                _keep(file, _run(name, normalisation, seed, options))
    runs = _recorded(file)
    text = "\n".join(
        [markdown(HEADS, _rows(runs)), "", *_verdicts(runs), "", "Made by `benchmarks/normalisations.py`."]
    )
    (options.out / "normalisations.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(any(mean(_lead(runs, *key)) < 0 for key in _pairs(runs)))


def _run(name: str, normalisation: Normalisation, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run, which is made, or gone on with, unless it is finished."""
    folder = options.runs / f"{name}-{normalisation}-{seed}"
    figures = folder / "figures.json"
    if figures.exists():
        return dict(json.loads(figures.read_text(encoding="utf-8")))
    case = opened(name, options, seed)
    recipe = Recipe(epochs=options.epochs, lr=case.lr, seed=seed)
    settings = Settings(
        options.target,
        recipe=recipe,
        seed=seed,
        importance="fisher",
        compensate=False,
        normalisation=normalisation,
        importance_batches=case.batches,
    )
    with show.progress() as bars:
        bars.note(f"{name}, divided by {normalisation}, seed {seed}")
        found = hwprune.prune(
            case.model,
            data=case.data,
            target=options.target,
            out=folder,
            table=options.runs / f"{name}.parquet",
            settings=settings,
            reporter=bars,
            force=True,
        )
    if found.certificate is None:
        raise SystemExit("the processor of this machine cannot be timed")
    document = {
        "network": name,
        "normalisation": normalisation,
        "seed": seed,
        "target": options.target,
        "epochs": options.epochs,
        "accuracy": dict(found.accuracy),
        "certified": asdict(found.certificate.comparison),
        "dense": asdict(found.dense),
        "pruned": asdict(found.pruned),
        "widths": found.plan.kept_widths,
    }
    record(figures, document)
    return document


def _rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    found = []
    for name in dict.fromkeys(run["network"] for run in runs):
        for normalisation in COMPARED:
            own = _of(runs, name, normalisation)
            if own:
                found.append(_row(name, normalisation, own, runs))
    return found


def _row(
    name: str, normalisation: str, own: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    works = ("macs", "parameters", "activation_elements")
    shares = (mean(run["pruned"][work] / run["dense"][work] for run in own) for work in works)
    cells = [name, normalisation, percent([run["certified"]["ratio"] for run in own])]
    cells += [f"{100 * share:.1f} %" for share in shares]
    for stage in STAGES:
        cells.append(percent([run["accuracy"][stage] for run in own]))
        cells.append("" if normalisation == "latency" else percent(_lead(runs, name, normalisation, stage), sign="+"))
    return tuple(cells)


def _lead(runs: Sequence[Mapping[str, Any]], name: str, normalisation: str, stage: str) -> list[float]:
    """Top-1 with latency as the divisor less that with another one, seed by seed."""
    best = {run["seed"]: run["accuracy"][stage] for run in _of(runs, name, "latency")}
    other = {run["seed"]: run["accuracy"][stage] for run in _of(runs, name, normalisation)}
    return [best[seed] - other[seed] for seed in sorted(best.keys() & other.keys())]


def _verdicts(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each network, stage and other divisor."""
    words = {"statistics": "untrained", "finetuned": "fine-tuned"}
    told = []
    for name, normalisation, stage in _pairs(runs):
        lead = _lead(runs, name, normalisation, stage)
        ahead = "ahead of" if min(lead) > 0 else "behind" if max(lead) < 0 else "not clearly different from"
        told_lead = percent(lead, sign="+").removesuffix(" %")
        said = f"latency is {ahead} {normalisation} ({told_lead} points over {len(lead)} seeds)"
        told.append(f"- {name}, {words[stage]}: {said}")
    return told


def _pairs(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Network, other divisor and stage of all that can be compared."""
    names = dict.fromkeys(run["network"] for run in runs)
    keys = [(name, other, stage) for name in names for stage in STAGES for other in COMPARED[1:]]
    return [key for key in keys if _lead(runs, *key)]


def _of(runs: Sequence[Mapping[str, Any]], name: str, normalisation: str) -> list[Mapping[str, Any]]:
    return [run for run in runs if (run["network"], run["normalisation"]) == (name, normalisation)]


def _recorded(file: Path) -> list[dict[str, Any]]:
    """Runs recorded on this hardware with these versions."""
    if not file.exists():
        return []
    known, now = json.loads(file.read_text(encoding="utf-8")), fingerprint()
    return list(known["runs"]) if all(known["fingerprint"][key] == now[key] for key in ("device", "packages")) else []


def _keep(file: Path, run: dict[str, Any]) -> None:
    """Into the file, in place of what it had of this run."""

    def key(one: Mapping[str, Any]) -> tuple[str, int, int]:
        return one["network"], COMPARED.index(one["normalisation"]), one["seed"]

    others = [other for other in _recorded(file) if key(other) != key(run)]
    record(file, {"fingerprint": fingerprint(), "runs": sorted([*others, run], key=key)})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_files(parser)
    parser.add_argument("--normalisation", action="append", choices=COMPARED, help="repeatable; default: all")
    parser.add_argument("--seed", action="append", type=int, help="repeatable; default: 0, 1 and 2")
    parser.add_argument("--target", default="60%", help="share of the dense latency")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for training")
    parser.add_argument("--runs", type=Path, default=Path("runs/normalisations"), help="run directories and tables")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.seed = options.seed or list(SEEDS)
    options.normalisation = options.normalisation or list(COMPARED)
    return options


if __name__ == "__main__":
    sys.exit(main())
