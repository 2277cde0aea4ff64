"""Latency against what is counted: which proxy holds on a device, and which does not.

Three kinds of sets, because a proxy can hold on one and not on another:

    networks       many networks, absolute figures
    widths         one network at random widths, each figure over the dense network's
    matched MACs   plans of one network with the same MACs, each figure over the dense network's

The last two are looked at as *reductions within one network*. Pooled over networks, latency follows nearly every count,
since large networks have more of everything; within one network at equal MACs the order can be another one. Where the
two contradict each other that is Simpson's paradox, and `Study.notes` say so by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from math import isfinite, nan
from typing import Any, Literal

import numpy as np

from hwprune.cost.points import PROXIES, Point
from hwprune.cost.statistics import RESAMPLES, Correlation, Fit, Floats, held_out, mape

Kind = Literal["networks", "widths", "matched MACs"]
HOLDS, FAILS = 0.9, 0.7  # see `Study.verdict`
UNEXPLAINED = 0.1  # of latency may differ where a count does not, see `Study.verdict`
FEWEST = 4  # points of a set that can be looked at
SPREAD = 0.03  # a count that differs less between the plans of a set has nothing to say about it


@dataclass(frozen=True)
class Term:
    """A mixture of counts as a model of latency, over absolute figures.

    Attributes:
        proxies: counts in it; a constant is always there.
        fit: least squares of the relative error.
        held_out_mape: mean relative error on families that the fit has not seen; NaN where there is one family.
    """

    proxies: tuple[str, ...]
    fit: Fit
    held_out_mape: float


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points that are looked at together.

    Attributes:
        name: for people: "62 networks", "resnet50 at random widths".
        kind: see the head of this module.
        points: with the dense network itself where the kind is a relative one.
    """

    name: str
    kind: Kind
    points: tuple[Point, ...]

    @property
    def relative(self) -> bool:
        """Whether figures are reductions within a network."""
        return self.kind != "networks"

    @cached_property
    def compared(self) -> tuple[Point, ...]:
        """The points that are correlated: all networks, or all that were cut from one that is here too."""
        if not self.relative:
            return self.points
        return tuple(p for p in self.points if p.base in self._dense and p.name != p.base)

    @cached_property
    def _dense(self) -> dict[str, Point]:
        return {p.name: p for p in self.points if p.base == p.name}

    def figures(self, name: str) -> Floats:
        """A figure of every compared point: itself, or its reduction 1 - pruned / dense."""
        values = np.array([getattr(p, name) for p in self.compared], dtype=float)
        if self.relative:
            values = 1 - values / np.array([getattr(self._dense[p.base], name) for p in self.compared], dtype=float)
        return values

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """Counts that every compared point has, and that differ: at matched MACs these are the others."""
        found = [name for name in PROXIES if len(self.compared) and np.isfinite(self.figures(name)).all()]
        return tuple(name for name in found if not self.relative or np.ptp(self.figures(name)) > SPREAD)

    @cached_property
    def equal(self) -> tuple[str, ...]:
        """Counts that every compared point has and that are about the same for all, so that they explain nothing."""
        found = [name for name in PROXIES if len(self.compared) and np.isfinite(self.figures(name)).all()]
        return tuple(name for name in found if name not in self.proxies)

    @property
    def latency_spread(self) -> float:
        """How much more of its dense latency the slowest cut network takes than the fastest; 0 for whole networks."""
        if not self.relative:
            return 0.0
        left = 1 - self.figures("latency_ms")
        return float(left.max() / left.min() - 1)

    @cached_property
    def correlations(self) -> Mapping[str, Correlation]:
        """Latency against each proxy; families are drawn whole where there are many networks of each."""
        latency = self.figures("latency_ms")
        families = [] if self.relative else [p.family for p in self.compared]
        return {
            name: Correlation.of(self.figures(name), latency, clusters=families, resamples=RESAMPLES)
            for name in self.proxies
        }

    @cached_property
    def fits(self) -> tuple[Term, ...]:
        """Single counts and pairs of them, each with a constant, the least error first; over absolute figures."""
        points = self.compared
        if len(points) < FEWEST:
            return ()
        latency = np.array([p.latency_ms for p in points])
        families = [p.family for p in points]
        found = []
        for chosen in [c for size in (1, 2) for c in combinations(self.proxies, size)]:
            columns = np.column_stack([*([getattr(p, n) for p in points] for n in chosen), np.ones(len(points))])
            unseen = held_out(columns, latency, families) if len(set(families)) > 1 else None
            error = nan if unseen is None else mape(unseen, latency)
            found.append(Term(chosen, Fit.of(columns, latency), error))
        return tuple(sorted(found, key=lambda term: term.fit.mape))

    def best(self) -> str | None:
        """The proxy with the highest rank correlation; None where none has a signal."""
        known = {n: c.spearman.value for n, c in self.correlations.items() if isfinite(c.spearman.value)}
        return max(known, key=lambda name: known[name]) if known else None


