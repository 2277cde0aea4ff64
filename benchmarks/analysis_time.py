"""How the time of the analysis grows with the network: residual networks of 30 to 10,000 operators.

    python benchmarks/analysis_time.py [--runs 5] [--most 10000] [--out DIR]

Per depth the median of several runs on one thread, and a straight line through them in logarithms: its slope is 1
where twice the operators take twice the time. Processor time, which on one thread is what passes on an idle machine
and which neighbours disturb less. Needs matplotlib for the picture; two minutes.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402  # the threads are set before anything that reads them
import torch  # noqa: E402
from recording import RESULTS, fingerprint, markdown, record  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import hwprune  # noqa: E402

OPS = (30, 100, 300, 1000, 3000, 10_000)
CHANNELS = 16


def main() -> int:
    """Measure, fit, draw, print."""
    options = _options()
    torch.set_num_threads(1)
    one, two = (_analysis(_Residual(blocks)) for blocks in (1, 2))  # a first call's own work belongs to no depth
    stem, block = 2 * len(one.trace.ops) - len(two.trace.ops), len(two.trace.ops) - len(one.trace.ops)
    points = [_measured(round((ops - stem) / block), options.runs) for ops in OPS if ops <= options.most]
    slope, at_1000 = _fit(points)
    document = {"fingerprint": fingerprint(), "channels": CHANNELS, "slope": slope, "s_at_1000_ops": at_1000}
    record(options.out / "analysis_time.json", document | {"points": points})
    _draw(points, slope, at_1000, options.out / "analysis_time.svg")
    rows = [(f"{p['ops']:,}", f"{p['median_s']:.3f} s", f"{1e3 * p['median_s'] / p['ops']:.2f} ms") for p in points]
    print(markdown(("operators", "analysis, median", "per operator"), rows))
    print(f"slope {slope:.2f}; {at_1000:.3f} s at 1,000 operators")
    return 0


class _Residual(nn.Module):
    """A stem, plain residual blocks and a classifier; the blocks' sums tie all their channels together."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block() for _ in range(blocks)))
        self.head = nn.Linear(CHANNELS, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


def _analysis(model: nn.Module) -> hwprune.Network:
    return hwprune.analyze(model.eval(), (torch.zeros(1, 3, 8, 8),))


def _measured(blocks: int, runs: int) -> dict[str, Any]:
    model, seconds = _Residual(blocks), []
    for _ in range(runs):
        gc.collect()
        started = process_time()
        network = _analysis(model)
        seconds.append(process_time() - started)
    print(f"{len(network.trace.ops)} operators, {len(network.free)} groups: {median(seconds):.3f} s", flush=True)
    return {"ops": len(network.trace.ops), "groups": len(network.free), "median_s": median(seconds), "seconds": seconds}


def _fit(points: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Slope of log time over log operators by least squares, and the line's time at 1,000 operators."""
    ops, seconds = (np.log([point[key] for point in points]) for key in ("ops", "median_s"))
    slope, offset = np.polyfit(ops, seconds, 1)
    return float(slope), float(np.exp(offset + slope * np.log(1000)))


def _draw(points: Sequence[dict[str, Any]], slope: float, at_1000: float, picture: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hwprune", "font.size": 11})
    from matplotlib import pyplot

    ops = np.array([point["ops"] for point in points])
    seconds = np.array([point["median_s"] for point in points])
    spread = np.array([[min(point["seconds"]), max(point["seconds"])] for point in points])
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    line = at_1000 * (ops / 1000) ** slope
    axes.plot(ops, line, color="0.6", linewidth=1.5, label=f"fitted, slope {slope:.2f}")
    axes.errorbar(
        ops,
        seconds,
        yerr=np.abs(spread.T - seconds),
        fmt="o",
        color="tab:blue",
        capsize=3,
        label="median, lowest and highest run",
    )
    axes.set(xscale="log", yscale="log", xlabel="operators of the network", ylabel="analysis, processor time (s)")
    axes.set_xticks(ops, [f"{n:,}" for n in ops])
    axes.minorticks_off()
    low, high = np.floor(np.log10(spread.min())), np.ceil(np.log10(spread.max()))
    ticks = 10.0 ** np.arange(low, high + 1)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None, "Creator": None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of every depth")
    parser.add_argument("--most", type=int, default=OPS[-1], help="operators of the largest network")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
