"""Which model of a layer's latency over its widths tells unseen networks best: judged on recorded samples alone.

    python benchmarks/layer_models.py --table FILE [--alone FILE] [--out DIR]

Takes the samples of every network in an in-context table, leaves out a tenth of them at a time, fits each layer's
latency on the others with each model, and sums the layers up to the networks left out. Nothing is timed.

    chosen      the surface of hwprune.latency.surface: a Gaussian process whose kernel is chosen by left-out error
    plain       the same with one kernel for all: bilinear, no blocks, no alignment
    one class   bilinear in (c_in, c_out) through the nearest samples of the same alignment class, weighted by distance;
                all classes where the class has fewer than four samples
    nearest     the nearest sample
    curve       the layer measured alone (from --alone), times one factor per layer; only networks that are covered

Errors are of whole networks, after one common factor, as predictions are calibrated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import RESULTS, fingerprint, markdown, record

from hwprune.graph.layers import NetworkLayer
from hwprune.latency.attribution import REST
from hwprune.latency.held_out import PredictionError
from hwprune.latency.in_context import added_up
from hwprune.latency.sample import NetworkSample
from hwprune.latency.surface import Kernel, Points, fit
from hwprune.latency.table import LatencyTable

Floats = NDArray[np.float64]
Model = Callable[[Points, Floats, Floats], Floats]
FOLDS, NEIGHBOURS, FEWEST = 10, 12, 4
HEADS = ("network", "samples", "model", "median", "95th percentile", "within 5 %", "rank correlation")


def main() -> int:
    """Judge, print the table, write the JSON."""
    options = _options()
    table = LatencyTable.load(options.table)
    alone = LatencyTable.load(options.alone) if options.alone else None
    found = []
    for structure, layers in table.structures.items():
        samples = table.samples_of(structure)
        own = [layer for layer in layers if not layer.fused]
        models = dict(MODELS)
        if alone is not None and all(x.at(s.widths) in alone for x in own for s in samples):
            found.append(_judged(samples, own, "curve", partial(_curve, alone)))
        found += [_judged(samples, own, name, partial(_surfaces, model)) for name, model in models.items()]
    rows = [
        (one["network"], str(one["samples"]), one["model"], *(f"{100 * one['error'][k]:.1f} %" for k in SHOWN[:3]),
         f"{one['error']['spearman']:.3f}")
        for one in found
    ]  # fmt: skip
    text = markdown(HEADS, rows)
    options.out.mkdir(parents=True, exist_ok=True)
    record(options.out / "layer_models.json", {"fingerprint": fingerprint(), "models": found})
    (options.out / "layer_models.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


SHOWN = ("median", "p95", "within5")
Told = Callable[[Sequence[NetworkSample], NetworkLayer, Floats, NDArray[np.bool_]], Floats]


def _judged(samples: Sequence[NetworkSample], layers: Sequence[NetworkLayer], name: str, told: Told) -> dict[str, Any]:
    _, parts, _ = added_up(samples, [*(layer.name for layer in layers), REST])
    predicted = np.full(len(samples), float(np.median(parts[:, -1])))
    fold = np.random.default_rng(0).permutation(len(samples)) % FOLDS
    for place, layer in enumerate(layers):
        if parts[:, place].max() > 0:
            for number in range(FOLDS):
                out = fold == number
                predicted[out] += told(samples, layer, parts[:, place], out)
    measured = parts.sum(axis=1)
    predicted *= np.median(measured / predicted)
    error = PredictionError.of(predicted.tolist(), measured.tolist())
    return {"network": samples[0].network, "samples": len(samples), "model": name, "error": asdict(error)}


def _surfaces(
    model: Model, samples: Sequence[NetworkSample], layer: NetworkLayer, values: Floats, out: NDArray[np.bool_]
) -> Floats:
    """The layer in the samples left out, by a model of the others."""
    a = np.array([layer.c_in(sample.widths) for sample in samples], dtype=float)
    b = np.array([layer.c_out(sample.widths) for sample in samples], dtype=float)
    square = layer.c_in == layer.c_out
    points = Points(a[~out], b[~out], values[~out], np.ones(int((~out).sum())), square)
    return model(points, a[out], b[out])


def _curve(
    alone: LatencyTable, samples: Sequence[NetworkSample], layer: NetworkLayer, values: Floats, out: NDArray[np.bool_]
) -> Floats:
    """The layer alone at the widths left out, times the median factor of the others."""
    ratios = np.array([alone.lookup(layer.at(sample.widths)).ratio for sample in samples])
    return ratios[out] * float(np.median(values[~out] / ratios[~out]))


def _chosen(points: Points, a: Floats, b: Floats) -> Floats:
    return fit(points).at(a, b)  # type: ignore[arg-type]


def _plain(points: Points, a: Floats, b: Floats) -> Floats:
    return fit(points, Kernel(block=1, block_out=1, reach=0.0)).at(a, b)  # type: ignore[arg-type]


def _one_class(points: Points, a: Floats, b: Floats) -> Floats:
    return np.array([_local(points, x, y) for x, y in zip(a, b, strict=True)])


def _local(points: Points, a: float, b: float) -> float:
    """Weighted least squares of relative errors on (1, c_in, c_out, c_in * c_out)."""
    alike = (_class(points.c_in) == _class(a)) & (_class(points.c_out) == _class(b))
    alike = alike if alike.sum() >= FEWEST else np.ones(len(points.values), dtype=bool)
    x, y, z = points.c_in[alike], points.c_out[alike], points.values[alike]
    far = np.hypot(np.log(x / a), np.log(y / b))
    near = np.argsort(far)[:NEIGHBOURS]
    x, y, z, far = x[near], y[near], z[near], far[near]
    weights = 1 / (0.1 + far) / np.maximum(z, 0.1 * z.mean() + 1e-12)
    design = np.stack([np.ones_like(x), x / a, y / b, x * y / (a * b)], axis=1)
    ridge = 1e-2 * weights.max() * np.eye(4)
    start = np.array([0.0, 0.0, 0.0, float(np.average(z, weights=weights))])
    rows = np.concatenate([design * weights[:, None], ridge])
    solved = np.linalg.lstsq(rows, np.concatenate([z * weights, ridge @ start]), rcond=None)[0]
    return max(float(solved.sum()), 0.0)


def _class(width: Any) -> Any:
    whole = np.asarray(width, dtype=int)
    return np.minimum(whole & -whole, 32)


def _nearest(points: Points, a: Floats, b: Floats) -> Floats:
    far = np.hypot(np.log(points.c_in[:, None] / a), np.log(points.c_out[:, None] / b))
    found: Floats = points.values[far.argmin(axis=0)]
    return found


MODELS: dict[str, Model] = {"chosen": _chosen, "plain": _plain, "one class": _one_class, "nearest": _nearest}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, required=True, help="table with samples of whole networks")
    parser.add_argument("--alone", type=Path, help="table of layers measured alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
