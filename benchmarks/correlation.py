"""Which count tells latency on this processor: 65 networks, 100 random widths of ResNet-50, plans at equal MACs.

    python benchmarks/correlation.py [--model MODEL ...] [--of MODEL] [--widths 100] [--matched 24] [--out DIR]

ONNX Runtime on one thread, batch 1, fp32. Every network is timed beside a reference workload. Points are kept in
``DIR/correlation-points/`` as they come, so a stopped study goes on; they are of one machine and one version of the
runtime, and refused on another. Keep the machine idle; some ten minutes on one core, most of it exporting to ONNX.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.cli import show
from hwprune.cost.correlation import Study
from hwprune.cost.page import COEFFICIENT_HEADS, FIT_HEADS, coefficient_rows, fit_rows
from hwprune.cost.plots import draw
from hwprune.files import write_atomically
from hwprune.loop.settings import Settings
from hwprune.loop.study import NETWORKS, Asked, measured_points

MOST_FITS = 4


def main() -> int:
    """Measure what is missing, record the study; exit 1 where it has fewer points than were asked for."""
    options = _options()
    torch.set_num_threads(1)
    asked = Asked(tuple(options.model or NETWORKS), (options.of,), options.widths, options.matched, options.macs)
    settings = Settings("100%", runtime="onnxruntime", seed=options.seed)
    started = time.monotonic()
    with show.progress() as bars:
        points = measured_points(asked, settings, options.out / "correlation-points", bars)
    cpu = fingerprint()["device"]["cpu"]
    study = points.study(f"{cpu}, ONNX Runtime on one thread")
    document = {
        "fingerprint": fingerprint(),
        "runtime": points.facts,
        "asked": {
            "networks": len(asked.networks),
            "of": options.of,
            "widths": options.widths,
            "matched": options.matched,
        },
        "seconds": round(time.monotonic() - started, 1),
        **points.summary(),
        **study.as_json(),
    }
    record(options.out / "correlation.json", document)
    write_atomically(options.out / "correlation.md", (_text(study) + "\n").encode())
    write_atomically(options.out / "correlation.png", draw(study))
    print(_text(study))
    wanted = {"networks": len(asked.networks), "widths": asked.widths + 1, "matched": asked.matched + 1}
    return int(any(points.summary()["points"][part] < count for part, count in wanted.items()))


def _text(study: Study) -> str:
    parts = [
        study.verdict,
        "",
        *(f"- {note}" for note in study.notes),
        "",
        "![latency against counts](correlation.png)",
    ]
    for points in study.sets:
        how = "what is saved of latency against what is saved of each count" if points.relative else "absolute figures"
        parts += ["", f"## {points.name}", "", f"95 % bootstrap intervals; {how}.", ""]
        parts += [markdown(COEFFICIENT_HEADS, coefficient_rows(points)), ""]
        parts += [markdown(FIT_HEADS, fit_rows(points)[:MOST_FITS])]
    return "\n".join([*parts, "", "Made by `benchmarks/correlation.py`."])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", help=f"repeatable; default: {len(NETWORKS)} networks")
    parser.add_argument("--of", default="resnet50")
    parser.add_argument("--widths", type=int, default=100)
    parser.add_argument("--matched", type=int, default=24)
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
