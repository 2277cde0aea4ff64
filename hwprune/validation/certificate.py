"""The result of `hwprune.validation.certify.certify`, and how it is told and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from hwprune.clocks import Clocks
from hwprune.comparison import Comparison, compare
from hwprune.errors import RunError
from hwprune.files import write_atomically
from hwprune.timing import Timing
from hwprune.units import format_ms, format_percent

SCHEMA = 1
UNWATCHED = Clocks("clocks were not watched")  # in certificates of 0.1.0


@dataclass(frozen=True)
class Certificate:
    """The result of `certify`, with all that was measured.

    Attributes:
        comparison: latency of pruned over dense with its interval.
        confidence: of the interval.
        dense_blocks_ms, pruned_blocks_ms: block medians per rebuild; equal places are neighbours in time.
        dense_samples_ms, pruned_samples_ms: latencies of single runs over all rebuilds.
        runtime: name, device, precision and so on, as in `RuntimeSpec`.
        fingerprint: what the numbers belong to.
        batch: images at once; 0 in certificates of 0.1.0, which did not say.
        clocks: the card's clocks, power and throttling meanwhile, or whether a processor's core was shared.
    """

    comparison: Comparison
    confidence: float
    dense_blocks_ms: tuple[tuple[float, ...], ...]
    pruned_blocks_ms: tuple[tuple[float, ...], ...]
    dense_samples_ms: tuple[float, ...]
    pruned_samples_ms: tuple[float, ...]
    runtime: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    batch: int = 0
    clocks: Clocks = UNWATCHED

    @property
    def verdict(self) -> Literal["faster", "not faster", "slower"]:
        """ "faster" only where the whole interval of the ratio lies below 1, "slower" where all of it lies above."""
        if self.comparison.faster:
            return "faster"
        return "slower" if self.comparison.low > 1 else "not faster"

    @property
    def dense(self) -> Timing:
        """The dense network's single runs; their median, p95 and coefficient of variation."""
        return Timing(self.dense_samples_ms)

    @property
    def pruned(self) -> Timing:
        """The pruned network's."""
        return Timing(self.pruned_samples_ms)

    def upper(self, confidence: float) -> float:
        """What the ratio lies below, with this confidence: the end of a one-sided interval."""
        return compare(self.dense_blocks_ms, self.pruned_blocks_ms, confidence=2 * confidence - 1).high

    @property
    def summary(self) -> str:
        """One sentence for people."""
        found = self.comparison
        where = f"{self.runtime['name']} {self.runtime['precision']} on {self.runtime['device']}"
        of_batch = f" at batch {self.batch}" if self.batch > 1 else ""
        return (
            f"{self._judgement}: the pruned network takes {format_percent(found.ratio)} of the dense network's time "
            f"({100 * self.confidence:g} % interval {format_percent(found.low)} to {format_percent(found.high)}), "
            f"{format_ms(self.pruned.median_ms)} against {format_ms(self.dense.median_ms)}, "
            f"with {where}{of_batch} over {len(self.dense_blocks_ms)} rebuilds."
        )

    @property
    def _judgement(self) -> str:
        judgements = {"faster": "Faster", "slower": "Not faster but slower"}
        return judgements.get(self.verdict, "Not faster, as far as can be told")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, verdict, summary and statistics included for other readers."""
        statistics = {
            f"{name}_{value}": getattr(timing, value)
            for name, timing in (("dense", self.dense), ("pruned", self.pruned))
            for value in ("median_ms", "p95_ms", "cv")
        }
        told = {"schema": SCHEMA, "verdict": self.verdict, "summary": self.summary}
        return {**told, **statistics, **asdict(self), "clocks": self.clocks.as_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """The inverse of `as_dict`. Raises ValueError, KeyError or TypeError for anything else."""
        if (schema := values["schema"]) != SCHEMA:
            raise ValueError(f"its schema is {schema}, this version reads {SCHEMA}")
        younger = {"batch": 0, "clocks": UNWATCHED.as_dict()}  # than the files of 0.1.0
        known = {field.name: {**younger, **values}[field.name] for field in fields(cls)}
        for name in ("dense_blocks_ms", "pruned_blocks_ms"):
            known[name] = tuple(tuple(blocks) for blocks in known[name])
        for name in ("dense_samples_ms", "pruned_samples_ms"):
            known[name] = tuple(known[name])
        read = {"comparison": Comparison(**known["comparison"]), "clocks": Clocks.from_dict(known["clocks"])}
        return cls(**known | read)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically. Raises `StorageError`."""
        write_atomically(Path(path), json.dumps(self.as_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read what `save` wrote. Raises `RunError` where the file is missing or damaged."""
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"the certificate cannot be read: {error}", where=path, fix="run `hwprune certify` again"
            ) from error
