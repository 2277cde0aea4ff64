"""A correlation study as one HTML file that needs nothing else: verdict, picture, coefficients, fits, points."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite

from hwprune.cost.correlation import PointSet, Study
from hwprune.cost.points import PROXIES, Point
from hwprune.units import format_bytes, format_count, format_ms

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img { max-width: 100%; height: auto }
.verdict { font-size: 1.05rem; border-left: 4px solid #1f77b4; padding-left: 1rem }
.note { border-left: 4px solid #d62728; padding-left: 1rem } table { border-collapse: collapse; font-size: .9rem }
td { white-space: nowrap }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } details { margin: .6rem 0 } summary { cursor: pointer }
"""


def page(study: Study, picture: bytes | None, facts: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        picture: PNG; None leaves it out.
        facts: what the figures belong to: hardware, runtime, versions, date, source.
    """
    image = "" if picture is None else base64.b64encode(picture).decode()
    shown = f'<img alt="latency against counts" src="data:image/png;base64,{image}">' if image else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in study.notes)
    return "\n".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>hwprune correlate: {escape(study.device)}</title><style>{STYLE}</style>",
            f"<h1>Latency against what is counted: {escape(study.device)}</h1>",
            f'<p class="verdict">{escape(study.verdict)}</p>{notes}{shown}',
            *(_set(points) for points in study.sets),
            "<h2>What this belongs to</h2>",
            _table(("", ""), facts.items()),
            "<p>Intervals are 95 % percentile bootstraps; whole families are drawn where there are eight or more. "
            "Fits have no negative coefficient and the least relative error; “unseen” is the error on families that "
            "the fit did not have. Cut networks are compared by what they save of their own dense network’s "
            "figures.</p></html>",
        )
    )


def coefficient_rows(points: PointSet) -> list[tuple[str, ...]]:
    """Proxy, Pearson, log-Pearson, Spearman, Kendall of one set."""
    return [
        (PROXIES[name], str(c.pearson), str(c.log_pearson), str(c.spearman), str(c.kendall))
        for name, c in points.correlations.items()
    ]


COEFFICIENT_HEADS = ("count", "Pearson r", "Pearson r of logarithms", "Spearman", "Kendall")
FIT_HEADS = ("fit", "mean error", "mean error on unseen families", "r")


def fit_rows(points: PointSet) -> list[tuple[str, ...]]:
    """Terms, error, held-out error and r of every fit of one set, the best first."""
    return [
        (
            " + ".join([*(PROXIES[name] for name in term.proxies), "constant"]),
            f"{100 * term.fit.mape:.1f} %",
            f"{100 * term.held_out_mape:.1f} %" if isfinite(term.held_out_mape) else "one family",
            f"{term.fit.r:.3f}" if isfinite(term.fit.r) else "undefined",
        )
        for term in points.fits
    ]


def _set(points: PointSet) -> str:
    rows = [_point(point) for point in points.points]
    heads = ("network", "latency", *PROXIES.values(), "family")
    return (
        f"<h2>{escape(points.name)}</h2>"
        + _table(COEFFICIENT_HEADS, coefficient_rows(points))
        + f"<details><summary>fits of latency</summary>{_table(FIT_HEADS, fit_rows(points))}</details>"
        + f"<details><summary>{len(rows)} points</summary>{_table(heads, rows)}</details>"
    )


def _point(point: Point) -> tuple[str, ...]:
    counts = [format_count(v) if isfinite(v) else "" for v in (point.macs, point.parameters, point.activations)]
    memory = format_bytes(point.memory_bytes) if isfinite(point.memory_bytes) else ""
    return point.name, format_ms(point.latency_ms), *counts, memory, point.family


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
