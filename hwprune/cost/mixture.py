"""The correlated cost: latency as a mixture of work terms, fitted to networks that were measured on a device.

    latency = macs · MACs + activations · activation elements + parameters · parameters + constant

No coefficient is negative. It knows nothing of widths that a device dislikes, of fusion or of small batches, so it is
no latency: it says how much more one layer weighs than another on a device that nobody here has profiled.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hwprune.cost.statistics import Fit, held_out, mape, pearson
from hwprune.cost.work import macs, output_elements, weight_elements
from hwprune.errors import ProfileError
from hwprune.files import PROFILES, write_atomically
from hwprune.graph.layers import NetworkLayer
from hwprune.graph.network import Network
from hwprune.layer import Layer
from hwprune.search.problem import Widths

SCHEMA = 1
SUFFIX = ".mixture.json"


@dataclass(frozen=True, slots=True)
class MixtureError:
    """How far a mixture is from the networks that it was fitted to.

    Attributes:
        mape: mean absolute relative error.
        r: Pearson's r of fitted and measured latency.
        held_out_mape, held_out_r: the same where each network is predicted by a fit without its family.
        networks, families: how many there were.
    """

    mape: float
    r: float
    held_out_mape: float
    held_out_r: float
    networks: int
    families: int


@dataclass(frozen=True)
class Mixture:
    """Coefficients of the correlated cost of one device, and where they come from.

    Attributes:
        device: as `--device` takes it.
        macs_ms, activations_ms, parameters_ms: ms per MAC, activation element (outputs of convolutions) and parameter.
        constant_ms: per image, whatever the widths.
        error: of the fit.
        provenance: source file, rows, batch, precision, layout, versions, date, licence.
    """

    device: str
    macs_ms: float
    activations_ms: float
    parameters_ms: float
    constant_ms: float
    error: MixtureError
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        work: Sequence[tuple[float, float, float]],
        latency_ms: Sequence[float],
        families: Sequence[Hashable],
        *,
        device: str,
        provenance: Mapping[str, Any] | None = None,
    ) -> Mixture:
        """Least squares of the relative error over networks of at least two families.

        Args:
            work: MACs, activation elements and parameters of each network.
            latency_ms: of each, positive.
            families: of each; none is in the fit that predicts it for the held-out error.

        Raises:
            ProfileError: too few networks, or all of one family.
        """
        if len(latency_ms) < 8 or len(set(families)) < 2:
            raise ProfileError(
                f"a mixture cannot be fitted to {len(latency_ms)} networks of {len(set(families))} families",
                effect="the correlated cost of the device is unknown",
                fix="measure at least 8 networks of 2 families",
            )
        terms = np.column_stack([np.asarray(work, dtype=float), np.ones(len(latency_ms))])
        found, predicted = Fit.of(terms, latency_ms), held_out(terms, latency_ms, families)
        measured = np.asarray(latency_ms, dtype=float)
        error = MixtureError(
            mape=found.mape,
            r=found.r,
            held_out_mape=mape(predicted, measured),
            held_out_r=pearson(predicted, measured),
            networks=len(latency_ms),
            families=len(set(families)),
        )
        by_macs, by_activations, by_parameters, constant = found.coefficients
        return cls(device, by_macs, by_activations, by_parameters, constant, error, dict(provenance or {}))

    def latency_ms(self, macs: float, activations: float, parameters: float) -> float:
        """The mixture's latency of a whole network."""
        work = self.macs_ms * macs + self.activations_ms * activations + self.parameters_ms * parameters
        return work + self.constant_ms

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: object = None) -> Mixture:
        """The inverse of `as_json`.

        Raises:
            ProfileError: anything else.
        """
        try:
            known = {name: value for name, value in values.items() if name != "schema"}
            if values["schema"] != SCHEMA:
                raise KeyError(f"schema {SCHEMA}")
            found = cls(**{**known, "error": MixtureError(**known["error"])})
            usable = min(found.macs_ms, found.activations_ms, found.parameters_ms, found.constant_ms) >= 0
        except (KeyError, TypeError, AttributeError) as error:
            raise ProfileError(
                f"the mixture cannot be read: {error}", where=where, fix="fit it again with `hwprune correlate`"
            ) from error
        if not usable:
            raise ProfileError("the mixture has negative coefficients", where=where, fix="fit it again")
        return found

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomically(path, (json.dumps(self.as_json(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Mixture:
        """Read what `save` wrote. Raises `ProfileError` where it is damaged."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")), where=path)
        except (OSError, ValueError) as error:
            raise ProfileError(f"the mixture is damaged: {error}", where=path, fix="fit it again") from error

    def __str__(self) -> str:
        """Where it comes from and how good it is, in one sentence."""
        error, known = self.error, self.provenance
        source = ", ".join(str(known[name]) for name in ("source", "precision", "batch", "date") if known.get(name))
        return (
            f"fitted to {error.networks} networks of {error.families} families ({source or 'measured here'}): "
            f"{100 * error.mape:.1f} % off on average, {100 * error.held_out_mape:.1f} % on families it has not seen"
        )


@dataclass(frozen=True)
class Correlated:
    """A mixture over the layers of one network: what stands in for a table where there is none.

    It has the same methods as a `Predictor` of latency tables, and no interpolation or calibration.
    """

    mixture: Mixture
    network: Network

    @property
    def constant_ms(self) -> float:
        """The part of the cost that no width changes."""
        return self.mixture.constant_ms

    def cost(self, layer: NetworkLayer, widths: Widths) -> float:
        """Share of one layer in `predict_ms`; 0 for all but convolutions and linear layers."""
        return self.costs_at(layer, [(layer.c_in(widths), layer.c_out(widths))])[0]

    def costs_at(self, layer: NetworkLayer, sizes: Sequence[tuple[int, ...]]) -> list[float]:
        """`cost` at each pair of widths."""
        return [self._cost(layer.sized(c_in, c_out)) for c_in, c_out in sizes]

    def _cost(self, layer: Layer) -> float:
        found = self.mixture.macs_ms * macs(layer) + self.mixture.parameters_ms * weight_elements(layer)
        return found + (self.mixture.activations_ms * output_elements(layer) if layer.kind == "conv" else 0.0)

    def predict_ms(self, widths: Widths) -> float:
        """The correlated cost at ``widths``; no measured latency, whatever its unit."""
        return self.constant_ms + sum(self.cost(layer, widths) for layer in self.network.layers)

    def summed_ms(self, latency_ms: float) -> float:
        """What `constant_ms` and the `cost` of all layers sum to at this cost: that."""
        return latency_ms

    @cached_property
    def dense_ms(self) -> float:
        """The correlated cost of the dense network."""
        return self.predict_ms(self.network.widths)

    def share(self, widths: Widths) -> float:
        """`predict_ms` over that of the dense network."""
        return self.predict_ms(widths) / self.dense_ms


def find_mixture(device: str, *folders: Path) -> Mixture | None:
    """The device's mixture in the first of ``folders`` that has one, else the shipped one; None where there is none.

    Raises:
        ProfileError: the file is damaged.
    """
    for folder in (*folders, PROFILES):
        path = folder / f"{device}{SUFFIX}"
        if path.exists():
            return Mixture.load(path)
    return None
