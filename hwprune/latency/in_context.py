"""A network's layers as they run inside whole engines of it, fitted on samples at many widths.

The profiler's times of one engine add up to more or less than the engine takes: each of its layers carries a constant
of the profiler (3.0 µs on an RTX 4090), or lacks what the runtime does between layers. That constant is fitted over all
samples as the median of (sum of layers - latency) / number of layers, and taken off; what then remains of a sample's
difference is the machine's drift between the two measurements, so its layers are scaled to add up exactly.

Each layer gets a `Surface` over its two widths, and the network a `Crowding` from their sum to its latency. What these
say of a sample that is left out is an honest prediction of a whole network that the table has not seen; `band` is the
conformal quantile of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hwprune.graph.layers import NetworkLayer
from hwprune.latency.attribution import REST
from hwprune.latency.crowding import Crowding
from hwprune.latency.held_out import PredictionError
from hwprune.latency.sample import NetworkSample
from hwprune.latency.surface import Kernel, Points, Surface, fit

Floats = NDArray[np.float64]
Widths = Mapping[str, int]
FEWEST_SAMPLES: Final = 8  # below, surfaces are guesses
MOST_TAKEN_OFF: Final = 0.9  # of a layer's time, as overhead
MINOR: Final = 0.003  # share of the network below which a layer's kernel is not chosen but the usual one
STEADY: Final = 0.01  # relative standard error of a latency up to which a sample counts in full
DOUBT_FROM: Final = 2.5  # robust standard deviations from which a sample counts as disturbed
ROUNDS: Final = 5
USUAL_ROUNDS: Final = 2  # without choosing kernels, which takes long: these find the crowding


@dataclass(frozen=True)
class InContext:
    """The layers of one network over their widths, in units of the reference workload.

    Attributes:
        samples: of this network, what everything was fitted on.
        layers: of the network, those that are not fused.
        overhead_ms: of the profiler, per layer of the engine; negative where the runtime idles between layers.
        surfaces: by layer name; a layer that always ran inside another has none, and costs nothing.
        rest: what belongs to no layer.
        crowding: from the sum of layers and rest to the latency.
        left_out: for each sample, its latency predicted from all others.
        doubt: for each sample 1, or more where its profile or the others say that it was disturbed.
    """

    samples: tuple[NetworkSample, ...]
    layers: tuple[NetworkLayer, ...]
    overhead_ms: float
    surfaces: Mapping[str, Surface]
    rest: float
    crowding: Crowding
    left_out: Floats
    doubt: Floats

    @property
    def measured(self) -> Floats:
        """Latency of each sample."""
        return np.array([sample.ratio for sample in self.samples])

    @property
    def error(self) -> PredictionError:
        """Of the samples, each predicted from all others, after one common factor."""
        factor = float(np.median(self.measured / self.left_out))
        return PredictionError.of((factor * self.left_out).tolist(), self.measured.tolist())

    @cached_property
    def residuals(self) -> tuple[float, ...]:
        """measured / predicted - 1 of every sample that is left out, after one common factor."""
        ratios = self.measured / self.left_out
        return tuple((ratios / np.median(ratios) - 1).tolist())

    @cached_property
    def named(self) -> Mapping[str, NetworkLayer]:
        """The layers by name."""
        return {layer.name: layer for layer in self.layers}

    def owns(self, layer: NetworkLayer) -> bool:
        """Whether these samples are of the network with this layer."""
        return (same := self.named.get(layer.name)) is not None and same.dense == layer.dense

    def like(self, layer: NetworkLayer) -> NetworkLayer | None:
        """The layer itself, or else one at another place, or of another network, that is equal but for its widths."""
        if self.owns(layer):
            return self.named[layer.name]
        square = layer.c_in == layer.c_out
        alike = (known for known in self.layers if known.dense.geometry == layer.dense.geometry)
        return next((known for known in alike if (known.c_in == known.c_out) == square), None)

    def cost(self, layer: NetworkLayer, c_in: Sequence[int], c_out: Sequence[int]) -> Floats:
        """Share of one of `layers` in `total` at each pair of widths; those beyond what was measured are NaN."""
        surface = self.surfaces.get(layer.name)
        if surface is None:
            return np.zeros(len(c_in))
        found: Floats = np.where(surface.covers(c_in, c_out), surface.at(c_in, c_out), np.nan)
        return found

    def part(self, layer: NetworkLayer) -> Floats:
        """Share of one of `layers` in `total`, in each sample."""
        surface = self.surfaces.get(layer.name)
        return np.zeros(len(self.samples)) if surface is None else surface.points.values

    def latency(self, widths: Widths) -> float:
        """Latency of the network at widths between those of the samples."""
        return self.crowding.latency(self.total(widths))

    def total(self, widths: Widths) -> float:
        """Sum of what the layers and the rest take, before `crowding`."""
        parts = [self.cost(layer, [layer.c_in(widths)], [layer.c_out(widths)]) for layer in self.layers]
        return self.rest + float(np.nansum(parts))

    def deviation(self, widths: Widths) -> float:
        """Standard deviation of the network's latency at these widths, were the layers' errors independent."""
        variance = 0.0
        for layer in self.layers:
            if (surface := self.surfaces.get(layer.name)) is not None:
                variance += float(surface.deviation([layer.c_in(widths)], [layer.c_out(widths)])[0]) ** 2
        return self.crowding.slope(self.total(widths)) * float(np.sqrt(variance))


def fitted(samples: Sequence[NetworkSample], layers: Sequence[NetworkLayer]) -> InContext:
    """The surfaces of a network from its samples.

    Samples that scattered, whose profile tells another latency than the clock, or that the others do not bear out (a
    neighbour on the machine, a clock that changed) lose weight.

    Raises:
        ValueError: there are fewer than `FEWEST_SAMPLES`.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(f"{len(samples)} samples are too few: {FEWEST_SAMPLES} at least")
    own = tuple(layer for layer in layers if not layer.fused)
    overhead_ms, parts, agreement = added_up(samples, [*(layer.name for layer in own), REST])
    shares = parts.mean(axis=0) / parts.sum(axis=1).mean()
    measured = np.array([sample.ratio for sample in samples])
    noise = np.array([sample.paired.standard_error for sample in samples])
    at_first = doubt = np.maximum(_doubt(agreement), noise / STEADY)
    crowding = Crowding(float(measured.max()))
    kernels: dict[str, Kernel] = {}
    surfaces: dict[str, Surface] = {}
    for number in range(ROUNDS):
        totals = np.array([crowding.total(latency) for latency in measured])
        pressed = parts * (totals / measured)[:, None]
        for place, layer in enumerate(own):
            if parts[:, place].max() > 0:
                points = _points(layer, samples, pressed[:, place], doubt)
                usual = Kernel() if shares[place] < MINOR or number < USUAL_ROUNDS else None
                surfaces[layer.name] = fit(points, kernels.get(layer.name, usual))
                if number >= USUAL_ROUNDS:
                    kernels[layer.name] = surfaces[layer.name].kernel
        rest = float(np.median(pressed[:, -1]))
        expected = np.maximum(sum((s.left_out for s in surfaces.values()), np.full(len(samples), rest)), 1e-9)
        left_out = np.array([crowding.latency(total) for total in expected])
        doubt = np.maximum(at_first, _doubt(measured / left_out))
        if number < ROUNDS - 1 and surfaces:
            crowding = crowding.refitted(totals, expected, at_first**-2)
    return InContext(tuple(samples), own, overhead_ms, surfaces, rest, crowding, left_out, doubt)


