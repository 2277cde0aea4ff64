"""A correlation study as a picture: one panel per set of points and proxy. Needs matplotlib."""

from __future__ import annotations

import io
from textwrap import wrap
from types import ModuleType
from typing import Any, Final

import numpy as np

from hwprune.cost.correlation import PointSet, Study
from hwprune.cost.points import PROXIES
from hwprune.errors import MissingPackageError

INK: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
MOST_FAMILIES: Final = 7  # that get a colour of their own; the rest is grey
SIZE: Final = 3.1  # inches of a panel's side
DPI: Final = 130
LETTERS: Final = 38  # of a set's name in a line beside its panels
UNITS: Final = {"macs": 1e9, "parameters": 1e6, "activations": 1e6, "memory_bytes": 2**20}
LABELS: Final = {
    "macs": "GMACs",
    "parameters": "parameters (M)",
    "activations": "activation elements (M)",
    "memory_bytes": "measured memory (MiB)",
}


def require_matplotlib() -> None:
    """Raises `MissingPackageError` with the install line where matplotlib is not installed."""
    _matplotlib()


def draw(study: Study) -> bytes:
    """The study as PNG: sets from top to bottom, proxies from left to right, latency upwards.

    Networks are drawn on logarithmic axes, since they span three orders of magnitude; cut networks as reductions.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    _matplotlib()
    from matplotlib.figure import Figure

    proxies, rows = study.proxies, max(len(study.sets), 1)
    figure = Figure(figsize=(SIZE * max(len(proxies), 1) + 0.4, (SIZE + 0.35) * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, max(len(proxies), 1), squeeze=False)
    for shown, points in zip(panels, study.sets, strict=False):
        colours = _colours(points)
        for panel, name in zip(shown, proxies, strict=False):
            if name in points.proxies:
                _panel(panel, points, name, colours)
            else:
                panel.set_axis_off()
                panel.text(0.5, 0.5, f"{PROXIES[name]}:\nequal or unknown here", ha="center", va="center", fontsize=9)
        label = "latency saved" if points.relative else "latency (ms)"
        first = next((p for p, n in zip(shown, proxies, strict=False) if n in points.proxies), shown[0])
        first.set_ylabel("\n".join([*wrap(points.name, LETTERS), label]), fontsize=9)
        _legend(shown[-1], colours, points)
    figure.suptitle(f"{study.device}: latency against what is counted", fontsize=11)
    found = io.BytesIO()
    figure.savefig(found, format="png", dpi=DPI)
    return found.getvalue()


def _panel(panel: Any, points: PointSet, name: str, colours: dict[str, str]) -> None:
    x, y = points.figures(name), points.figures("latency_ms")
    ink = [colours.get(_kin(points, i), INK[-1]) for i in range(len(x))]
    if points.relative:
        panel.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, zorder=0)  # saved as much latency as of the count
        low = min(float(x.min()), float(y.min()), 0.0)
        high = max(float(x.max()), float(y.max()), 0.05) + 0.03
        panel.set_xlim(low - 0.03, high)
        panel.set_ylim(low - 0.03, high)
        panel.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        panel.set_xlabel(f"{PROXIES[name]} saved", fontsize=9)
    else:
        x = x / UNITS[name]
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(LABELS[name], fontsize=9)
    panel.scatter(x, y, c=ink, s=14, alpha=0.75, linewidths=0)
    found = points.correlations[name]
    panel.set_title(f"r {found.pearson.value:.3f}   rank {found.spearman.value:.3f}", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(True, color="#eeeeee", linewidth=0.6)
    panel.set_axisbelow(True)


def _kin(points: PointSet, position: int) -> str:
    point = points.compared[position]
    return point.base if points.relative else point.family


def _colours(points: PointSet) -> dict[str, str]:
    """The largest families, or the dense networks, with a colour each."""
    names, counts = np.unique([_kin(points, i) for i in range(len(points.compared))], return_counts=True)
    largest = sorted(zip(-counts, names, strict=True))[:MOST_FAMILIES]
    return {str(name): ink for (_, name), ink in zip(largest, INK, strict=False)}


def _legend(panel: Any, colours: dict[str, str], points: PointSet) -> None:
    if len(colours) < 2:
        return
    from matplotlib.lines import Line2D

    names = {*(_kin(points, i) for i in range(len(points.compared)))}
    handles = [Line2D([], [], marker="o", linestyle="", color=ink, markersize=4) for ink in colours.values()]
    labels = [name.rpartition(":")[2] for name in colours]
    if len(names) > len(colours):
        handles.append(Line2D([], [], marker="o", linestyle="", color=INK[-1], markersize=4))
        labels.append("others")
    panel.legend(handles, labels, fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _matplotlib() -> ModuleType:
    try:
        import matplotlib
    except ImportError:
        raise MissingPackageError("matplotlib", extra="plots", needed_for="the study's picture") from None
    module: ModuleType = matplotlib
    return module
