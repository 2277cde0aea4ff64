"""The field's methods through hwprune, at one certified latency with one training budget.

    python benchmarks/methods.py --cifar FOLDER --resnet20 FILE [--resnet56 FILE] [--only importance ...] [--method NAME
        ...] [--seed 0 ...] [--target 60%] [--steps 500] [--runs DIR] [--out DIR]

Each importance, regulariser, allocation, rule of inheritance and transform takes its place while all else stays:
coupled groups, latency table, search, paired test (ONNX Runtime, one thread, batch 1, fp32). Weights are cut and no
more, as in the papers. All have the same number of training steps: what a method trains or runs backward on the way is
taken from the fine-tuning, which is the same for all. Finished figures in ``--runs`` and recorded ones of this
processor are only read.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cases import add_files, given, opened
from cells import Cells, Run, by_processor
from frontier_bench import BATCHES, MULTIPLE, Bench
from recording import FIGURES, RESULTS, figures, markdown

import hwprune
from hwprune.catalogue import METHODS
from hwprune.errors import HwpruneError
from hwprune.loop.settings import Settings
from hwprune.recovery.recipe import Recipe

TRAINED = 200  # steps of a regulariser, of those that all have
HEADS = ("network", "kind", "method", *FIGURES)
# Besides the method itself, what its paper has it with. Importance is Fisher unless it is what is compared.
FISHER: Mapping[str, Any] = {"importance": "fisher"}
PARTNERS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("importance", "obs"): {"compensate": True},
    ("importance", "cpmc-style"): {"normalisation": "none"},  # it counts costs itself
    ("regularizer", "orthoreg"): {"importance": "orthoreg"},
    ("regularizer", "slimming"): {"importance": "bn-scale"},
    **{("regularizer", name): {"importance": "magnitude"} for name in ("greg1", "greg2", "increg")},
    **{("regularizer", name): {"importance": "magnitude"} for name in ("sfp", "asfp", "srfp", "asrfp")},
}
# Steps that a method runs backward by itself, besides those of its importance's batches.
OWN_STEPS: Mapping[tuple[str, str], int] = {("importance", "greg2"): 100, ("importance", "scop"): 100}
READS_NOTHING = ("magnitude", "fpgm", "bn-scale", "cpmc-style")


def main() -> int:
    """Run what is missing and record all."""
    options = _options()
    torch.set_num_threads(options.threads)
    facts = {"target": options.target, "steps": options.steps}
    cells = Cells(("network", "kind", "method", "seed"), options.runs, options.out / "methods.json", facts)
    for name in given(options):
        for seed in options.seed:
            for kind in options.only:
                for method in options.method or METHODS[kind]:
                    if method in METHODS[kind] and cells.missing(network=name, kind=kind, method=method, seed=seed):
                        _one(cells, name, kind, method, seed, options)
    runs = cells.write()
    told = [f"On {processor}:\n\n{markdown(HEADS, _rows(own))}" for processor, own in by_processor(runs).items()]
    text = "\n\n".join([*told, "Made by `benchmarks/methods.py`."])
    (options.out / "methods.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def _settings(kind: str, method: str, case_lr: float, seed: int, options: argparse.Namespace) -> Settings:
    asked: dict[str, Any] = {**FISHER, "compensate": False, **PARTNERS.get((kind, method), {}), kind: method}
    if kind == "regularizer":
        asked["regularizer_steps"] = TRAINED
    recipe = Recipe(epochs=0, lr=case_lr, seed=seed)
    return Settings(
        options.target,
        runtime="onnxruntime",
        importance_batches=BATCHES,
        multiple=MULTIPLE,
        seed=seed,
        recipe=recipe,
        **asked,
    )


def _one(cells: Cells, name: str, kind: str, method: str, seed: int, options: argparse.Namespace) -> None:
    """One method on one network."""
    named = {"network": name, "kind": kind, "method": method, "seed": seed}
    case, started = opened(name, options, seed), time.monotonic()
    bench = Bench(case, options.runs / f"{name}.parquet", seed)
    settings = _settings(kind, method, case.lr, seed, options)
    try:
        found = hwprune.prune(
            case.model,
            data=bench.data,
            target=settings.target,
            out=bench.folder / "run",
            table=bench.table,
            settings=settings,
            force=True,
        )
    except HwpruneError as error:
        cells.keep({**named, "failed": str(error).splitlines()[0]})
        return
    pruning_s, steps = time.monotonic() - started, _steps(found.directory, kind, method, settings)
    top1 = bench.trained(found.model, steps=options.steps - steps, lr=case.lr)
    cells.keep(
        {
            **named,
            "top1": top1,
            "certified": asdict(bench.certified(found.model).comparison),
            "pruning_steps": steps,
            "pruning_s": round(pruning_s, 1),
            "macs": found.pruned.macs / found.dense.macs,
            "parameters": found.pruned.parameters / found.dense.parameters,
        }
    )


def _steps(run: Path, kind: str, method: str, settings: Settings) -> int:
    """Batches that were run backward, or trained on, until the network had its widths."""
    estimates = len(list(run.glob("importance-*.safetensors")))
    name = settings.criterion.partition(",")[0]
    per_estimate = OWN_STEPS.get(("importance", name), 0 if name in READS_NOTHING else BATCHES)
    return estimates * per_estimate + (settings.regularizer_steps if kind == "regularizer" else 0)


def _rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    order = {(kind, name): place for place, (kind, name) in enumerate((k, n) for k in METHODS for n in METHODS[k])}
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run["network"], order[run["kind"], run["method"]], run["seed"])):
        cells.setdefault((run["network"], run["kind"], run["method"]), []).append(run)
    return [(*key, *figures(own)) for key, own in cells.items()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_files(parser)
    parser.add_argument("--only", action="append", choices=list(METHODS), help="kinds of methods; default: all")
    parser.add_argument("--method", action="append", help="names; default: all of the kinds")
    parser.add_argument("--seed", action="append", type=int, help="repeatable; default: 0, 1, 2")
    parser.add_argument("--target", default="60%", help="share of the dense latency")
    parser.add_argument("--steps", type=int, default=500, help="of training in all")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for training")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="figures of single runs, and tables")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.only, options.seed = options.only or list(METHODS), options.seed or [0, 1, 2]
    return options


if __name__ == "__main__":
    sys.exit(main())