def added_up(samples: Sequence[NetworkSample], names: Sequence[str]) -> tuple[float, Floats, Floats]:
    """The profiler's overhead per engine layer in ms, and (samples, names) layer times that add up to each latency.

    And for each sample the profiled sum without overhead over the latency, which is near 1 unless it was disturbed.

    A sample without a profile has its whole latency under the last name.
    """
    raw = np.array([[sample.layer_ms.get(name, 0.0) for name in names] for sample in samples])
    counts = np.array([[sample.engine_layers.get(name, 0) for name in names] for sample in samples], dtype=float)
    plain = np.array([sample.paired.median_ms for sample in samples])
    profiled = raw.sum(axis=1) > 0
    overhead_ms = 0.0
    if profiled.any():
        overhead_ms = float(np.median((raw.sum(axis=1) - plain)[profiled] / counts.sum(axis=1)[profiled]))
    left = np.maximum(raw - overhead_ms * counts, (1 - MOST_TAKEN_OFF) * raw)
    agreement = np.where(profiled, left.sum(axis=1) / plain, 1.0)
    left[~profiled, -1] = 1.0
    ratios = np.array([sample.ratio for sample in samples])
    found: Floats = left / left.sum(axis=1, keepdims=True) * ratios[:, None]
    return overhead_ms, found, agreement


def conformal(residuals: Sequence[float], coverage: float = 0.9) -> float:
    """The bound that a new network's residual stays under with this probability: the ceil((n+1) coverage)-th smallest.

    Infinite where there are too few residuals to promise that much. Source: split conformal prediction, Vovk et al.;
    holds whatever the distribution as long as the new network is drawn like the others.

    >>> conformal([0.03, -0.01, 0.02, 0.0], 0.8), conformal([0.1], 0.9)
    (0.03, inf)
    """
    place = ceil((len(residuals) + 1) * coverage - 1e-9)
    return sorted(residuals)[place - 1] if 0 < place <= len(residuals) else inf


def _points(layer: NetworkLayer, samples: Sequence[NetworkSample], values: Floats, doubt: Floats) -> Points:
    c_in = [layer.c_in(sample.widths) for sample in samples]
    return Points.of(c_in, [layer.c_out(sample.widths) for sample in samples], values, doubt)


def _doubt(ratios: Floats) -> Floats:
    """1 for samples that agree with their prediction, more the further they are off."""
    off = np.abs(np.log(ratios / np.median(ratios)))
    sigma = max(1.4826 * float(np.median(off)), 0.005)
    found: Floats = np.maximum(1.0, (off / (DOUBT_FROM * sigma)) ** 2)
    return found
