"""Accuracy against certified latency: hwprune beside the methods that a user would take instead.

    python benchmarks/frontier.py --cifar FOLDER --resnet20 FILE [--resnet56 FILE] [--imagenette FOLDER --mobilenet-v2
        FILE] [--target 75% ...] [--method NAME ...] [--seed 0 ...] [--steps 500] [--runs DIR] [--out DIR]

All methods start from the same dense weights and end at the same latency, certified by the same paired test (ONNX
Runtime, one thread, batch 1, fp32). All have the same number of training steps: the batches that a method runs forward
and backward while it prunes are taken from those of the fine-tuning, which is the same for all. Batch-norm statistics
are estimated anew for all before that. Finished figures in ``--runs`` and recorded ones of this processor are only
read, so a stopped comparison goes on; methods are compared on one processor each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import torch
from cases import add_files, given, opened
from cells import Cells, Run, by_processor
from frontier_bench import Bench
from frontier_methods import CRITERIA, METHODS, OURS, TOOLS, VARIANTS
from recording import FIGURES, RESULTS, figures, markdown
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hwprune.errors import HwpruneError
from hwprune.recovery.evaluate import evaluate

TARGETS = ("75%", "50%", "35%")
# Where it is not the case's own, for all methods: 500 steps at 0.005 took MobileNetV2 from 81.8 % to 75.8 %.
LR = {"mobilenet_v2": 0.001}
KNOWN = {**METHODS, **VARIANTS}
HEADS = ("network", "target", "method", *FIGURES)
TRIED = "What else was tried, of which none is in the comparison above:"


def main() -> int:
    """Run what is missing, record all, draw; exit 1 where hwprune is not ahead of all other tools at a target."""
    options = _options()
    torch.set_num_threads(options.threads)
    cells = Cells(
        ("network", "target", "method", "seed"), options.runs, options.out / "frontier.json", {"steps": options.steps}
    )
    dense: dict[str, float] = {}  # top-1 by network
    for name in given(options):
        for seed in options.seed:
            for target in options.target:
                for method in options.method:
                    if cells.missing(network=name, target=target, method=method, seed=seed):
                        _one(cells, name, target, method, seed, options, dense)
    runs = cells.write()
    compared, tried = ([run for run in runs if (run["method"] in METHODS) is side] for side in (True, False))
    told = []
    for processor, own in by_processor(compared).items():
        told += [f"On {processor}:", markdown(HEADS, _rows(own)), "\n".join(_verdicts(own))]
    text = "\n\n".join([*told, TRIED, markdown(HEADS, _rows(tried)), "Made by `benchmarks/frontier.py`."])
    (options.out / "frontier.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "frontier.png").write_bytes(_drawn(compared))
    print(text)
    return int(not all(lead.holds for lead in _leads(compared, TOOLS)))


def _one(
    cells: Cells, name: str, target: str, method: str, seed: int, options: argparse.Namespace, dense: dict[str, float]
) -> None:
    """One method at one target."""
    keep = partial(cells.keep, network=name, target=target, method=method, seed=seed)
    case, started = opened(name, options, seed), time.monotonic()
    bench = Bench(case, options.runs / f"{name}.parquet", seed)
    try:
        found = KNOWN[method](bench, float(target.rstrip("%")) / 100)
    except (HwpruneError, RuntimeError, ValueError, TypeError) as error:  # another tool's may be of any kind
        keep({"failed": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    pruning_s = time.monotonic() - started
    if name not in dense:
        dense[name] = evaluate(case.model, case.data.validation).top1
    figures = bench.figures(found.network, steps=options.steps - found.steps, lr=LR.get(name, case.lr))
    figures["top1"]["dense"] = dense[name]
    left, all_ = (sum(one.numel() for one in network.parameters()) for network in (found.network, case.model))
    keep(
        {
            **figures,
            "pruning_steps": found.steps,
            "note": found.note,
            "pruning_s": round(pruning_s, 1),
            "macs": _macs(found.network, bench) / _macs(case.model, bench),
            "parameters": left / all_,
            "widths": {name: len(value) for name, value in found.network.state_dict().items() if value.dim() > 1},
        }
    )


def _macs(model: nn.Module, bench: Bench) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(bench.inputs)
    return counter.get_total_flops() / 2


def _cells(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Runs by network, target and method, in the order of the tables."""
    found: dict[tuple[str, str, str], list[Run]] = {}
    names = list(KNOWN)
    for run in sorted(runs, key=lambda r: (r["network"], -float(r["target"].rstrip("%")), names.index(r["method"]))):
        found.setdefault((run["network"], run["target"], run["method"]), []).append(run)
    return found


