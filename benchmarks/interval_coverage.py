"""How often the interval of `hwprune certify` holds the true ratio, simulated, beside a plain bootstrap.

Rebuilds differ by 0 to 3 %, blocks scatter by 2 %: independently, with outliers, or with neighbours that err alike.
"3 to 12" rebuilds are as many as make the interval narrow, which is how networks are certified; the others are fixed.
The second table is of delivered networks, which were confirmed before: only a candidate that was just under the target
came through, as fast as it is at least with 90 % confidence, or, as it was once, by the end of its 95 % interval. The
rebuilds of both times count together, and the times themselves may differ.

    python benchmarks/interval_coverage.py      a quarter of an hour; writes results/interval_coverage.{json,md}
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from recording import RESULTS, markdown, record

from hwprune.comparison import Comparison, compare
from hwprune.loop.approach import CLOSE
from hwprune.loop.trying import SURE
from hwprune.units import format_percent
from hwprune.validation.certify import FEWEST_REBUILDS, MOST_REBUILDS, compare_until_narrow

NOISE = 0.02  # of a block
KINDS = ("independent", "outliers", "neighbours alike")
CONFIDENCE = 0.95
UNTIL_NARROW = (MOST_REBUILDS, 20)  # at most so many rebuilds, of so many blocks
SIZES = ((3, 10), (3, 20), (5, 20), (10, 20), UNTIL_NARROW)
DIFFER = (0.0, 0.003, 0.01, 0.03)
HEADS = ("blocks err", "rebuilds", "blocks", "rebuilds differ by", "covered", "called faster", "bootstrap covered")
TIMES_DIFFER = (0.0, 0.01)
JUDGED = {f"{100 * SURE:g} % confidence": True, "its interval": False}
DELIVERED = {
    "rebuilds differ by": "differ",
    "times differ by": "times_differ",
    "within 97 to 100 %": "near",
    "above 100 %": "above",
    "covered": "pooled_covered",
    "error": "pooled_error",
    "bias": "pooled_bias",
    "covered by the last alone": "alone_covered",
    "its error": "alone_error",
    "its bias": "alone_bias",
}


def log_ratios(rng: np.random.Generator, kind: str, size: tuple[int, int], differ: float) -> np.ndarray:
    """Log ratios (rebuilds, blocks) of two engines that are equal but for their builds."""
    errors = rng.normal(0, NOISE, size)
    if kind == "outliers":
        errors += (rng.random(size) < 0.1) * rng.exponential(0.2, size) * rng.choice([-1, 1], size)
    if kind == "neighbours alike":
        for i in range(1, size[1]):
            errors[:, i] = 0.7 * errors[:, i - 1] + np.sqrt(1 - 0.7**2) * errors[:, i]
    return rng.normal(0, differ, size[0])[:, None] + errors


def bootstrap(values: np.ndarray, rng: np.random.Generator, resamples: int = 300) -> tuple[float, float]:
    """Percentiles over resampled rebuilds and blocks, widened by sqrt(K / (K - 1)): the usual hierarchical way."""
    rebuilds, blocks = values.shape
    drawn = values[rng.integers(rebuilds, size=(resamples, rebuilds))]
    picked = np.take_along_axis(drawn, rng.integers(blocks, size=drawn.shape), axis=2)
    medians = np.median(picked.reshape(resamples, -1), axis=1)
    middle, widen = np.median(values), np.sqrt(rebuilds / (rebuilds - 1))
    low, high = middle + widen * (np.quantile(medians, [0.025, 0.975]) - middle)
    return float(low), float(high)


def simulated(kind: str, size: tuple[int, int], differ: float, repeats: int) -> dict[str, object]:
    """Shares of simulated certificates that hold the truth, or claim what is not there."""
    rng, fewest = np.random.default_rng(0), FEWEST_REBUILDS if size == UNTIL_NARROW else size[0]
    covered = faster = plain = 0
    for _ in range(repeats):
        values = log_ratios(rng, kind, size, differ)
        rebuilds = zip(np.ones(size).tolist(), np.exp(values).tolist(), strict=True)
        found = compare_until_narrow(rebuilds, fewest=fewest, most=size[0], confidence=CONFIDENCE, resamples=200)
        covered += found.low <= 1 <= found.high
        faster += found.faster
        low, high = bootstrap(values, rng)
        plain += low <= 0 <= high
    return {
        "kind": kind,
        "rebuilds": f"{fewest} to {size[0]}" if fewest < size[0] else size[0],
        "blocks": size[1],
        "differ": differ,
        "covered": covered / repeats,
        "faster": faster / repeats,
        "bootstrap_covered": plain / repeats,
    }


def delivered(differ: float, times_differ: float, judged: str, repeats: int) -> dict[str, Any]:
    """Shares of simulated certificates of delivered networks that hold the ratio, of all rebuilds and of the last.

    Targets are 1; candidates lie up to 4 % on either side.
    """
    rng = np.random.default_rng(0)
    held = {"pooled": 0, "alone": 0}
    ends: list[float] = []
    errors: dict[str, list[float]] = {"pooled": [], "alone": []}

    def compared(truth: float, before: list[tuple[list[float], list[float]]]) -> tuple[Comparison, list[Any]]:
        now = truth + rng.normal(0, times_differ)
        values = np.exp(now + log_ratios(rng, "independent", UNTIL_NARROW, differ)).tolist()
        taken: list[Any] = []

        def rebuilt() -> Iterator[tuple[list[float], list[float]]]:
            for value in values:
                taken.append(([1.0] * len(value), value))
                yield taken[-1]

        found = compare_until_narrow(
            rebuilt(), before=before, fewest=FEWEST_REBUILDS, most=MOST_REBUILDS, confidence=CONFIDENCE, resamples=200
        )
        return found, taken

    for _ in range(repeats):
        while True:
            truth = rng.uniform(-0.04, 0.04)
            first, before = compared(truth, [])
            most = compare(*zip(*before, strict=True), confidence=2 * SURE - 1).high if JUDGED[judged] else first.high
            if CLOSE <= most <= 1:
                break
        again, taken = compared(truth, before)
        alone = compare_until_narrow(
            taken, fewest=FEWEST_REBUILDS, most=MOST_REBUILDS, confidence=CONFIDENCE, resamples=200
        )
        ends.append(again.ratio)
        for name, found in (("pooled", again), ("alone", alone)):
            held[name] += found.low <= np.exp(truth) <= found.high
            errors[name].append(float(np.log(found.ratio) - truth))
    shares = {f"{name}_covered": count / repeats for name, count in held.items()}
    spread = {f"{name}_error": float(np.sqrt(np.mean(np.square(values)))) for name, values in errors.items()}
    bias = {f"{name}_bias": float(np.mean(values)) for name, values in errors.items()}
    where = {"near": float(np.mean([0.97 <= one <= 1 for one in ends])), "above": float(np.mean(np.array(ends) > 1))}
    return {"judged": judged, "differ": differ, "times_differ": times_differ, **where, **shares, **spread, **bias}


def row(found: dict[str, object]) -> tuple[str, ...]:
    shares = (format_percent(float(str(found[name]))) for name in ("differ", "covered", "faster", "bootstrap_covered"))
    return (str(found["kind"]), str(found["rebuilds"]), str(found["blocks"]), *shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated certificates per row")
    repeats = parser.parse_args().repeats
    rows = [simulated(*case, repeats) for case in product(KINDS, SIZES, DIFFER)]
    again = [delivered(*case, repeats) for case in product(DIFFER[1:], TIMES_DIFFER, JUDGED)]
    document = {"repeats": repeats, "confidence": CONFIDENCE, "rows": rows, "delivered": again}
    record(RESULTS / "interval_coverage.json", document)
    table = markdown(HEADS, [row(found) for found in rows])
    second = markdown(
        ["judged by", *DELIVERED],
        [[found["judged"], *(format_percent(found[name]) for name in DELIVERED.values())] for found in again],
    )
    text = (
        f"Of {repeats} simulated certificates of two equal engines (95 % asked), `benchmarks/interval_coverage.py`:\n\n"
        f"{table}\n\n"
        f"Of {repeats} simulated certificates of delivered networks, which were confirmed before:\n\n{second}\n"
    )
    (RESULTS / "interval_coverage.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
