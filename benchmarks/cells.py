"""Cells of a comparison: the figures of single runs, each in a file of its own, beside those that were recorded before.

Accuracy at one latency belongs to the processor that took the latency, so every run says which one that was, and only
runs of one processor are compared with each other.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recording import fingerprint, processor, record

Run = Mapping[str, Any]


def by_processor(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that may be compared with each other."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run["processor"], []).append(run)
    return found


@dataclass(frozen=True)
class Cells:
    """What is known of a comparison.

    Attributes:
        names: fields that name a run, besides its processor.
        folder: for runs that this machine has made.
        results: the recorded document, whose runs may be of other machines.
        facts: what holds for all runs, which the document tells too.
    """

    names: Sequence[str]
    folder: Path
    results: Path
    facts: Mapping[str, Any]

    @cached_property
    def here(self) -> str:
        """This processor."""
        return processor()

    def missing(self, **named: Any) -> bool:
        """Whether this processor has no figures of that run; says that it begins where it has none."""
        if self.here_of(**named) is not None:
            return False
        print(", ".join(str(value) for value in named.values()), file=sys.stderr, flush=True)
        return True

    def keep(self, run: Run) -> None:
        """Write down what a run has come to; it is this processor's unless it says otherwise."""
        run = {"processor": self.here, **run}
        record(self.file(run, ".json"), run)

    def file(self, run: Run, suffix: str) -> Path:
        """A file of a run, in the folder."""
        processor = run.get("processor", self.here)
        values = [run[name] for name in self.names] + [processor] * (processor != self.here)
        slug = re.sub(r"[^a-z0-9]+", "-", "-".join(str(value).lower() for value in values))
        return self.folder / (slug.strip("-") + suffix)

    def here_of(self, **named: Any) -> Run | None:
        """This processor's figures of that run, None where it has none."""
        wanted = {**named, "processor": self.here}
        return next((run for run in self.all() if all(run[name] == value for name, value in wanted.items())), None)

    def adopt(self, results: Path, *fields: str) -> None:
        """Record these fields of the runs of another comparison that have them all, where a run is missing here."""
        other, runs = json.loads(results.read_text(encoding="utf-8")), self.all()
        known = [self._key(run) for run in runs]
        for run in other["runs"]:
            if all(name in run for name in fields) and self._key(run) not in known:
                runs.append({name: run[name] for name in (*self.names, "processor", *fields)})
        prints = {**other["fingerprints"], **self._recorded().get("fingerprints", {})}
        record(self.results, {"fingerprints": prints, **self.facts, "runs": runs})

    def _key(self, run: Run) -> tuple[Any, ...]:
        return tuple(run[name] for name in (*self.names, "processor"))

    def write(self) -> list[Run]:
        """Record all runs, with the fingerprint of every machine that they are of; returns them."""
        runs = self.all()
        prints = self._recorded().get("fingerprints", {})
        if any(run["processor"] == self.here for run in runs):
            prints = {**prints, self.here: fingerprint()}
        record(self.results, {"fingerprints": prints, **self.facts, "runs": runs})
        return runs

    def _recorded(self) -> dict[str, Any]:
        if not self.results.exists():
            return {}
        found: dict[str, Any] = json.loads(self.results.read_text(encoding="utf-8"))
        others = {name: found.get(name) for name, fact in self.facts.items() if found.get(name) != fact}
        if others:
            raise SystemExit(f"{self.results} has runs with {others}: give other folders as --out and --runs")
        return found

    def all(self) -> list[Run]:
        """All runs; what lies in the folder goes before what was recorded."""
        recorded = self._recorded().get("runs", [])
        made = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.folder.glob("*.json"))]
        return list({self._key(run): run for run in (*recorded, *made)}.values())