def _rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    return [(*key, *figures(own)) for key, own in _cells(runs).items()]


@dataclass(frozen=True)
class Lead:
    """How far hwprune's best method is ahead of the best one of others, after training.

    Attributes:
        points: of top-1, as a share; negative where it is behind.
        spread: standard deviation of the difference, over the seeds that both have; None where they have one.
    """

    network: str
    target: str
    ours: str
    other: str
    points: float
    spread: float | None

    @property
    def holds(self) -> bool:
        """Whether it is ahead by more than the spread."""
        return self.points > (self.spread or 0.0)

    def __str__(self) -> str:
        side = "ahead of" if self.points >= 0 else "behind"
        spread = "one seed" if self.spread is None else f"± {100 * self.spread:.1f}"
        return (
            f"{self.network} at {self.target}: {self.ours} is {100 * abs(self.points):.1f} points ({spread}) {side} "
            f"{self.other}"
        )


def _leads(runs: Sequence[Run], others: Collection[str]) -> list[Lead]:
    """Over these others, of every network and target that methods of both sides have on one processor."""
    found = []
    for alike in by_processor(runs).values():
        cells = {key: _by_seed(own) for key, own in _cells(alike).items()}
        means = {key: mean(tuned.values()) for key, tuned in cells.items() if tuned}
        for network, target in dict.fromkeys(key[:2] for key in means):
            ours, other = (
                max(
                    (key for key in means if key[:2] == (network, target) and key[2] in side),
                    key=lambda key: means[key],
                    default=None,
                )
                for side in (OURS, others)
            )
            if ours and other:
                both = cells[ours].keys() & cells[other].keys()
                differences = [cells[ours][seed] - cells[other][seed] for seed in both]
                spread = stdev(differences) if len(differences) > 1 else None
                found.append(Lead(network, target, ours[2], other[2], means[ours] - means[other], spread))
    return found


def _by_seed(runs: Sequence[Run]) -> dict[int, float]:
    return {run["seed"]: run["top1"]["tuned"] for run in runs if "failed" not in run}


def _verdicts(runs: Sequence[Run]) -> list[str]:
    notes = {run["note"]: run["method"].partition(",")[0] for run in runs if run.get("note")}
    leads = [*_leads(runs, TOOLS), *_leads(runs, CRITERIA)]
    return [f"- {line}" for line in (*leads, *(f"{method}: {note}" for note, method in notes.items()))]


def _drawn(runs: Sequence[Run]) -> bytes:
    """Top-1 after training over certified latency, a panel for each network and processor."""
    import io

    import matplotlib.pyplot as plt

    shown = sorted({(run["network"], run["processor"]) for run in runs})
    figure, panels = plt.subplots(1, max(1, len(shown)), figsize=(8 * max(1, len(shown)), 6), squeeze=False)
    for panel, (network, processor) in zip(panels[0], shown, strict=False):
        own = [run for run in by_processor(runs)[processor] if run["network"] == network and "failed" not in run]
        cells = _cells(own)
        for method in dict.fromkeys(key[2] for key in cells):
            number = list(METHODS).index(method)  # one look in all panels
            points = sorted(
                (mean(r["certified"]["ratio"] for r in own), mean(r["top1"]["tuned"] for r in own))
                for key, own in cells.items()
                if key[2] == method
            )
            style = {"linewidth": 2.5, "zorder": 3} if method in OURS else {"linewidth": 1, "alpha": 0.8}
            look = {"marker": "osD^v<>Pp*hXd"[number % 13], "color": f"C{number % 10}", "markersize": 5}
            panel.plot(*zip(*points, strict=True), label=method, **look, **style)
        panel.set(title=f"{network}, {processor}", xlabel="certified latency / dense", ylabel="top-1 after training")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower right")
    content = io.BytesIO()
    figure.tight_layout()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_files(parser)
    parser.add_argument(
        "--target", action="append", help="share of the dense latency; repeatable; default: 75, 50, 35 %%"
    )
    parser.add_argument(
        "--method", action="append", choices=list(KNOWN), help="repeatable; default: all but the variants of hwprune"
    )
    parser.add_argument("--seed", action="append", type=int, help="repeatable; default: 0")
    parser.add_argument("--steps", type=int, default=500, help="of training in all")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, for training")
    parser.add_argument("--runs", type=Path, default=Path("runs/frontier"), help="figures of single runs, and tables")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.target, options.seed = options.target or list(TARGETS), options.seed or [0]
    options.method = options.method or list(METHODS)
    return options


if __name__ == "__main__":
    sys.exit(main())
