"""How far predictions were from measurements, as numbers that are kept with a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np
from scipy.stats import spearmanr


@dataclass(frozen=True, slots=True)
class PredictionError:
    """Distribution of |predicted / measured - 1| over networks, and how well their order is told.

    Attributes:
        median, p95: of the relative errors.
        within5, within10: share of networks predicted to 5 % and to 10 %.
        spearman: rank correlation of predicted and measured; NaN for fewer than two different values.
        count: networks measured.
    """

    median: float
    p95: float
    within5: float
    within10: float
    spearman: float
    count: int

    @classmethod
    def of(cls, predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> PredictionError:
        """The error of predictions against measurements of the same networks in the same order.

        >>> PredictionError.of([1.0, 2.2], [1.0, 2.0]).within5
        0.5
        """
        if not measured_ms or len(predicted_ms) != len(measured_ms):
            raise ValueError("an error needs one prediction for each of at least one measurement")
        errors = np.abs(np.asarray(predicted_ms) / np.asarray(measured_ms) - 1)
        return cls(
            median=float(np.median(errors)),
            p95=float(np.percentile(errors, 95)),
            within5=float(np.mean(errors <= 0.05)),
            within10=float(np.mean(errors <= 0.10)),
            spearman=_rank_correlation(predicted_ms, measured_ms),
            count=len(measured_ms),
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Whole networks at random widths that no table entry was measured for: the proof of a profile.

    Attributes:
        network: what was cut ("resnet50").
        widths: of each setting, group by group.
        predicted_ms, measured_ms: of each setting, at the table's reference time.
        again_ms: a second measurement of the first settings, or of all of them, with rebuilt engines.
        measured_at: UTC, ISO 8601.
        method: how the table was measured that predicted: "isolated" or "in-context".
    """

    network: str
    widths: tuple[Mapping[str, int], ...]
    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    again_ms: tuple[float, ...] = ()
    measured_at: str = ""
    method: str = "isolated"

    @property
    def error(self) -> PredictionError:
        """Predicted against measured."""
        return PredictionError.of(self.predicted_ms, self.measured_ms)

    @property
    def noise(self) -> PredictionError | None:
        """How well one measurement predicts the next: no prediction can do better. None where nothing was repeated."""
        return PredictionError.of(self.again_ms, self.measured_ms[: len(self.again_ms)]) if self.again_ms else None

    def share_within(self, bound: float) -> float:
        """Share of the networks whose relative error is at most ``bound``."""
        return float(np.mean(np.abs(np.asarray(self.predicted_ms) / np.asarray(self.measured_ms) - 1) <= bound))

    def as_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HeldOut:
        """The inverse of `as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            network=str(values["network"]),
            widths=tuple({str(k): int(v) for k, v in widths.items()} for widths in values["widths"]),
            predicted_ms=tuple(float(v) for v in values["predicted_ms"]),
            measured_ms=tuple(float(v) for v in values["measured_ms"]),
            again_ms=tuple(float(v) for v in values["again_ms"]),
            measured_at=str(values["measured_at"]),
            method=str(values.get("method", "isolated")),  # tables of 0.1.0 know no other
        )


def _rank_correlation(predicted: Sequence[float], measured: Sequence[float]) -> float:
    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        return nan
    return float(spearmanr(predicted, measured).statistic)
