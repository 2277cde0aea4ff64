"""The field's methods through hwprune, at one certified latency with one training budget.

    python benchmarks/methods.py --cifar FOLDER --resnet20 FILE [--resnet56 FILE] [--only importance ...] [--method NAME
        ...] [--seed 0 ...] [--target 60%] [--steps 500] [--runs DIR] [--out DIR]

Each importance, regulariser, allocation, rule of inheritance and transform takes its place while all else stays:
coupled groups, latency table, search, paired test (ONNX Runtime, one thread, batch 1, fp32). Weights are cut and no
more, as in the papers. All have the same number of training steps: what a method trains or runs backward on the way is
taken from the fine-tuning, which is the same for all. Finished figures in ``--runs`` are only read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from cases import First, add_files, given, opened
from frontier_bench import BATCHES, MULTIPLE, Bench
from recording import FIGURES, RESULTS, figures, fingerprint, markdown, record

import hwprune
from hwprune.catalogue import METHODS
from hwprune.errors import HwpruneError
from hwprune.loop.settings import Settings
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.evaluate import evaluate
from hwprune.recovery.finetune import finetune
from hwprune.recovery.recipe import Recipe

TRAINER = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # latency is the processor's anyway
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
    for name in given(options):
        for seed in options.seed:
            for kind in options.only:
                for method in METHODS[kind]:
                    if not options.method or method in options.method:
                        _one(name, kind, method, seed, options)
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(options.runs.glob("*.json"))]
    facts = {"fingerprint": fingerprint(), "target": options.target, "steps": options.steps}
    record(options.out / "methods.json", {**facts, "runs": runs})
    text = f"{markdown(HEADS, _rows(runs))}\n\nMade by `benchmarks/methods.py`."
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


def _one(name: str, kind: str, method: str, seed: int, options: argparse.Namespace) -> None:
    """One method on one network, unless its figures are there."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{method}")
    file = options.runs / f"{name}-{slug}-{seed}.json"
    if file.exists():
        return
    print(f"{name}, {kind} {method}, seed {seed}", file=sys.stderr, flush=True)
    case, started = opened(name, options, seed), time.monotonic()
    bench = Bench(case, options.runs / f"{name}.parquet", seed)
    settings = _settings(kind, method, case.lr, seed, options)
    document: dict[str, Any] = {"network": name, "kind": kind, "method": method, "seed": seed}
    try:
        found = hwprune.prune(
            case.model,
            data=case.data,
            target=settings.target,
            out=bench.folder / "run",
            table=bench.table,
            settings=settings,
            force=True,
        )
    except HwpruneError as error:
        record(file, document | {"failed": str(error).splitlines()[0]})
        return
    pruning_s = time.monotonic() - started
    small, steps = found.model.to(TRAINER), _steps(found.directory, kind, method, settings)
    reestimate(small, case.data.calibration)
    untrained = evaluate(small, case.data.validation)
    recipe = Recipe(epochs=1000, max_steps=max(0, options.steps - steps), lr=case.lr, seed=seed)
    finetune(small, replace(case.data, validation=First(case.data.validation)), recipe)
    tuned = evaluate(small, case.data.validation)
    work = found.pruned.macs / found.dense.macs, found.pruned.parameters / found.dense.parameters
    record(
        file,
        document
        | {
            "pruning_steps": steps,
            "pruning_s": round(pruning_s, 1),
            "top1": {"untrained": untrained.top1, "tuned": tuned.top1},
            "certified": asdict(bench.certified(small.cpu()).comparison),
            "macs": work[0],
            "parameters": work[1],
        },
    )


def _steps(run: Path, kind: str, method: str, settings: Settings) -> int:
    """Batches that were run backward, or trained on, until the network had its widths."""
    estimates = len(list(run.glob("importance-*.safetensors")))
    name = settings.criterion.partition(",")[0]
    per_estimate = OWN_STEPS.get(("importance", name), 0 if name in READS_NOTHING else BATCHES)
    return estimates * per_estimate + (settings.regularizer_steps if kind == "regularizer" else 0)


def _rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    order = {(kind, name): place for place, (kind, name) in enumerate((k, n) for k in METHODS for n in METHODS[k])}
    cells: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
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
