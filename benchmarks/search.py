"""How far the greedy search is from the proven best, what both take, and how that grows.

    python benchmarks/search.py --table FILE [--model MODEL ...] [--seeds 3] [--seconds 60] [--out DIR]

The table is an in-context one of all networks, such as those in `profiles/`. Latency is what it predicts and importance
is drawn: log-normal within a group and between groups, so that no weights are needed. Kept is the importance above that
of the narrowest widths. A network counts as told where greedy keeps 97 % at least of what is proven to be possible at
every target and draw.

Brute force: chains of a few convolutions, where one block of channels is much of all that goes, and all their widths.

Growth: chains of convolutions whose latency is a staircase of products, of rising numbers of groups and of widths each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.cost.normalisation import latency_ops
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import uncalibrated
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.search.exact import exact
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Op, Problem

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121")
TARGETS = (0.75, 0.5, 0.35)
LEAST_KEPT, BETWEEN, WITHIN = 0.97, 0.5, 0.7
GROWTH = ((8, 16), (16, 16), (32, 16), (64, 16), (128, 16), (256, 16), (32, 4), (32, 8), (32, 32), (32, 64))
SMALL, DRAWS = (4, 6), 40  # chains for brute force: groups and widths, and how many for each target
BLOCK = 8
HEADS = ("network", "groups", "target", "greedy", "exact", "greedy keeps, of the best found", "of the bound", "gap")


def main() -> int:
    """Solve, record, draw; exit 1 where greedy is further off than it may be."""
    options = _options()
    torch.set_num_threads(1)
    table = LatencyTable.load(options.table)
    networks = [row for model in options.model for row in _network(model, table, options)]
    growth = [
        _solved(_chain(*size, seed=0), options.seconds) | {"groups": size[0], "widths": size[1]} for size in GROWTH
    ]
    small = _small()
    found = {"fingerprint": fingerprint(), "networks": networks, "growth": growth, "small": small}
    record(options.out / "search.json", found)
    text = markdown(HEADS, [_row(model, target, networks) for model in options.model for target in TARGETS])
    text += (
        f"\n\nOn {small['problems']} chains of {SMALL[0]} groups with {SMALL[1]} widths each, greedy finds the best"
        f" of all widths in {small['best']}, and loses {100 * small['worst']:.0f} % more at worst."
    )
    (options.out / "search.md").write_text(text + "\n", encoding="utf-8")
    _draw(growth, options.out / "search.svg")
    print(text)
    return int(min(row["kept_of_bound"] for row in networks) < LEAST_KEPT)


def _network(model: str, table: LatencyTable, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    with tempfile.TemporaryDirectory(prefix="hwprune-benchmark-") as folder:
        settings = Settings("100%", runtime="onnxruntime", method="in-context")
        subject = Subject(load_model(model), describe_inputs(model), settings, Path(folder), Silent(), model)
        predictor, processor = uncalibrated(subject, table), table.fingerprint.get("cpu", "")
        dense_ms = predictor.predict_ms(subject.network.widths)
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            groups = tuple(_group(name, choices, rng) for name, choices in subject.choices.items())
            for target in TARGETS:
                ops = latency_ops(subject.network, predictor)  # anew: greedy pays for looking costs up
                limit = predictor.summed_ms(target * dense_ms)
                problem = Problem(groups, (Budget("latency", ops, limit, predictor.constant_ms),), ops)
                key = {"model": model, "seed": seed, "target": target, "groups": len(groups), "table": processor}
                found.append(key | _solved(problem, options.seconds))
                print(found[-1], flush=True)
    return found


def _small() -> dict[str, Any]:
    """Greedy against all widths."""
    excess = []
    for seed, target in product(range(DRAWS), TARGETS):
        problem = _chain(*SMALL, seed=seed, target=target)
        (budget,) = problem.budgets
        names, choices = zip(*((group.name, group.choices) for group in problem.groups), strict=True)
        every = (dict(zip(names, widths, strict=True)) for widths in product(*choices))
        best = min(problem.lost(widths) for widths in every if budget.holds(widths))
        excess.append(greedy(problem).lost / best - 1)
    return {"problems": len(excess), "best": sum(one < 1e-9 for one in excess), "worst": max(excess)}


def _solved(problem: Problem, seconds: float) -> dict[str, Any]:
    started = time.monotonic()
    first = greedy(problem)
    between = time.monotonic()
    best = exact(problem, seconds=seconds)
    ended = time.monotonic()
    if not first.feasible or best.bound is None:
        raise SystemExit("a problem without a solution or a proof: nothing can be compared")
    most = sum(group.loss[0] for group in problem.groups)
    return {
        "greedy_s": between - started,
        "exact_s": ended - between,
        "greedy_kept": 1 - first.lost / most,
        "exact_kept": 1 - best.lost / most,
        "bound_kept": 1 - best.bound / most,
        "kept_of_best": (most - first.lost) / (most - best.lost),
        "kept_of_bound": (most - first.lost) / (most - best.bound),
        "gap_of_loss": (best.lost - best.bound) / best.lost if best.lost else 0.0,
    }


def _group(name: str, choices: Sequence[int], rng: np.random.Generator) -> Group:
    scores = np.sort(rng.lognormal(BETWEEN * rng.normal(), WITHIN, choices[-1])) / choices[-1]
    lost = np.concatenate([[0.0], np.cumsum(scores)])
    return Group(name, tuple(choices), tuple(float(lost[choices[-1] - width]) for width in choices))


def _chain(groups: int, widths: int, *, seed: int, target: float = 0.5) -> Problem:
    """A chain of convolutions, each between two groups, at a share of its latency."""
    rng = np.random.default_rng(seed)
    choices = tuple(BLOCK // 2 * step for step in range(1, widths + 1))
    names = [f"group {number}" for number in range(groups)]
    speeds = rng.lognormal(0, 0.5, groups)
    ops = tuple(
        Op(pair, partial(_staircase, pair, float(speed))) for pair, speed in zip(pairwise(names), speeds, strict=False)
    )
    limit = target * sum(op.at(dict.fromkeys(names, choices[-1])) for op in ops)
    return Problem(tuple(_group(name, choices, rng) for name in names), (Budget("latency", ops, limit),), ops)


def _staircase(names: tuple[str, str], speed: float, widths: Mapping[str, int]) -> float:
    first, second = (-(-widths[name] // BLOCK) for name in names)
    return speed * (1 + first * second)


def _row(model: str, target: float, networks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    own = [row for row in networks if (row["model"], row["target"]) == (model, target)]
    seconds = (f"{median(row[key] for row in own):.2f} s" for key in ("greedy_s", "exact_s"))
    least = (f"{100 * min(row[key] for row in own):.2f} %" for key in ("kept_of_best", "kept_of_bound"))
    gap = f"{100 * max(row['gap_of_loss'] for row in own):.2f} %"
    return (model, str(own[0]["groups"]), f"{100 * target:.0f} %", *seconds, *least, gap)


def _draw(growth: Sequence[Mapping[str, Any]], picture: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hwprune", "font.size": 11})
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    sides = (("groups", "widths", 16, "groups of 16 widths"), ("widths", "groups", 32, "widths of each of 32 groups"))
    for axes, (along, fixed, at, title) in zip(panes, sides, strict=True):
        points = sorted((row for row in growth if row[fixed] == at), key=lambda row: int(row[along]))
        for key, label in (("greedy_s", "greedy"), ("exact_s", "exact, to 0.1 % of the loss")):
            axes.plot([row[along] for row in points], [row[key] for row in points], "o-", label=label)
        axes.set(xscale="log", yscale="log", xlabel=title)
        axes.set_xticks([row[along] for row in points], [str(row[along]) for row in points])
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panes[0].set_ylabel("wall time (s)")
    panes[0].legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None, "Creator": None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, required=True, help="an in-context one of all networks")
    parser.add_argument("--model", action="append", help="repeatable; default: " + ", ".join(MODELS))
    parser.add_argument("--seeds", type=int, default=3, help="draws of importance")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the exact search")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.model = options.model or list(MODELS)
    return options


if __name__ == "__main__":
    sys.exit(main())