@dataclass(frozen=True)
class Study:
    """A device's sets, and what they say together.

    Attributes:
        device: and runtime, for people.
        sets: with at least `FEWEST` compared points each.
    """

    device: str
    sets: tuple[PointSet, ...]

    @property
    def verdict(self) -> str:
        """One sentence: which proxy holds on this device and which does not.

        A proxy *holds* where the lower end of the 95 % interval of Spearman's rank correlation is at least 0.9 on
        every set where it varies (0.9 orders about seven pairs of eight right), and latency does not differ by more
        than 10 % within any set where it does not vary; it *does not hold* where the value is below 0.7 on any set
        where it varies; else it holds *roughly*.
        """
        if not self.proxies:
            return f"On {self.device} nothing can be said: no count varies."
        judged = {name: self._judged(name) for name in self.proxies}
        parts = []
        for word, verb in (("holds", "holds"), ("rough", "holds roughly"), ("fails", "does not hold")):
            names = [name for name, found in judged.items() if found == word]
            parts += [f"{PROXIES[name]} {_plural(PROXIES[name], verb)} ({self._evidence(name)})" for name in names]
        if "holds" not in judged.values():
            parts.append("no count can stand for a measurement")
        return f"On {self.device}: {'; '.join(parts)}."

    @property
    def proxies(self) -> tuple[str, ...]:
        """All proxies that some set has."""
        return tuple(name for name in PROXIES if any(name in s.proxies for s in self.sets))

    @property
    def notes(self) -> tuple[str, ...]:
        """Simpson's paradox, where pooled and within-network correlations contradict each other."""
        pooled, found = [s for s in self.sets if not s.relative] or [self.pooled], []
        for whole in pooled:
            for within in (s for s in self.sets if s.relative):
                found += _paradox(whole, within)
        return tuple(dict.fromkeys(found))

    @cached_property
    def pooled(self) -> PointSet:
        """All points with their absolute figures, as somebody would look at them who does not know of networks."""
        points = {p.name: p for s in self.sets for p in s.points}
        return PointSet("all points pooled", "networks", tuple(points.values()))

    def _judged(self, name: str) -> str:
        found = [s.correlations[name].spearman for s in self.sets if name in s.proxies]
        if any(not isfinite(one.value) or one.value < FAILS for one in found):
            return "fails"
        explains = all(s.latency_spread <= UNEXPLAINED for s in self.sets if name in s.equal)
        return "holds" if explains and all(one.low >= HOLDS for one in found) else "rough"

    def _evidence(self, name: str) -> str:
        told = [f"{s.correlations[name].spearman} over {s.name}" for s in self.sets if name in s.proxies]
        told += [
            f"where it is equal latency differs by {100 * s.latency_spread:.0f} %" for s in self.sets if name in s.equal
        ]
        return ", ".join(told)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values; what is not defined is null."""
        document = {
            "device": self.device,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "sets": [
                {
                    "name": s.name,
                    "kind": s.kind,
                    "points": len(s.compared),
                    "correlations": {name: asdict(c) for name, c in s.correlations.items()},
                    "fits": [
                        {"terms": [*t.proxies, "constant"], **asdict(t.fit), "held_out_mape": t.held_out_mape}
                        for t in s.fits
                    ],
                }
                for s in self.sets
            ],
        }
        plain: dict[str, Any] = _plain(document)
        return plain


def sets_of(points: Sequence[Point], *, name: str = "") -> tuple[PointSet, ...]:
    """Points of a table as sets: those that were cut from none as networks, the others by what they were cut from.

    Plans whose MACs all lie within 3 % of each other are a set of matched MACs.
    """
    whole = tuple(p for p in points if not p.base)
    found = [PointSet(name or f"{len(whole)} networks", "networks", whole)] if len(whole) >= FEWEST else []
    cut = tuple(p for p in points if p.base)
    dense = {p.base for p in cut if p.name == p.base}
    within = PointSet("", "widths", tuple(p for p in cut if p.base in dense))
    if len(within.compared) >= FEWEST:
        bases = sorted({p.base for p in within.compared})
        spread = np.ptp(within.figures("macs")) if np.isfinite(within.figures("macs")).all() else 1.0
        kind: Kind = "matched MACs" if spread <= SPREAD else "widths"
        title = f"{len(within.compared)} cut networks of {', '.join(bases)}"
        found.append(PointSet(f"{title} at the same share of MACs" if kind != "widths" else title, kind, within.points))
    return tuple(found)


def _paradox(whole: PointSet, within: PointSet) -> list[str]:
    """Contradictions: a count that leads when pooled and says little within, or another one that leads there."""
    notes, best, leads = [], whole.best(), within.best()
    for name in whole.proxies:
        pooled = whole.correlations[name].pearson.value
        one = within.correlations.get(name)
        if pooled >= FAILS and one is not None and not one.pearson.value > FAILS / 2:
            notes.append(
                f"Simpson's paradox: {PROXIES[name]} and latency go together over {whole.name} (r = {pooled:.2f}), but "
                f"hardly or not within one network ({within.name}: reductions, r = {one.pearson.value:.2f})."
            )
    if best is not None and leads is not None and best != leads and within.kind == "matched MACs":
        rank = within.correlations[leads].spearman.value
        notes.append(
            f"Simpson's paradox: over {whole.name} latency follows {PROXIES[best]} best, within one network at equal "
            f"MACs it follows {PROXIES[leads]} ({within.name}: rank correlation {rank:.2f})."
        )
    return notes


def _plural(noun: str, verb: str) -> str:
    """The verb as the noun takes it: only "measured memory" is one thing."""
    many = {"holds": "hold", "holds roughly": "hold roughly", "does not hold": "do not hold"}
    return many[verb] if noun != PROXIES["memory_bytes"] else verb


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
