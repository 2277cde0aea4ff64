"""The latency of a network at any widths, from the latencies of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hwprune.errors import NotMeasuredError, ProfileError
from hwprune.graph.layers import NetworkLayer
from hwprune.latency.calibration import MAIN_KINDS, Calibration, fit
from hwprune.latency.crowding import Crowding
from hwprune.latency.entry import Entry
from hwprune.latency.held_out import PredictionError as PredictionError
from hwprune.latency.in_context import InContext
from hwprune.latency.table import LatencyTable
from hwprune.latency.wanted import is_thinned
from hwprune.layer import Layer

Widths = Mapping[str, int]
Measured = Sequence[tuple[Widths, float]]
SMALLEST_MS: Final = 1e-6  # a prediction is positive whatever the table holds
MOST_PREPARED: Final = 2000  # pairs of widths of one layer


@dataclass(frozen=True)
class Predictor:
    """Sums a network's layers over a table, and corrects the sum by a calibration.

    A layer costs what it was measured to cost inside engines of this network; else what an equal layer costs at another
    place of it or inside engines of another network; else what it costs alone. Beyond the widths at which a layer was
    measured in context its latency alone is taken, times what it was seen to cost in context over alone.

    What a layer costs alone may be interpolated in one case: its width is a sum over several groups, and the table
    was made for evenly spaced sums (see `wanted_layers`). All else must have been measured.

    Attributes:
        table: the latencies.
        layers: of the network; fused ones cost nothing.
        calibration: from the sum to the network's latency.
        contexts: networks measured whole, this one first where it was; none for a sum of layers measured alone.
        band: share of the prediction that a network's latency may lie above it, with 90 % probability; 0 where nothing
            is known of it.
    """

    table: LatencyTable
    layers: Sequence[NetworkLayer]
    calibration: Calibration = field(default_factory=Calibration)
    contexts: tuple[InContext, ...] = ()
    band: float = 0.0
    _known: dict[str, dict[tuple[int, int], float]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def predict_ms(self, widths: Widths) -> float:
        """Latency in ms at ``widths``, always positive.

        Raises:
            NotMeasuredError: the table lacks a layer; the message names it in the network.
        """
        total = self.constant_ms + sum(self.cost(layer, widths) for layer in self.layers)
        return max(self.crowding.latency(total), SMALLEST_MS)

    def summed_ms(self, latency_ms: float) -> float:
        """What `constant_ms` and the `cost` of all layers sum to in a network of this latency."""
        return self.crowding.total(latency_ms)

    @cached_property
    def crowding(self) -> Crowding:
        """From the sum of constant and costs to the latency, in ms; the sum itself unless this network was sampled."""
        if not self._is_sampled:
            return Crowding()
        own = self.contexts[0].crowding
        return Crowding(own.full * self.table.reference_ms, own.exponent)

    @cached_property
    def _is_sampled(self) -> bool:
        return bool(self.contexts) and all(layer.fused or self.contexts[0].owns(layer) for layer in self.layers)

    @property
    def constant_ms(self) -> float:
        """The part of the latency that no width changes."""
        return self.calibration.constant_ms + self.calibration.other * self._rest_ms

    @property
    def _rest_ms(self) -> float:
        """Before calibration, what ran in no layer of this network's samples."""
        return self.contexts[0].rest * self.table.reference_ms if self._is_sampled else 0.0

    def deviation_ms(self, widths: Widths) -> float:
        """Standard deviation of `predict_ms` as far as it comes from layers between measured widths; 0 without samples.

        Its use is to compare settings: where it is large, a sample teaches most.
        """
        return self.contexts[0].deviation(widths) * self.table.reference_ms if self.contexts else 0.0

    def cost(self, layer: NetworkLayer, widths: Widths) -> float:
        """Calibrated latency in ms of one layer, its share of what `predict_ms` sums; remembered, 0 for a fused layer.

        Raises:
            NotMeasuredError: the table lacks it.
        """
        return self.costs_at(layer, [(layer.c_in(widths), layer.c_out(widths))])[0]

    def costs(self, layer: NetworkLayer, c_in: Sequence[int], c_out: Sequence[int]) -> NDArray[np.float64]:
        """`cost` over a grid of widths: (len(c_in), len(c_out)), in ms.

        Raises:
            NotMeasuredError: the table lacks one of them.
        """
        found = self.costs_at(layer, [(wide, high) for wide in c_in for high in c_out])
        return np.array(found).reshape(len(c_in), len(c_out))

    def costs_at(self, layer: NetworkLayer, sizes: Sequence[tuple[int, ...]]) -> list[float]:
        """`cost` at each pair of widths (c_in, c_out), in ms.

        Raises:
            NotMeasuredError: the table lacks one of them.
        """
        if layer.fused:
            return [0.0] * len(sizes)
        if len(sizes) > 1:
            self._prepare(layer, [(c_in, c_out) for c_in, c_out in sizes])
        factor = self.calibration.factor(layer.dense.kind)
        return [factor * self._table_ms(layer, c_in, c_out) for c_in, c_out in sizes]

    def layer_ms(self, widths: Widths) -> dict[str, float]:
        """`cost` of every layer that is not fused, by name."""
        return {layer.name: self.cost(layer, widths) for layer in self.layers if not layer.fused}

    def activation_bytes(self, widths: Widths) -> int:
        """The most memory that any one layer takes, input, output and scratch: what the network needs at least.

        Raises:
            NotMeasuredError: the table lacks a layer.
            ProfileError: the runtime told no memory when the table was made.
        """
        return max(self._told([(layer, layer.at(widths)) for layer in self.layers if not layer.fused]), default=0)

    def _told(self, wanted: Sequence[tuple[NetworkLayer, Layer]]) -> list[int]:
        """Activation bytes of layers of the network at their sizes."""
        told = [self._lookup(layer, size).activation_bytes for layer, size in wanted]
        known = [value for value in told if value is not None]
        if len(known) < len(told):
            raise ProfileError(
                "the latency table has no activation memory",
                where=self.table.source,
                effect=f"the runtime told none for {len(told) - len(known)} of {len(told)} layers",
                fix="use the analytic activation memory instead",
            )
        return known

    def memory(self, layer: NetworkLayer, widths: Widths) -> float:
        """Measured activation bytes of one layer: its input, output and scratch; 0 for a fused layer.

        Raises:
            NotMeasuredError: the table lacks it.
            ProfileError: the runtime told no memory when the table was made.
        """
        return self.memory_at(layer, [(layer.c_in(widths), layer.c_out(widths))])[0]

    def memory_at(self, layer: NetworkLayer, sizes: Sequence[tuple[int, ...]]) -> list[float]:
        """`memory` at each pair of widths (c_in, c_out). Errors are its."""
        if layer.fused:
            return [0.0] * len(sizes)
        return [float(told) for told in self._told([(layer, layer.sized(c_in, c_out)) for c_in, c_out in sizes])]

    def calibrate(self, measured: Measured) -> Predictor:
        """A predictor refitted on whole networks: (widths, measured latency in ms at the table's reference time).

        Where this network was sampled, its layers add up already and all measurements give one scale, their median.
        Else one or two of them give a scale, three or more the full `Calibration`. None gives the identity.
        """
        sums = [self._sums(widths) for widths, _ in measured]
        found = [self.crowding.total(ms) for _, ms in measured]
        if self._is_sampled and found:
            scale = float(np.median([ms / sum(parts) for ms, parts in zip(found, sums, strict=True)]))
            return replace(self, calibration=Calibration(0.0, scale, scale))
        fitted = fit([main for main, _ in sums], [other for _, other in sums], found)
        return replace(self, calibration=fitted)

    def error(self, measured: Measured) -> PredictionError:
        """How far predictions are from whole networks that were measured."""
        return PredictionError.of([self.predict_ms(widths) for widths, _ in measured], [ms for _, ms in measured])

    def _sums(self, widths: Widths) -> tuple[float, float]:
        """Uncalibrated sums of convolutions and linear layers, and of everything else."""
        sums = [0.0, 0.0]
        for layer in self.layers:
            if not layer.fused:
                is_other = layer.dense.kind not in MAIN_KINDS
                sums[is_other] += self._table_ms(layer, layer.c_in(widths), layer.c_out(widths))
        return sums[0], sums[1] + self._rest_ms

    def _table_ms(self, layer: NetworkLayer, c_in: int, c_out: int) -> float:
        known = self._known.get(layer.name)
        if known is None:
            known = self._known[layer.name] = {}
        value = known.get((c_in, c_out))
        if value is None:
            if self.contexts and not known:
                self._prepare(layer, self._sampled(layer))
            self._prepare(layer, [(c_in, c_out)])
            value = known.get((c_in, c_out))
        if value is None:
            factor = self._in_context_factor(layer)
            value = known[c_in, c_out] = factor * self._ratio(layer, c_in, c_out) * self.table.reference_ms
        return value

    def _prepare(self, layer: NetworkLayer, pairs: Sequence[tuple[int, int]]) -> None:
        """Remember the layer's latency in context at these pairs of widths, all at once, as far as it is known."""
        known = self._known.setdefault(layer.name, {})
        todo = [pair for pair in pairs if pair not in known]
        for context in self.contexts:
            same = context.like(layer)
            if same is None or not todo:
                continue
            found = context.cost(same, [a for a, _ in todo], [b for _, b in todo]) * self.table.reference_ms
            known.update({pair: float(ms) for pair, ms in zip(todo, found, strict=True) if not np.isnan(ms)})
            todo = [pair for pair in todo if pair not in known]

    def _sampled(self, layer: NetworkLayer) -> list[tuple[int, int]]:
        """All pairs of widths that the layer had in samples: a search will ask for most of them."""
        widths = [sample.widths for sample in self.contexts[0].samples] if self.contexts[0].owns(layer) else []
        if layer.c_in == layer.c_out:
            return sorted({(layer.c_in(each), layer.c_out(each)) for each in widths})
        highs = sorted({layer.c_out(each) for each in widths})
        pairs = [(wide, high) for wide in sorted({layer.c_in(each) for each in widths}) for high in highs]
        return pairs if len(pairs) <= MOST_PREPARED else []

    def _in_context_factor(self, layer: NetworkLayer) -> float:
        """What the layer was seen to cost in context over what it costs alone; 1 where nothing was seen."""
        for context in self.contexts:
            same = context.like(layer)
            if same is None:
                continue
            alone = [self._alone(same, same.at(sample.widths)) for sample in context.samples]
            seen = [part / ratio for part, ratio in zip(context.part(same), alone, strict=True) if ratio is not None]
            if seen:
                return float(np.median(seen))
        return 1.0

    def _alone(self, layer: NetworkLayer, wanted: Layer) -> float | None:
        return self.table.lookup(wanted).ratio if wanted in self.table else None

    def _ratio(self, layer: NetworkLayer, c_in: int, c_out: int) -> float:
        wanted = layer.sized(c_in, c_out)
        if wanted not in self.table and (is_thinned(layer.c_in) or is_thinned(layer.c_out)):
            between = self._interpolated(layer, wanted)
            if between is not None:
                return between
        return self._lookup(layer, wanted).ratio

    def _lookup(self, layer: NetworkLayer, wanted: Layer) -> Entry:
        try:
            return self.table.lookup(wanted)
        except NotMeasuredError:
            raise self.table.not_measured(wanted, f"{wanted} ({layer.name!r})") from None

    def _interpolated(self, layer: NetworkLayer, wanted: Layer) -> float | None:
        """Linear between the two measured neighbours along the dimension that is a sum over groups."""
        measured = self._measured(layer, wanted)
        if layer.c_in == layer.c_out:
            sizes = [a for a, b in measured if a == b]
            return self._between(wanted.c_in, sizes, lambda size: layer.sized(size, size))
        if is_thinned(layer.c_in):
            sizes = [a for a, b in measured if b == wanted.c_out]
            found = self._between(wanted.c_in, sizes, lambda size: layer.sized(size, wanted.c_out))
            if found is not None:
                return found
        if is_thinned(layer.c_out):
            sizes = [b for a, b in measured if a == wanted.c_in]
            return self._between(wanted.c_out, sizes, lambda size: layer.sized(wanted.c_in, size))
        return None

    def _measured(self, layer: NetworkLayer, wanted: Layer) -> Sequence[tuple[int, int]]:
        """The widths of a layer that the table has. With a fixed number of groups each has a geometry of its own."""
        if not layer.fixed_groups:
            return self.table.widths(wanted)
        rows = [entry.layer for entry in self.table.rows.values() if entry.layer.c_in >= layer.fixed_groups]
        return sorted({(x.c_in, x.c_out) for x in rows if x == layer.sized(x.c_in, x.c_out)})

    def _between(self, size: int, sizes: Sequence[int], at: Callable[[int], Layer]) -> float | None:
        below, above = [s for s in sizes if s < size], [s for s in sizes if s > size]
        if not below or not above:
            return None
        low, high = max(below), min(above)
        share = (size - low) / (high - low)
        return (1 - share) * self.table.lookup(at(low)).ratio + share * self.table.lookup(at(high)).ratio
