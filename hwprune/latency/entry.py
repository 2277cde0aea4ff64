"""One row of a latency table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from hwprune.layer import Layer
from hwprune.timing import Paired

Context = Literal["engine", "framed", "alone"]
CONTEXTS: Final[tuple[Context, ...]] = get_args(Context)  # the closest to a real network first
SMALLEST_RATIO: Final = 1e-6  # of a layer that costs nothing within the noise: no cost is zero or negative


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured layer.

    Attributes:
        layer: what was measured.
        samples_ms: the median run of each block, oldest first; with the frame, where there is one.
        reference_ms: for each block, the reference workload beside it.
        frame_ratio: the empty frame's own share of the reference.
        context: "alone", "framed" (see `isolated`), or "engine": attributed inside a whole network's engine.
        activation_bytes, workspace_bytes: what the runtime told; None where it does not tell.
        measured_at: UTC, ISO 8601.
    """

    layer: Layer
    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    measured_at: str
    context: Context = "alone"
    frame_ratio: float = 0.0
    activation_bytes: int | None = None
    workspace_bytes: int | None = None

    @property
    def paired(self) -> Paired:
        """The samples beside their references."""
        return Paired(self.samples_ms, self.reference_ms)

    @property
    def ratio(self) -> float:
        """Latency of the layer over that of the reference; always positive."""
        return max(self.paired.ratio - self.frame_ratio, SMALLEST_RATIO)

    @property
    def row(self) -> tuple[Layer, Context]:
        """What a table knows the entry by."""
        return self.layer, self.context

    @property
    def cv(self) -> float:
        """Robust coefficient of variation of the paired samples, frame included."""
        return self.paired.cv


def later(one: Entry, other: Entry) -> Entry:
    """The newer of two entries for one row; of two equally old ones always the same, whatever the order."""
    return max(one, other, key=_age)


def _age(entry: Entry) -> tuple[object, ...]:
    told = (-1 if value is None else value for value in (entry.activation_bytes, entry.workspace_bytes))
    return entry.measured_at, entry.samples_ms, entry.reference_ms, entry.frame_ratio, *told
