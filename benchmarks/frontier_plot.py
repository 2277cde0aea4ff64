"""The picture of `frontier.py`: top-1 after training over certified latency, a panel for each network and processor.

Colours tell families: blue is hwprune, grey are other papers' importances with its tables and search, orange is
Torch-Pruning. Bars are standard deviations over seeds, where a method has several.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
from cells import Run
from frontier_methods import CRITERIA, METHODS, OURS
from matplotlib.axes import Axes

ACROSS = 3  # panels in a row
BLUES = ("#1f77b4", "#0b3d91", "#6baed6", "#9ecae1", "#00a0a0", "#004d66")  # of `OURS`, in its order
ORANGES = {"magnitude": "#ff7f0e", "taylor": "#d62728", "bn-scale": "#e8b04a", "hessian": "#8c564b"}
OTHERS = {"Group Fisher's recipe": "#2ca02c", "HALP-style": "#9467bd", "uniform widths": "#e377c2"}
MARKERS = "osD^v<>Pp*hXd"


def drawn(runs: Sequence[Run]) -> bytes:
    """A PNG of these trained runs."""
    shown = sorted({(run["network"], run["processor"]) for run in runs})
    across = max(1, min(ACROSS, len(shown)))
    down = max(1, -(-len(shown) // across))
    figure, panels = plt.subplots(down, across, figsize=(6.5 * across + 3, 6 * down), squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.axis("off")
    lines: dict[str, Any] = {}  # a method's, in whichever panel has it
    for axes, (network, processor) in zip(panels.flat, shown, strict=False):
        own = [run for run in runs if (run["network"], run["processor"]) == (network, processor)]
        lines |= _panel(axes, own)
        axes.set(title=f"{network}\n{processor}", xlabel="certified latency / dense", ylabel="top-1 after training")
        axes.grid(alpha=0.3)
    known = [name for name in METHODS if name in lines]
    figure.tight_layout(rect=(0, 0, 1 - 3 / (6.5 * across + 3), 1))
    figure.legend([lines[name] for name in known], known, loc="center right", fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _panel(axes: Axes, runs: Sequence[Run]) -> dict[str, Any]:
    """Draw a line for each method; returns them by its name."""
    found = {}
    for method in METHODS:
        by_target: dict[str, list[Run]] = {}
        for run in runs:
            if run["method"] == method and "failed" not in run:
                by_target.setdefault(run["target"], []).append(run)
        points = sorted(_point(own) for own in by_target.values())
        if points:
            ratios, top1, spread = zip(*points, strict=True)
            found[method] = axes.errorbar(ratios, top1, yerr=spread, label=method, capsize=2, **_look(method))
    return found


def _point(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Certified latency, top-1 and its standard deviation over seeds (0 for one)."""
    tuned = [run["top1"]["tuned"] for run in runs]
    return mean(run["certified"]["ratio"] for run in runs), mean(tuned), stdev(tuned) if len(tuned) > 1 else 0.0


def _look(method: str) -> Mapping[str, Any]:
    look = {"marker": MARKERS[list(METHODS).index(method) % len(MARKERS)], "markersize": 5}
    if method in OURS:
        return look | {"color": BLUES[list(OURS).index(method)], "linewidth": 2.2, "zorder": 3}
    thin = look | {"linewidth": 1}
    if method in CRITERIA:
        return thin | {"color": "#999999", "linestyle": "--"}
    if method in OTHERS:
        return thin | {"color": OTHERS[method]}
    criterion, way = method.removeprefix("Torch-Pruning, ").split(", ")
    return thin | {"color": ORANGES[criterion], "linestyle": "-" if way == "global" else ":"}
