"""What a neighbour on the processor core does to the measured ratio of two networks, and what watching for it helps.

    python benchmarks/contention.py [--minutes 5] [--out DIR]

A CIFAR ResNet-20 with few channels a layer (as Group Fisher pruning left one) beside the dense one, with ONNX Runtime
on one thread: comparison after comparison, those with and without `hwprune.contention.CoreWatch` by turns, on a process
that slept before it compares and on one that did not. Neighbours come and go as they do on the machine; with none, all
agree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from recording import RESULTS, fingerprint, markdown, record

import hwprune
from hwprune.contention import SHARED, CoreWatch, loop_ms, quickest_ms
from hwprune.device import resolve
from hwprune.models.cifar_resnet import resnet20
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import spec_for
from hwprune.timing import interleave

BLOCKS = 10
OFF = 0.03  # of the middle watched ratio
WIDTHS = (5, 1, 2, 4, 16, 15, 10, 7, 46, 25, 28, 38)  # of the groups in order
SIDES = {
    (False, False): "by turns alone",
    (True, False): "by turns alone, after a sleep",
    (False, True): "by turns, and watched",
    (True, True): "by turns, and watched, after a sleep",
}
SLEEP_S = 0.3
HEADS = (
    "",
    "comparisons",
    "core shared at the start",
    "ratio, median",
    "5 to 95 %",
    f"more than {OFF:.0%} off",
    "seconds each",
)


@dataclass(frozen=True)
class Comparison:
    """The pruned network beside the dense one, once.

    Attributes:
        slept: whether the process had slept before.
        watched: whether turns beside a neighbour were measured again.
        ratio: of the medians, block by block; the middle one.
        loop: how long the watch's loop took at the start, over the quickest one.
        waited_s: for the neighbour.
        took_s: in all.
    """

    slept: bool
    watched: bool
    ratio: float
    loop: float
    waited_s: float
    took_s: float


def main() -> int:
    """Compare until the time is over; exit 1 where watching leaves more comparisons off than not watching."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.manual_seed(0)
    model, inputs = resnet20().eval(), (torch.randn(1, 3, 32, 32),)
    network = hwprune.analyze(model, inputs)
    kept = {group.name: range(width) for group, width in zip(network.free, WIDTHS, strict=True)}
    small = hwprune.cut(model, hwprune.Plan.keeping(network, kept), network)
    runtime = spec_for(resolve("cpu"), "onnxruntime").open()
    found: list[Comparison] = []
    until = time.monotonic() + 60 * options.minutes
    while time.monotonic() < until:
        with (
            closing(runtime.build_onnx(export(model, inputs))) as dense,
            closing(runtime.build_onnx(export(small, inputs))) as own,
        ):
            for slept, watched in list(SIDES) * 5:
                watch = CoreWatch()
                if slept:
                    time.sleep(SLEEP_S)
                loop, started = loop_ms() / quickest_ms(), time.monotonic()
                blocks = interleave([dense, own], blocks=BLOCKS, watch=watch if watched else None)
                took_s = time.monotonic() - started
                ratio = statistics.median(b / a for a, b in zip(*blocks, strict=True))
                found.append(Comparison(slept, watched, ratio, loop, watch.waited_s, took_s))
    text = markdown(HEADS, _rows(found)) + "\n\nMade by `benchmarks/contention.py`."
    record(options.out / "contention.json", {"fingerprint": fingerprint(), "comparisons": [asdict(c) for c in found]})
    (options.out / "contention.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    middle = statistics.median(one.ratio for one in found if one.watched)
    alone, watched = (_off([one for one in found if one.watched is side], middle) for side in (False, True))
    return int(watched > alone)


def _rows(found: Sequence[Comparison]) -> list[tuple[str, ...]]:
    middle = statistics.median(one.ratio for one in found if one.watched)
    rows = []
    for side, title in SIDES.items():
        own = [one for one in found if (one.slept, one.watched) == side]
        ratios = sorted(one.ratio for one in own)
        low, high = (ratios[round(share * (len(ratios) - 1))] for share in (0.05, 0.95))
        rows.append(
            (
                title,
                str(len(own)),
                f"{100 * sum(one.loop > SHARED for one in own) / len(own):.0f} %",
                f"{100 * statistics.median(ratios):.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f} %",
                f"{100 * _off(own, middle):.0f} %",
                f"{statistics.median(one.took_s for one in own):.1f}",
            )
        )
    return rows


def _off(own: Sequence[Comparison], middle: float) -> float:
    """Share of the comparisons that are off the middle of those that were watched."""
    return sum(abs(one.ratio / middle - 1) > OFF for one in own) / len(own)


if __name__ == "__main__":
    sys.exit(main())
