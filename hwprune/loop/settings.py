"""What a pruning run was asked to do, as plain values that ``run.json`` can hold."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from hwprune.cost.normalisation import NORMALISATIONS, Normalisation
from hwprune.errors import HwpruneError, RunError
from hwprune.graph.choices import Choices
from hwprune.latency.choosing import METHODS, Method
from hwprune.recovery.recipe import Recipe
from hwprune.target import MemoryLimit

Search = Literal["greedy", "exact"]
SEARCHES: Final[tuple[Search, ...]] = get_args(Search)


@dataclass(frozen=True)
class Settings:
    """How to prune; the defaults are those of the command line.

    Attributes:
        target: see `Target.parse`: "60%", "1.5ms", "macs:2G".
        device: "cpu", "cuda", "rtx3090": what the network is pruned for.
        runtime: that runs it there; None takes the device's best.
        precision: of the runtime; None takes its default.
        threads: of a runtime on the CPU.
        batch: images at once in deployment.
        importance: what removing a channel hurts: "fisher", "taylor", "magnitude".
        normalisation: what importance is divided by.
        search: "greedy", or "exact": with a proof of how near to the best the widths are.
        method: how the latency table is measured: "isolated" (layer by layer), "in-context" (inside engines of whole
            networks); "" takes what is usual for the runtime.
        multiple: widths are multiples of this; 0 takes 4 on a CPU and 8 on a GPU.
        multiples: pattern of group names -> their multiple in its place; of several that match, the last.
        most_widths: of one group in the table.
        min_width: no group keeps fewer channels.
        exclude: patterns of module names whose channels stay.
        choices: how channels are coupled where there is a choice.
        milestones: steps down to the target, importance being refreshed at each; 0 chooses by the distance.
        importance_batches: of training data for one estimate of importance.
        calibration: random networks measured to calibrate the sum of layer latencies.
        tries: candidates at the last milestone until the measured latency meets the target.
        engines: further devices for which an engine of every candidate is built ("rtx3090").
        engine_timeout_s: after which a builder is stopped.
        recipe: of the fine-tuning.
        seed: of everything random.
        max_memory: a second bound, on the activation memory that the engine is measured to take: "12MiB", or "60%" of
            the dense network's engine; "" for none (see `MemoryLimit`).
    """

    target: str
    device: str = "cpu"
    runtime: str | None = None
    precision: str | None = None
    threads: int = 1
    batch: int = 1
    importance: str = "fisher"
    normalisation: Normalisation = "latency"
    search: Search = "greedy"
    method: Method | Literal[""] = ""
    multiple: int = 0
    multiples: Mapping[str, int] = field(default_factory=dict)
    most_widths: int = 16
    min_width: int = 1
    exclude: tuple[str, ...] = ()
    choices: Choices = Choices()  # noqa: RUF009  # frozen
    milestones: int = 0
    importance_batches: int = 8
    calibration: int = 12
    tries: int = 5
    engines: tuple[str, ...] = ()
    engine_timeout_s: float = 600.0
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    max_memory: str = ""

    def __post_init__(self) -> None:
        if self.max_memory:
            MemoryLimit.parse(self.max_memory)
        if self.normalisation not in NORMALISATIONS:
            raise HwpruneError(
                f"unknown normalisation {self.normalisation!r}", fix=f"choose one of {', '.join(NORMALISATIONS)}"
            )
        if self.search not in SEARCHES:
            raise HwpruneError(f"unknown search {self.search!r}", fix=f"choose one of {', '.join(SEARCHES)}")
        if self.search == "exact" and self.normalisation != "latency":
            raise HwpruneError(
                f"the exact search divides importance by nothing, so not by {self.normalisation} either",
                effect="it takes the least importance that the target can cost",
                fix="leave --normalisation out, or take --search greedy",
            )
        if self.method not in ("", *METHODS):
            raise HwpruneError(f"unknown method {self.method!r}", fix=f"choose one of {', '.join(METHODS)}")
        for name in ("threads", "batch", "most_widths", "min_width", "importance_batches", "tries"):
            if getattr(self, name) < 1:
                raise HwpruneError(f"{name} cannot be {getattr(self, name)}", fix="it is at least 1")
        for name in ("multiple", "milestones", "calibration"):
            if getattr(self, name) < 0:
                raise HwpruneError(f"{name} cannot be {getattr(self, name)}", fix="it is at least 0")
        for pattern, multiple in self.multiples.items():
            if multiple < 1:
                raise HwpruneError(f"the multiple of {pattern!r} cannot be {multiple}", fix="it is at least 1")
        if self.choices.free_inputs:
            raise HwpruneError(
                "channels of the network's inputs cannot go in a run",
                effect="the data keeps all of its channels, so the pruned network could not read it",
                fix="free them in hwprune.analyze, cut with hwprune.cut, and narrow the data yourself",
            )

    def multiple_of(self, group: str) -> int | None:
        """What `multiples` say about the group of this name; None where no pattern matches it."""
        found = [multiple for pattern, multiple in self.multiples.items() if fnmatch.fnmatchcase(group, pattern)]
        return found[-1] if found else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "multiples": dict(self.multiples)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of `as_json`. Raises `RunError` for anything else."""
        try:
            known = dict(values)
            known |= {name: tuple(known[name]) for name in ("exclude", "engines")}
            known["choices"] = Choices(**known.get("choices", {}))  # runs of 0.1.0 have none
            return cls(**{**known, "recipe": Recipe(**known["recipe"])})
        except (KeyError, TypeError) as error:
            raise RunError(
                f"the run's settings cannot be read: {error}", fix="use the version of hwprune that made the run"
            ) from error
