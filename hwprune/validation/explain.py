"""Why a pruned engine is faster than the dense one, or is not: the difference, cause by cause and layer by layer.

Profile     one engine: its layers' times, its graph, and its whole latency where that was measured
profiled    both engines on a device, timed by turns
explain     two profiles -> Explanation; pure but for the prices of widths, which the caller looks up or measures
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from hwprune.clocks import watch_for
from hwprune.errors import EngineError
from hwprune.layer import Layer
from hwprune.runtimes.base import Engine, LayerTime
from hwprune.runtimes.select import RuntimeSpec
from hwprune.timing import interleave
from hwprune.units import format_ms
from hwprune.validation.alignment import OffAlignment, Rule, off_alignment
from hwprune.validation.certify import Source, engine_of
from hwprune.validation.difference import Cause, CauseName, Refused, Region, by_cause, category, refused, regions
from hwprune.validation.structure import Structure

SCHEMA = 1
ROUNDS, REPEATS = 5, 20  # of layer times
BLOCKS = 20  # of whole latencies
AROUND_MS = 10.0  # of whole runs before and after each round of layer times
WORTH_TELLING = 0.02  # of the largest cause: the summary leaves out smaller ones
Prices = Mapping[Layer, float]

WORDS: Final[Mapping[CauseName, str]] = {
    "main": "convolutions and products",
    "off alignment": "convolutions and products off the device's alignment",
    "pointwise": "stand-alone pointwise layers",
    "reformat": "changes of layout",
    "copy": "copies",
    "other": "other layers",
    "rest": "outside of layers",
}


@dataclass(frozen=True)
class Profile:
    """What is known of one engine.

    Attributes:
        layers: in order of execution; the profiler's own time is in them.
        structure: the network's nodes.
        measured_ms: latency of the whole engine without a profiler; None where it was not measured.
    """

    layers: tuple[LayerTime, ...]
    structure: Structure
    measured_ms: float | None = None

    @property
    def layers_ms(self) -> float:
        """Sum over the layers."""
        return sum(layer.median_ms for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A layer off the device's alignment, and what the next widths on it would cost.

    Attributes:
        off: what is wrong.
        ms: its time in the pruned engine.
        up_ms, down_ms: cost of the layer at the next multiples above and below, less its cost as it is; from a latency
            table, not from the engine. None where it is not known.
    """

    off: OffAlignment
    ms: float
    up_ms: float | None = None
    down_ms: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Where the difference between two engines comes from.

    Attributes:
        dense_ms, pruned_ms: latency of the engines: measured, or else the sums of their layers.
        measured: which of the two.
        causes: the costliest for the pruned engine first; their differences add up to that of the latencies.
        regions: parts of the network, the largest differences first.
        refused: fusions that the pruned engine does not have.
        misfits: layers off the device's alignment, the slowest first.
        rule: that they are off; None where the device takes any width, or nobody said which device it is.
        fingerprint: what the numbers belong to.
    """

    dense_ms: float
    pruned_ms: float
    measured: bool
    causes: tuple[Cause, ...]
    regions: tuple[Region, ...]
    refused: tuple[Refused, ...]
    misfits: tuple[Misfit, ...]
    rule: Rule | None
    fingerprint: Mapping[str, str]

    @property
    def difference_ms(self) -> float:
        """Pruned less dense."""
        return self.pruned_ms - self.dense_ms

    @property
    def summary(self) -> str:
        """Two or three sentences for people."""
        whole = "latency" if self.measured else "sum of layers"
        way = "more" if self.difference_ms >= 0 else "less"
        head = (
            f"The pruned engine takes {format_ms(abs(self.difference_ms))} {way} than the dense one "
            f"({whole} {format_ms(self.dense_ms)} → {format_ms(self.pruned_ms)})."
        )
        worth = WORTH_TELLING * max(abs(cause.difference_ms) for cause in self.causes)
        costs = [_told(cause) for cause in self.causes if cause.difference_ms > worth]
        gains = [_told(cause) for cause in reversed(self.causes) if cause.difference_ms < -worth]
        parts = [f"{name} {', '.join(told)}" for name, told in (("Added by", costs), ("Saved by", gains)) if told]
        return " ".join([head, *(f"{part}." for part in parts)])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        document = {name: value for name, value in asdict(self).items() if name != "fingerprint"}
        for told, cause in zip(document["causes"], self.causes, strict=True):
            told["difference_ms"] = cause.difference_ms
        for told, region in zip(document["regions"], self.regions, strict=True):
            told |= {name: getattr(region, name) for name in ("dense_ms", "pruned_ms", "difference_ms")}
        for told, misfit in zip(document["misfits"], self.misfits, strict=True):
            layers = {name: getattr(misfit.off, name) for name in ("layer", "up", "down")}
            told["off"] |= {name: None if layer is None else str(layer) for name, layer in layers.items()}
        told_first = {"schema": SCHEMA, "summary": self.summary, "difference_ms": self.difference_ms}
        return {**told_first, **document, "fingerprint": dict(self.fingerprint)}


def explain(
    dense: Profile,
    pruned: Profile,
    *,
    rule: Rule | None = None,
    price: Callable[[Sequence[Layer]], Prices] | None = None,
    fingerprint: Mapping[str, str] | None = None,
) -> Explanation:
    """Compare two engines.

    Args:
        rule: which widths the device likes.
        price: gives the latency in ms of layers by themselves, of those that it can; without it nothing is said of
            what other widths would cost.

    Raises:
        EngineError: a profile has no layers.
    """
    for name, profile in (("dense", dense), ("pruned", pruned)):
        if not profile.layers:
            raise EngineError(
                f"the profile of the {name} engine has no layers", fix="use a runtime that has a profiler"
            )
    measured = None
    if dense.measured_ms is not None and pruned.measured_ms is not None:
        measured = dense.measured_ms, pruned.measured_ms
    found = regions(dense.layers, pruned.layers, dense.structure, pruned.structure)
    misfits = _misfits(dense.structure, pruned, rule)
    off = {misfit.off.node for misfit in misfits}
    causes = by_cause(found, dense.structure, pruned.structure, unaligned=off, measured_ms=measured)
    whole = measured or (dense.layers_ms, pruned.layers_ms)
    return Explanation(
        dense_ms=whole[0],
        pruned_ms=whole[1],
        measured=measured is not None,
        causes=tuple(causes),
        regions=tuple(sorted(found, key=lambda region: -abs(region.difference_ms))),
        refused=tuple(refused(found)),
        misfits=tuple(misfits if price is None else _priced(misfits, price)),
        rule=rule,
        fingerprint=dict(fingerprint or {}),
    )


def profiled(
    dense: Source, pruned: Source, spec: RuntimeSpec, structures: tuple[Structure, Structure], *, rounds: int = ROUNDS
) -> tuple[Profile, Profile]:
    """Both engines' latencies and layer times.

    Whole engines are timed by turns. Layer times come in rounds, each between runs of the same engine without the
    profiler: how much slower these are than usual is how much slower the machine is just then, and is divided out.

    Raises `EngineError` where the device is not here, an engine cannot be built, or the runtime has no profiler.
    """
    runtime = spec.open()
    if not runtime.can_time:
        raise EngineError(
            f"{spec.device} is not in this machine, so nothing can be timed",
            effect="engines can be built for it here, but not explained",
            fix="run this where the device is, or pass profiles that trtexec wrote there: --from-profiles DENSE PRUNED",
        )
    with ExitStack() as stack:
        engines = [stack.enter_context(closing(engine_of(runtime, model))) for model in (dense, pruned)]
        blocks = interleave(engines, blocks=BLOCKS, watch=watch_for(runtime.cuda_index))
        measured = [float(np.median(medians)) for medians in blocks]
        turns = [[_round(engine, ms) for engine, ms in zip(engines, measured, strict=True)] for _ in range(rounds)]
    first, second = (
        Profile(_median_layers([turn[side] for turn in turns]), structures[side], measured[side]) for side in (0, 1)
    )
    return first, second


def _round(engine: Engine, usual_ms: float) -> list[LayerTime]:
    """Layer times as they are when the whole engine takes its usual time."""
    runs = max(3, round(AROUND_MS / usual_ms))
    before = engine.time(warmup=1, repeats=runs)
    layers = engine.layers(repeats=REPEATS)
    after = engine.time(warmup=1, repeats=runs)
    slowness = float(np.median(before) + np.median(after)) / 2 / usual_ms
    return [replace(layer, median_ms=layer.median_ms / slowness) for layer in layers]


def _median_layers(rounds: Sequence[Sequence[LayerTime]]) -> tuple[LayerTime, ...]:
    """One list of the same layers, each with the median of its times; of rounds that differ, the last."""
    last = rounds[-1]
    alike = [one for one in rounds if [layer.name for layer in one] == [layer.name for layer in last]]
    return tuple(
        replace(layer, median_ms=float(np.median([one[place].median_ms for one in alike])))
        for place, layer in enumerate(last)
    )


def _misfits(dense: Structure, pruned: Profile, rule: Rule | None) -> list[Misfit]:
    """Convolutions and products of the pruned engine off the rule, the slowest first."""
    found: dict[str, Misfit] = {}
    for layer in pruned.layers if rule is not None else ():
        if category(layer, pruned.structure) != "main":
            continue
        for name in layer.nodes or pruned.structure.names(layer.name):
            node = pruned.structure[name]
            if rule is None or node.role != "main" or node.widths is None:
                continue
            was = dense.nodes[name].widths if name in dense.nodes else None
            off = off_alignment(name, rule, node.widths, was, node.layer)
            if off is not None:
                found[name] = Misfit(off, layer.median_ms)
    return sorted(found.values(), key=lambda misfit: -misfit.ms)


def _priced(misfits: Sequence[Misfit], price: Callable[[Sequence[Layer]], Prices]) -> list[Misfit]:
    wanted = [layer for m in misfits for layer in (m.off.layer, m.off.up, m.off.down) if layer is not None]
    known = price(list(dict.fromkeys(wanted))) if wanted else {}

    def cost(layer: Layer | None, now: Layer | None) -> float | None:
        if layer is None or now is None or layer not in known or now not in known:
            return None
        return known[layer] - known[now]

    return [replace(m, up_ms=cost(m.off.up, m.off.layer), down_ms=cost(m.off.down, m.off.layer)) for m in misfits]


def _told(cause: Cause) -> str:
    counts = ""
    if cause.dense_count != cause.pruned_count:
        counts = f" ({cause.dense_count} → {cause.pruned_count})"
    return f"{WORDS[cause.name]} {format_ms(abs(cause.difference_ms))}{counts}"
