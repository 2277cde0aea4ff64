"""The points of a correlation study in its folder: ``points.csv``, and in ``points.json`` what they belong to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from hwprune.cost.correlation import FEWEST, Kind, PointSet, Study
from hwprune.cost.points import Point
from hwprune.cost.work import Work
from hwprune.device import Device
from hwprune.errors import ProfileError
from hwprune.files import write_atomically
from hwprune.latency.profiler import fingerprint_of
from hwprune.runtimes.base import Runtime
from hwprune.timing import Paired
from hwprune.units import format_percent

KINDS: Mapping[str, Kind] = {"networks": "networks", "widths": "widths", "matched": "matched MACs"}
BELONGS_TO = ("cpu", "gpu", "runtime", "version", "precision", "threads", "reference", "batch")


@dataclass(frozen=True)
class Measured:
    """One network of a study, measured.

    Attributes:
        part: "networks", "widths" or "matched".
        name, base, family: as in `Point`.
        ratio: latency over the reference workload's; ``cv`` its spread over blocks.
        reference_ms: the reference workload's, meanwhile.
        median_ms: what a clock on the wall said, drift included.
        macs, parameters, activations: counted.
        memory_bytes: NaN where the runtime does not tell.
        measured_at: UTC.
    """

    part: str
    name: str
    base: str
    family: str
    ratio: float
    cv: float
    reference_ms: float
    median_ms: float
    macs: int
    parameters: int
    activations: int
    memory_bytes: float
    measured_at: str

    @classmethod
    def of(
        cls, part: str, name: str, base: str, family: str, paired: Paired, memory_bytes: float, counted: Work
    ) -> Measured:
        """From what was measured and counted."""
        return cls(
            part,
            name,
            base,
            family,
            ratio=paired.ratio,
            cv=paired.cv,
            reference_ms=paired.reference_median_ms,
            median_ms=paired.median_ms,
            macs=counted.macs,
            parameters=counted.parameters,
            activations=counted.activation_elements,
            memory_bytes=memory_bytes,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Measured:
        """The inverse of a row of ``points.csv``. Raises KeyError or ValueError for anything else."""
        kinds: dict[str, Callable[[str], Any]] = {
            "ratio": float,
            "cv": float,
            "reference_ms": float,
            "median_ms": float,
            "memory_bytes": float,
        }
        kinds |= {"macs": int, "parameters": int, "activations": int}
        return cls(**{f.name: kinds.get(f.name, str)(row[f.name]) for f in fields(cls)})


@dataclass
class Points:
    """What a study has measured so far; every new point is in the file before the next one is measured."""

    folder: Path
    facts: dict[str, str]
    rows: dict[tuple[str, str], Measured] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, device: Device, runtime: Runtime, batch: int) -> Points:
        """The points in a folder, which may be new.

        Raises:
            ProfileError: they are damaged, or of another device, runtime, version, precision or batch.
        """
        facts = {**fingerprint_of(runtime, device), "batch": str(batch)}
        known = cls.read(folder) if (folder / "points.csv").exists() else cls(folder, facts)
        for name in BELONGS_TO:
            if known.facts.get(name) != facts.get(name):
                raise ProfileError(
                    f"the study in {folder} was measured with {name} {known.facts.get(name)}, not {facts.get(name)}",
                    effect="its points cannot be mixed with new ones",
                    fix="choose another --out",
                )
        return known

    @classmethod
    def read(cls, folder: Path) -> Points:
        """What is in a folder. Raises `ProfileError` where it is damaged."""
        try:
            facts = json.loads((folder / "points.json").read_text(encoding="utf-8"))
            lines = csv.DictReader(io.StringIO((folder / "points.csv").read_text(encoding="utf-8")))
            rows = [Measured.from_row(row) for row in lines]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(
                f"the points of the study are damaged: {error!r}", where=folder, fix="choose another --out"
            ) from error
        return cls(folder, facts, {(row.part, row.name): row for row in rows})

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self.rows

    def add(self, measured: Measured) -> None:
        """Keep one more, on the disk too."""
        self.rows[measured.part, measured.name] = measured
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Measured)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows.values())
        write_atomically(self.folder / "points.json", (json.dumps(self.facts, indent=1) + "\n").encode())
        write_atomically(self.folder / "points.csv", text.getvalue().encode())

    def points(self, part: str) -> tuple[Point, ...]:
        """The points of a part, all at the reference workload's median time over the whole study."""
        reference_ms = median(row.reference_ms for row in self.rows.values()) if self.rows else 1.0
        return tuple(
            Point(
                name=row.name,
                latency_ms=row.ratio * reference_ms,
                macs=row.macs,
                parameters=row.parameters,
                activations=row.activations,
                memory_bytes=row.memory_bytes,
                base=row.base,
                family=row.family,
            )
            for row in self.rows.values()
            if row.part == part
        )

    def study(self, device: str) -> Study:
        """The sets of all parts that have points enough."""
        found = []
        for part, kind in KINDS.items():
            points = self.points(part)
            for base in sorted({point.base for point in points}):
                own = tuple(point for point in points if point.base == base)
                points_set = PointSet("", kind, own)
                if len(points_set.compared) >= FEWEST:
                    found.append(PointSet(_title(points_set, base), kind, own))
        return Study(device, tuple(found))

    def summary(self) -> dict[str, Any]:
        """How many points there are, and how they scatter."""
        scatter = sorted(row.cv for row in self.rows.values())
        counts = {part: sum(row.part == part for row in self.rows.values()) for part in KINDS}
        return {"points": counts, "median_cv": median(scatter) if scatter else None}


def _title(points: PointSet, base: str) -> str:
    count, base = len(points.compared), base.rpartition(":")[2]
    if points.kind == "networks":
        return f"{count} networks"
    if points.kind == "widths":
        return f"{count} random widths of {base}"
    share = 1 - median(points.figures("macs").tolist())
    return f"{count} plans of {base} at {format_percent(share)} of its MACs"
