"""The latency table: what was measured, layer by layer, on one device with one runtime in one precision.

A table is a value: `add` and `merge` return new ones. On disk it is a Parquet file (see `storage`). Every sample was
taken beside a fixed reference workload, so a row is a ratio to it, free of the machine's drift; milliseconds are the
ratio times the reference's own time, the median over the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from hwprune.errors import NotMeasuredError, ProfileError
from hwprune.latency import storage
from hwprune.latency.entry import CONTEXTS, Context, later
from hwprune.latency.entry import Entry as Entry
from hwprune.latency.held_out import HeldOut
from hwprune.latency.sample import NetworkSample, Structure, structure_of
from hwprune.layer import Layer

# What the numbers depend on. The device counts by its hardware: "cuda:0" and "rtx3090" may be the same card.
# Hypervisors hide the model ("AMD EPYC"), but neither its family nor what it can do.
IDENTITY_KEYS: Final = (
    *("cpu", "cpu_family_model_stepping", "flags"),
    *("gpu", "runtime", "version", "precision", "threads", "reference"),
)


@dataclass(frozen=True)
class LatencyTable:
    """Measurements of one device, runtime and precision.

    Attributes:
        fingerprint: software and hardware that the numbers belong to.
        rows: by layer and context.
        held_out: predictions checked on whole networks.
        samples: whole networks at sampled widths, with their layers' times in context, oldest first in each network.
        structures: the layers of those networks, by their fingerprint.
        source: the file it came from, for messages.
    """

    fingerprint: Mapping[str, str]
    rows: Mapping[tuple[Layer, Context], Entry] = field(default_factory=dict)
    held_out: tuple[HeldOut, ...] = ()
    source: str = "a table that was not saved"
    samples: tuple[NetworkSample, ...] = ()
    structures: Mapping[str, Structure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", MappingProxyType(dict(self.fingerprint)))
        object.__setattr__(self, "rows", MappingProxyType(dict(self.rows)))
        object.__setattr__(self, "structures", MappingProxyType(dict(self.structures)))

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, layer: object) -> bool:
        return layer in self._best

    def lookup(self, layer: Layer) -> Entry:
        """The measurement of exactly this layer, in the context closest to a real network.

        Raises:
            NotMeasuredError: there is none; the message has the nearest widths and the command that measures it.
        """
        entry = self._best.get(layer)
        if entry is None:
            raise self.not_measured(layer, layer)
        return entry

    def not_measured(self, layer: Layer, wanted: object) -> NotMeasuredError:
        """The error for a layer that is not here, called ``wanted`` in the message."""
        near = [entry.layer for entry in self.nearest(layer, 3)]
        return NotMeasuredError(wanted, table=self.source, nearest=near, command=self.command)

    def ms(self, layer: Layer) -> float:
        """Latency in ms of exactly this layer, positive. Raises NotMeasuredError."""
        return self.lookup(layer).ratio * self.reference_ms

    @cached_property
    def reference_ms(self) -> float:
        """Time of the reference workload: the median over all rows, or samples where there are no rows.

        Raises:
            ProfileError: the table is empty.
        """
        measured = list(self.rows.values()) or self.samples
        if not measured:
            raise ProfileError("the latency table is empty", where=self.source, fix=f"run `{self.command}`")
        return float(np.median([one.paired.reference_median_ms for one in measured]))

    def nearest(self, layer: Layer, count: int) -> list[Entry]:
        """The entries of the same geometry whose widths are nearest in proportion, nearest first."""

        def distance(entry: Entry) -> tuple[float, Layer]:
            widths = zip((layer.c_in, layer.c_out), (entry.layer.c_in, entry.layer.c_out), strict=True)
            return sum(abs(log(max(a, 1) / max(b, 1))) for a, b in widths), entry.layer

        return sorted(self._by_geometry.get(layer.geometry, ()), key=distance)[:count]

    def widths(self, geometry: Layer) -> tuple[tuple[int, int], ...]:
        """The (c_in, c_out) that were measured of a layer's geometry, ascending."""
        entries = self._by_geometry.get(geometry.geometry, ())
        return tuple(sorted((entry.layer.c_in, entry.layer.c_out) for entry in entries))

    def add(self, entries: Iterable[Entry]) -> LatencyTable:
        """A table with these entries too; of two for one layer and context the later one counts."""
        rows = dict(self.rows)
        for entry in entries:
            rows[entry.row] = later(rows[entry.row], entry) if entry.row in rows else entry
        return replace(self, rows=rows)

    def with_samples(self, samples: Iterable[NetworkSample], layers: Structure, groups_hash: str) -> LatencyTable:
        """A table with these samples too, all of one network with these layers; equal ones count once."""
        structure = structure_of(layers, groups_hash)
        found = list(samples)
        if strange := [sample for sample in found if sample.structure != structure]:
            raise ValueError(f"a sample of {strange[0].network} is of other layers than were given")
        return replace(
            self, samples=_distinct([*self.samples, *found]), structures={**self.structures, structure: layers}
        )

    def samples_of(self, structure: str) -> tuple[NetworkSample, ...]:
        """The samples of the network with this fingerprint (see `structure_of`), oldest first."""
        return tuple(sample for sample in self.samples if sample.structure == structure)

    def merge(self, other: LatencyTable) -> LatencyTable:
        """Both tables' rows, samples and held-out networks; the order of merging makes no difference to them.

        Raises:
            ProfileError: the other table is of other hardware, runtime, version, precision or threads.
        """
        self.check_fingerprint(other.fingerprint, other.source)
        return replace(
            self.add(other.rows.values()),
            held_out=_newest([*self.held_out, *other.held_out]),
            samples=_distinct([*self.samples, *other.samples]),
            structures={**self.structures, **other.structures},
        )

    def with_held_out(self, held_out: HeldOut) -> LatencyTable:
        """A table that carries this check too; of two on one network with one method the newer one counts."""
        return replace(self, held_out=_newest([*self.held_out, held_out]))

    def check_fingerprint(self, fingerprint: Mapping[str, str], whose: str) -> None:
        """Raises ProfileError where ``fingerprint`` contradicts this one in what the numbers depend on."""
        known = [key for key in IDENTITY_KEYS if key in self.fingerprint and key in fingerprint]
        keys = [key for key in known if self.fingerprint[key] != fingerprint[key]]
        if not keys:
            return
        mine = ", ".join(f"{key} {self.fingerprint[key]}" for key in keys)
        theirs = ", ".join(f"{key} {fingerprint[key]}" for key in keys)
        raise ProfileError(
            f"the latency table was measured with {mine}; {whose} has {theirs}",
            where=self.source,
            effect="its latencies do not hold there; nothing was written",
            fix="use another table file, or delete this one to profile again",
        )

    @property
    def counted(self) -> str:
        """What it holds, in words: "12 layers, 64 whole networks"."""
        found = ((len(self), "layer"), (len(self.samples), "whole network"))
        told = [f"{count} {what}{'s' * (count != 1)}" for count, what in found if count]
        return ", ".join(told) or "nothing"

    @property
    def command(self) -> str:
        """The command that measures what is missing."""
        known = {key: self.fingerprint[key] for key in ("device", "runtime", "precision") if key in self.fingerprint}
        return " ".join(["hwprune profile", *(f"--{key} {value}" for key, value in known.items())])

    @cached_property
    def _best(self) -> dict[Layer, Entry]:
        ranked = sorted(self.rows.items(), key=lambda row: CONTEXTS.index(row[0][1]), reverse=True)
        return {layer: entry for (layer, _), entry in ranked}

    @cached_property
    def _by_geometry(self) -> dict[Layer, list[Entry]]:
        found: dict[Layer, list[Entry]] = {}
        for entry in self._best.values():
            found.setdefault(entry.layer.geometry, []).append(entry)
        return found

    @classmethod
    def load(cls, path: Path | str) -> LatencyTable:
        """The table in a Parquet file.

        Raises:
            ProfileError: there is no such file, or it is damaged, or of another schema.
        """
        path = Path(path)
        return cls._of(storage.read(path), path)

    def save(self, path: Path | str) -> LatencyTable:
        """Writes the table into a Parquet file, merged with what is there by now; returns the merged table.

        Raises:
            ProfileError: what is there is damaged, of another schema or of another device; it is left as it is.
            StorageError: the disk is full or not writable; what was there survives.
        """
        path = Path(path)
        with storage.writing(path):
            merged = replace(self, source=str(path))
            if path.exists():
                merged = self._of(storage.read(path), path).merge(self)
            rows = [merged.rows[key] for key in sorted(merged.rows)]
            reference_ms = merged.reference_ms if rows or merged.samples else 0.0
            stored = storage.Stored(merged.fingerprint, rows, merged.held_out, merged.samples, merged.structures)
            storage.write(path, stored, reference_ms)
        return merged

    @classmethod
    def _of(cls, stored: storage.Stored, path: Path) -> LatencyTable:
        rows = {entry.row: entry for entry in stored.entries}
        return cls(stored.fingerprint, rows, stored.held_out, str(path), stored.samples, stored.structures)


def _newest(held: Iterable[HeldOut]) -> tuple[HeldOut, ...]:
    """One check a network and method, sorted by network."""
    found: dict[tuple[str, str], HeldOut] = {}
    for one in sorted(held, key=lambda one: (one.network, one.method, one.measured_at, repr(one))):
        found[one.network, one.method] = one
    return tuple(found.values())


def _distinct(samples: Iterable[NetworkSample]) -> tuple[NetworkSample, ...]:
    """Equal samples once, by network and age."""
    found = {sample.key: sample for sample in samples}
    return tuple(found[key] for key in sorted(found))
