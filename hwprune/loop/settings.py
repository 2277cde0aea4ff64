"""What a pruning run was asked to do, as plain values that ``run.json`` can hold."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

from hwprune import methods
from hwprune.cost.normalisation import NORMALISATIONS, Normalisation
from hwprune.device import resolve
from hwprune.errors import HwpruneError, RunError, TargetError
from hwprune.graph.choices import Choices
from hwprune.importance.criterion import COSTS, Costed
from hwprune.latency.choosing import METHODS, Method
from hwprune.loop.asked import check_search, check_way
from hwprune.loop.deployment import Further
from hwprune.loop.group_fisher import GroupFisher
from hwprune.recovery.recipe import Recipe
from hwprune.regularization.base import When
from hwprune.search.objective import Objective
from hwprune.target import MemoryLimit, Target

Way = Literal["milestones", "group-fisher"]
Search = Literal["greedy", "exact"]
Spacing = Literal["proportion", "amount", "orthoreg"]
NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "normalisation": NORMALISATIONS,
    "search": get_args(Search),
    "objective": get_args(Objective),
    "spacing": get_args(Spacing),
    "way": get_args(Way),
}
USUAL_IMPORTANCE: Final = "obs"  # ahead of Fisher where both were measured (`benchmarks/frontier.py`)


@dataclass(frozen=True)
class Settings:
    """How to prune; the defaults are those of the command line.

    Attributes:
        target: see `Target.parse`: "60%", "1.5ms", "macs:2G"; several make a curve: "75%,60%".
        device: "cpu", "cuda", "rtx3090": what the network is pruned for.
        runtime: that runs it there; None takes the device's best.
        precision: of the runtime; None takes its default.
        threads: of a runtime on the CPU.
        batch: images at once in deployment.
        importance: what removing a channel hurts: "obs", "fisher" and others, with options ("hessian,probes=4"), or
            package.module:factory for one's own; "" takes "obs" (see `hwprune.catalogue`).
        compensate: whether the layers that read removed channels take over what those told, by least squares.
        normalisation: what importance is divided by.
        search: "greedy", or "exact": with a proof of how near to the best the widths are.
        objective: what is to be least: the "loss" that importance estimates, the same over what each group keeps
            ("odds"), or the "shares" that layers lose of theirs (see `hwprune.search.objective`).
        allocation: a way of the field to choose widths, in the place of a search for the least importance lost:
            "adapruner-style", "epruner" and others (see `hwprune.catalogue`); "" for the search.
        inheritance: a rule by which channels are chosen anew in the dense network once the widths are known:
            "adaptive", "exemplar"; "" keeps those of the search, and what was trained on the way.
        method: how the latency table is measured: "isolated" (layer by layer), "in-context" (inside engines of whole
            networks); "" takes what is usual for the runtime.
        multiple: widths are multiples of this; 0 takes 4 on a CPU and 8 on a GPU. multiples: pattern of group names ->
        their multiple in its place; of several that match, the last. most_widths: of one group in the table. min_width:
        no group keeps fewer channels. exclude: patterns of module names whose channels stay. choices: how channels are
        coupled where there is a choice. transform: how layers of the pruned network are written otherwise, where the
        device is measured to be faster then:
            "filter-group-approximation"; "" leaves them.
        milestones: steps down to the target (to each of several), importance being refreshed at each; 0 chooses by
            the distance.
        spacing: of the milestones: each keeps the same share of what is left ("proportion"), takes the same amount
            ("amount"), or takes most at first ("orthoreg").
        milestone_steps: of training after each milestone on the way, before importance is estimated again.
        damping_steps: of training in which what goes fades at the end, instead of being cut at once.
        regularizer: what weights are drawn to in a training of its own, before the search or once the widths are
            known, by itself: "orthoreg", "greg1" and others (see `hwprune.catalogue`); "" for none.
        regularizer_steps: of that training; 0 takes one pass over the training images.
        importance_batches: of training data for one estimate of importance.
        calibration: random networks measured to calibrate the sum of layer latencies.
        tries: candidates at the last milestone until the measured latency meets the target.
        proposals: networks at the target that are each trained for proposal_steps; the best one goes on.
        engines: further devices for which an engine of every candidate is built ("rtx3090").
        engine_timeout_s: after which a builder is stopped.
        recipe: of the fine-tuning.
        seed: of everything random.
        max_memory: a second bound, on the activation memory that the engine is measured to take: "12MiB", or "60%" of
            the dense network's engine; "" for none (see `MemoryLimit`).
        further: deployments whose latency targets the network must meet as well.
        way: down to the target: "milestones" where a search finds the widths, or "group-fisher", channel by channel
            while the weights train, as its paper does it.
        group_fisher: of that way.
    """

    target: str
    device: str = "cpu"
    runtime: str | None = None
    precision: str | None = None
    threads: int = 1
    batch: int = 1
    importance: str = ""
    compensate: bool = True
    normalisation: Normalisation = "latency"
    search: Search = "greedy"
    objective: Objective = "loss"
    allocation: str = ""
    inheritance: str = ""
    transform: str = ""
    method: Method | Literal[""] = ""
    multiple: int = 0
    multiples: Mapping[str, int] = field(default_factory=dict)
    most_widths: int = 16
    min_width: int = 1
    exclude: tuple[str, ...] = ()
    choices: Choices = Choices()  # noqa: RUF009  # frozen
    milestones: int = 0
    spacing: Spacing = "proportion"
    milestone_steps: int = 0
    damping_steps: int = 0
    regularizer: str = ""
    regularizer_steps: int = 0
    importance_batches: int = 8
    calibration: int = 12
    tries: int = 6
    proposals: int = 1
    proposal_steps: int = 100
    engines: tuple[str, ...] = ()
    engine_timeout_s: float = 600.0
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    max_memory: str = ""
    further: tuple[Further, ...] = ()
    way: Way = "milestones"
    group_fisher: GroupFisher = GroupFisher()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        if self.max_memory:
            MemoryLimit.parse(self.max_memory)
        for name, known in NAMED.items():
            if getattr(self, name) not in known:
                raise HwpruneError(f"unknown {name} {getattr(self, name)!r}", fix=f"choose one of {', '.join(known)}")
        if self.search == "exact" and self.normalisation != "latency":
            raise HwpruneError(
                f"the exact search divides importance by nothing, so not by {self.normalisation} either",
                effect="it takes the least importance that the target can cost",
                fix="leave --normalisation out, or take --search greedy",
            )
        if self.method not in ("", *METHODS):
            raise HwpruneError(f"unknown method {self.method!r}", fix=f"choose one of {', '.join(METHODS)}")
        for name in (
            "threads",
            "batch",
            "most_widths",
            "min_width",
            "importance_batches",
            "tries",
            "proposals",
            "proposal_steps",
        ):
            if getattr(self, name) < 1:
                raise HwpruneError(f"{name} cannot be {getattr(self, name)}", fix="it is at least 1")
        for name in ("multiple", "milestones", "milestone_steps", "damping_steps", "regularizer_steps", "calibration"):
            if getattr(self, name) < 0:
                raise HwpruneError(f"{name} cannot be {getattr(self, name)}", fix="it is at least 0")
        for pattern, multiple in self.multiples.items():
            if multiple < 1:
                raise HwpruneError(f"the multiple of {pattern!r} cannot be {multiple}", fix="it is at least 1")
        check_search(self)
        if self.inheritance and self.milestone_steps:
            raise HwpruneError(
                f"the inheritance {self.inheritance!r} begins with the dense network's weights",
                effect="what was trained at the milestones would be lost",
                fix="leave --milestone-steps out",
            )
        if self.damping_steps and self._regularizes("after"):
            raise HwpruneError(
                f"the regulariser {self.regularizer!r} lets what goes fade by itself", fix="leave --damping-steps out"
            )
        self._check_further()
        check_way(self)
        if self.choices.free_inputs:
            raise HwpruneError(
                "channels of the network's inputs cannot go in a run",
                effect="the data keeps all of its channels, so the pruned network could not read it",
                fix="free them in hwprune.analyze, cut with hwprune.cut, and narrow the data yourself",
            )

    def _check_further(self) -> None:
        if not self.further or not self.target:  # `prune` knows the target better
            return
        targets = Target.parse_all(self.target)
        for one in self.further:
            if not one.target and (targets[0].quantity != "latency" or not targets[0].relative):
                raise TargetError(
                    f"{one.device} has no target of its own, and {targets[0]} is no share that it could take",
                    fix=f"give it one, --device {one.device},target=70%, or a share such as 60% as --target",
                )
            if one.target and len(targets) > 1:
                raise TargetError(
                    f"{one.device} has one target and the run has {len(targets)}",
                    fix="leave its target out, so that it takes the shares of the run",
                )
        own = Further(self.device, self.runtime, self.precision, self.threads, self.batch)
        places = [replace(one, target="", table="") for one in self.further]
        if len({own, *places}) < 1 + len(places):
            raise HwpruneError(
                "a device is named twice with the same runtime, precision, threads and batch",
                fix="name each once, with the tighter of its targets",
            )

    @property
    def criterion(self) -> str:
        """Name of the importance."""
        return self.importance or USUAL_IMPORTANCE

    @property
    def usual_milestones(self) -> int:
        """Steps down to the target; an allocation of the field does it in one, unless told otherwise."""
        return self.milestones or (1 if self.allocation else 0)

    @property
    def fades(self) -> bool:
        """Whether what the search takes is still there after it, and is trained away."""
        return bool(self.damping_steps) or self._regularizes("after")

    def _regularizes(self, when: When) -> bool:
        return bool(self.regularizer) and methods.make("regularizer", self.regularizer).when == when

    @property
    def counted(self) -> tuple[str, ...]:
        """Costs that the importance counts itself, as names of `Saved`."""
        criterion = methods.make("importance", self.criterion)
        if not isinstance(criterion, Costed):
            return ()
        for cost in criterion.costs:
            if cost not in COSTS:
                raise HwpruneError(
                    f"importance {criterion.name!r} counts the cost {cost!r}", fix=f"known are {', '.join(COSTS)}"
                )
        return criterion.costs

    def multiple_of(self, group: str) -> int | None:
        """What `multiples` say about the group of this name; None where no pattern matches it."""
        found = [multiple for pattern, multiple in self.multiples.items() if fnmatch.fnmatchcase(group, pattern)]
        return found[-1] if found else None

    def of_further(self, further: Further) -> Settings:
        """The settings of a run for that deployment; widths stay those of this one."""
        return replace(
            self,
            target=further.target or self.target,
            device=further.device,
            runtime=further.runtime,
            precision=further.precision,
            threads=further.threads,
            batch=further.batch,
            multiple=self.multiple or self.usual_multiple,
            max_memory="",
            further=(),
        )

    @property
    def usual_multiple(self) -> int:
        """Of widths where none is asked for: 8 as soon as one of the devices is a GPU, else 4."""
        devices = (self.device, *(one.device for one in self.further))
        return 8 if any(resolve(device).kind == "cuda" for device in devices) else 4

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "multiples": dict(self.multiples)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of `as_json`. Raises `RunError` for anything else."""
        try:
            known = dict(values)
            known |= {name: tuple(known[name]) for name in ("exclude", "engines")}
            known["further"] = tuple(Further(**dict(one)) for one in known.get("further", ()))
            if "group_fisher" in known:
                known["group_fisher"] = GroupFisher(**known["group_fisher"])
            known["choices"] = Choices(**known.get("choices", {}))  # runs of 0.1.0 have none
            return cls(**{**known, "recipe": Recipe(**known["recipe"])})
        except (KeyError, TypeError) as error:
            raise RunError(
                f"the run's settings cannot be read: {error}", fix="use the version of hwprune that made the run"
            ) from error
