"""Accuracy against certified latency: hwprune beside the methods that a user would take instead.

    python benchmarks/frontier.py --cifar FOLDER --resnet20 FILE [--resnet56 FILE] [--imagenette FOLDER --mobilenet-v2
        FILE] [--target 75% ...] [--method NAME ...] [--seed 0 ...] [--steps 500] [--runs DIR] [--out DIR]
        [--only find|train] [--part 1/2] [--found FILE]

All methods start from the same dense weights and end at the same latency, certified by the same paired test (ONNX
Runtime, one thread, batch 1, fp32). All have the same number of training steps: the batches that a method runs forward
and backward while it prunes are taken from those of the fine-tuning, which is the same for all. Batch-norm statistics
are estimated anew for all before that. Finished figures in ``--runs`` and recorded ones of this processor are only
read, so a stopped comparison goes on; methods are compared on one processor each.

Networks are found and certified on an idle processor, and then trained. ``--only train`` trains what was found on any
machine and is recorded; several processes share that work with ``--part``, and ``--found`` takes the networks of
another comparison, to train them for other ``--steps``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from cases import PADDED, add_files, given, opened
from cells import Cells, Run, by_processor
from frontier_bench import TRAINER, Bench
from frontier_methods import CRITERIA, FOR_PADDED, METHODS, OURS, TOOLS, VARIANTS, rebuilt
from frontier_plot import drawn
from recording import FIGURES, RESULTS, figures, markdown
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hwprune.errors import HwpruneError
from hwprune.recovery.evaluate import evaluate

TARGETS = ("75%", "50%", "35%")
# Where it is not the case's own, for all methods: 500 steps at 0.005 took MobileNetV2 from 81.8 % to 75.8 %.
LR = {"mobilenet_v2": 0.001}
KNOWN = {**METHODS, **VARIANTS}
HEADS = ("network", "target", "method", *FIGURES)
WEIGHTS = ".safetensors"  # of a network that was trained while it was pruned
NAMES = ("network", "target", "method", "seed")  # of a run
# What training leaves as it is.
FOUND = ("how", "certified", "pruning_steps", "note", "pruning_s", "macs", "parameters")
TRIED = "What else was tried, of which none is in the comparison above:"


def main() -> int:
    """Run what is missing, record all, draw; exit 1 where hwprune is not ahead of all other tools at a target."""
    options = _options()
    torch.set_num_threads(options.threads)
    cells = Cells(NAMES, options.runs, options.out / "frontier.json", {"steps": options.steps})
    wanted = [
        {"network": name, "target": target, "method": method, "seed": seed}
        for name in given(options)
        for seed in options.seed
        for target in options.target
        for method in options.method
        if name in PADDED or method not in FOR_PADDED
    ]
    if options.found is not None:
        cells.adopt(options.found, *FOUND)
    dense: dict[str, float] = {}  # top-1 by network
    if options.only == "train":
        for run in _share(cells, wanted, options.part):
            _trained(cells, run, options, dense)
    else:
        for named in wanted:
            if cells.missing(**named):
                _found(cells, named, options)
            if options.only is None and (run := cells.here_of(**named)):
                _trained(cells, run, options, dense)
    runs = cells.write()
    untrained = sum("failed" not in run and "top1" not in run for run in runs)
    runs = [run for run in runs if "failed" in run or "top1" in run]
    compared, tried = ([run for run in runs if (run["method"] in METHODS) is side] for side in (True, False))
    told = []
    for processor, own in by_processor(compared).items():
        told += [f"On {processor}:", markdown(HEADS, _rows(own)), "\n".join(_verdicts(own))]
    if untrained:
        told.append(f"{untrained} more networks are found and certified, and not trained yet.")
    told.append(TRIED)
    for processor, own in by_processor(tried).items():
        told += [f"On {processor}:", markdown(HEADS, _rows(own)), "\n".join(_notes(own))]
    text = "\n\n".join([*(part for part in told if part), "Made by `benchmarks/frontier.py`."])
    (options.out / "frontier.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "frontier.png").write_bytes(drawn(compared))
    print(text)
    return int(not all(lead.holds for lead in _leads(compared, TOOLS)))


def _share(cells: Cells, wanted: Sequence[Run], part: str) -> list[Run]:
    """Runs that this process is to train, of all that were found; which it is does not change while others train."""
    names = [tuple(one[name] for name in NAMES) for one in wanted]
    found = [run for run in cells.all() if "how" in run and tuple(run[name] for name in NAMES) in names]
    number, count = map(int, part.split("/"))
    return found[number - 1 :: count]


def _found(cells: Cells, named: Run, options: argparse.Namespace) -> None:
    """What one method finds at one target, certified."""
    method = named["method"]
    bench, started = _bench(named, options), time.monotonic()
    try:
        found = KNOWN[method](bench, float(named["target"].rstrip("%")) / 100)
    except (HwpruneError, RuntimeError, ValueError, TypeError) as error:  # another tool's may be of any kind
        cells.keep({**named, "failed": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    pruning_s = time.monotonic() - started
    if found.how.get("own_weights"):
        save_file(found.network.state_dict(), cells.file(named, WEIGHTS))
    left, all_ = (sum(one.numel() for one in network.parameters()) for network in (found.network, bench.case.model))
    cells.keep(
        {
            **named,
            "certified": asdict(bench.certified(found.network).comparison),
            "pruning_steps": found.steps,
            "note": found.note,
            "pruning_s": round(pruning_s, 1),
            "macs": _macs(found.network, bench) / _macs(bench.case.model, bench),
            "parameters": left / all_,
            "how": found.how,
        }
    )


def _trained(cells: Cells, run: Run, options: argparse.Namespace, dense: dict[str, float]) -> None:
    """Train what was found, on any machine; what has weights of its own only where they are."""
    weights = cells.file(run, WEIGHTS)
    if "failed" in run or "top1" in run or (run["how"].get("own_weights") and not weights.exists()):
        return
    print("training", *(run[name] for name in NAMES), sep=", ", file=sys.stderr, flush=True)
    name, bench = run["network"], _bench(run, options)
    small = rebuilt(bench, run["method"], run["how"], weights)
    if name not in dense:
        dense[name] = evaluate(bench.case.model, bench.case.data.validation).top1
    steps = options.steps - run["pruning_steps"]
    top1 = bench.trained(small, steps=steps, lr=LR.get(name, bench.case.lr))
    cells.keep({**run, "top1": {"dense": dense[name], **top1}, "trained_on": TRAINER.type})


def _bench(named: Run, options: argparse.Namespace) -> Bench:
    case = opened(named["network"], options, named["seed"])
    return Bench(case, options.runs / f"{named['network']}.parquet", named["seed"])


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
    return [*(f"- {lead}" for lead in (*_leads(runs, TOOLS), *_leads(runs, CRITERIA))), *_notes(runs)]


def _notes(runs: Sequence[Run]) -> list[str]:
    """What is different about some runs, and of which methods they are."""
    notes: dict[str, list[str]] = {}
    for run in runs:
        if run.get("note"):
            notes.setdefault(run["note"], []).append(run["method"])
    return [f"- {'; '.join(dict.fromkeys(methods))}: {note}" for note, methods in notes.items()]


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
    parser.add_argument("--only", choices=("find", "train"), help="half of the work; default: all of it")
    parser.add_argument("--part", default="1/1", help="of what is to be trained, with --only train")
    parser.add_argument("--found", type=Path, help="a recorded comparison whose networks are to be trained")
    parser.add_argument("--runs", type=Path, default=Path("runs/frontier"), help="figures of single runs, and tables")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.target, options.seed = options.target or list(TARGETS), options.seed or [0]
    options.method = options.method or list(METHODS)
    return options


if __name__ == "__main__":
    sys.exit(main())
