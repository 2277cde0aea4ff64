"""What a neighbour on the processor core does to the measured ratio of two networks, and what watching for it helps.

    python benchmarks/contention.py [--minutes 5] [--out DIR]

A CIFAR ResNet-20 with few channels a layer (as Group Fisher pruning left one) beside the dense one, with ONNX Runtime
on one thread: comparison after comparison, those with and without `hwprune.contention.CoreWatch` by turns, on a process
that slept before it compares and on one that did not. Neighbours come and go as they do on the machine; with none, all
agree. The loop's own time around every block that was not watched tells from where on it says that the ratio is wrong.
What another processor has shown stays in the record.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from recording import RESULTS, fingerprint, markdown, processor, record

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
LOOPS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, float("inf"))  # over the quickest one: the second table's rows
LOOP_HEADS = ("loop, over the quickest", "turns", "ratio, median", "5 to 95 %")


@dataclass
class Noted:
    """A watch that writes down how long the loop takes, and has nothing measured again.

    Attributes:
        loops: of each turn, the longest over the quickest one known.
    """

    loops: list[float] = field(default_factory=list)

    def begin(self) -> bool:
        """A new turn."""
        self.loops.append(0.0)
        return self.look()

    def look(self) -> bool:
        """The loop, once more."""
        self.loops[-1] = max(self.loops[-1], loop_ms() / quickest_ms())
        return True

    def again(self, tries: int) -> bool:
        """Never: every turn was well."""
        raise AssertionError(tries)


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
        turns: of one that was not watched: the loop around each, over the quickest one, and the turn's ratio.
    """

    slept: bool
    watched: bool
    ratio: float
    loop: float
    waited_s: float
    took_s: float
    turns: tuple[tuple[float, float], ...] = ()


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
                watch, noted = CoreWatch(), Noted()
                if slept:
                    time.sleep(SLEEP_S)
                loop, started = loop_ms() / quickest_ms(), time.monotonic()
                blocks = interleave([dense, own], blocks=BLOCKS, watch=watch if watched else noted)
                took_s = time.monotonic() - started
                ratios = [b / a for a, b in zip(*blocks, strict=True)]
                turns = () if watched else tuple(zip(noted.loops, ratios, strict=True))
                found.append(Comparison(slept, watched, statistics.median(ratios), loop, watch.waited_s, took_s, turns))
    file = options.out / "contention.json"
    machines = json.loads(file.read_text(encoding="utf-8"))["machines"] if file.exists() else {}
    machines[processor()] = {"fingerprint": fingerprint(), "comparisons": [asdict(one) for one in found]}
    record(file, {"machines": machines})
    text = "\n\n".join([*map(_told, machines, machines.values()), "Made by `benchmarks/contention.py`."])
    (options.out / "contention.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    middle = statistics.median(one.ratio for one in found if one.watched)
    alone, watched = (_off([one for one in found if one.watched is side], middle) for side in (False, True))
    return int(watched > alone)


def _told(name: str, machine: Mapping[str, Any]) -> str:
    found = [Comparison(**one) for one in machine["comparisons"]]
    parts = [f"On {name}:", markdown(HEADS, _rows(found))]
    if turns := [turn for one in found for turn in one.turns]:
        parts += ["Turns that were not watched:", markdown(LOOP_HEADS, _loop_rows(turns))]
    return "\n\n".join(parts)


def _loop_rows(turns: Sequence[Sequence[float]]) -> list[tuple[str, ...]]:
    rows = []
    for low, high in pairwise(LOOPS):
        if ratios := sorted(ratio for loop, ratio in turns if max(loop, LOOPS[0]) >= low and loop < high):
            between = f"{low:.1f} to {high:.1f}" if high < float("inf") else f"{low:.1f} and more"
            rows.append((between, str(len(ratios)), f"{100 * statistics.median(ratios):.1f} %", _span(ratios)))
    return rows


def _span(ratios: Sequence[float]) -> str:
    """5 to 95 % of them, which are in order."""
    low, high = (ratios[round(share * (len(ratios) - 1))] for share in (0.05, 0.95))
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _rows(found: Sequence[Comparison]) -> list[tuple[str, ...]]:
    middle = statistics.median(one.ratio for one in found if one.watched)
    rows = []
    for side, title in SIDES.items():
        own = [one for one in found if (one.slept, one.watched) == side]
        ratios = sorted(one.ratio for one in own)
        rows.append(
            (
                title,
                str(len(own)),
                f"{100 * sum(one.loop > SHARED for one in own) / len(own):.0f} %",
                f"{100 * statistics.median(ratios):.1f} %",
                _span(ratios),
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
