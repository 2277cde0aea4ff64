"""Layers of the pruned network written otherwise, where the device is measured to take less time for it."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from hwprune import methods
from hwprune.clocks import watch_for
from hwprune.cost.work import Work, parameter_names, work
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.graph.trace import running
from hwprune.loop.job import Job
from hwprune.modes import hooked
from hwprune.plan import Plan
from hwprune.transform.base import Rewriting, Transform, applied
from hwprune.validation.engine import measure_ratio

FILE: Final = "transform.json"  # in a run's folder
WORTH: Final = 0.9  # of a layer's time: what saves less is lost in the noise, and costs accuracy all the same


@dataclass(frozen=True, eq=False)
class Written:
    """What a run rewrites.

    Attributes:
        text: names the transform, as in the settings.
        rewritings: of the layers; none where nothing was faster.
    """

    text: str
    rewritings: tuple[Rewriting, ...]

    def of(self, model: nn.Module) -> nn.Module:
        """The network with those layers rewritten; itself where there are none."""
        return applied(model, methods.make("transform", self.text), self.rewritings) if self.rewritings else model

    def save(self, folder: Path) -> None:
        """Beside the run's plan, for `hwprune.load`."""
        found = {"transform": self.text, "rewritings": [one.as_dict() for one in self.rewritings]}
        write_atomically(folder / FILE, (json.dumps(found, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Written:
        """What the run in that folder rewrote; nothing where it has no such file."""
        file = folder / FILE
        if not file.exists():
            return cls("", ())
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(found["transform"], tuple(Rewriting(**one) for one in found["rewritings"]))


def written_otherwise(job: Job, small: nn.Module) -> Written:
    """Which layers of the cut network the run's transform rewrites.

    Every layer's proposals are timed beside it, alone, the most faithful first, and the first one that takes at most
    `WORTH` of its time is taken. Then the whole network is timed beside the rewritten one, and where it is not faster,
    with half of the layers, those that save most; and so on.
    """
    if not job.settings.transform:
        return Written("", ())
    job.run.once("transformed", lambda: _search(job, small))
    return Written.load(job.run.path)


def is_rewritten(job: Job) -> bool:
    """Whether layers of the network that the run delivers are written otherwise than in the dense one."""
    return bool(Written.load(job.run.path).rewritings)


def work_of(job: Job, small: nn.Module, plan: Plan) -> Work:
    """Counted work of the network that a run delivers: by its plan, or by itself where layers were rewritten."""
    if not is_rewritten(job):
        return job.subject.work(plan.kept_widths)
    network = analyze(copy.deepcopy(small).cpu(), job.subject.inputs)
    return work(network, parameter_names(small))


def _search(job: Job, small: nn.Module) -> int:
    """Look, write down what was found, and return how many layers are rewritten."""
    transform: Transform = methods.make("transform", job.settings.transform)
    job.reporter.stage(f"transform ({transform.name})")
    timed = _Timed(job, transform, copy.deepcopy(small).cpu().eval())
    found = timed.faster_layers()
    while found and timed.ratio(found) >= 1:
        found = found[: len(found) // 2]
    Written(job.settings.transform, tuple(found)).save(job.run.path)
    job.run.log(f"{transform.name}: {len(found)} layers rewritten")
    return len(found)


@dataclass(eq=False)
class _Timed:
    """The cut network and its layers beside what they may become."""

    job: Job
    transform: Transform
    small: nn.Module

    def faster_layers(self) -> list[Rewriting]:
        """For each layer the most faithful proposal that is worth it; first those that save most time."""
        known: dict[str, tuple[Mapping[str, int], float] | None] = {}
        saved: list[tuple[float, Rewriting]] = []
        inputs = self._inputs()
        for number, (name, (layer, x)) in enumerate(inputs.items(), start=1):
            self.job.reporter.advance(number, len(inputs))
            key = f"{layer}, {tuple(x.shape)}"  # layers of one kind take the same time
            if key not in known:
                known[key] = self._worth(layer, x)
            if (found := known[key]) is not None:
                saved.append((found[1], Rewriting(name, found[0])))
        return [one for _, one in sorted(saved, key=lambda pair: -pair[0])]

    def ratio(self, rewritings: Sequence[Rewriting]) -> float:
        """Time of the rewritten network over that of the network as it is."""
        return self._ratio(self.small, applied(self.small, self.transform, rewritings), self.job.subject.inputs)[0]

    def _worth(self, layer: nn.Module, x: Tensor) -> tuple[Mapping[str, int], float] | None:
        """Options, and ms that they save."""
        for options in self.transform.proposals(layer):
            ratio, layer_ms = self._ratio(layer, self.transform.rewritten(layer, options).eval(), (x,))
            if ratio <= WORTH:
                return options, (1 - ratio) * layer_ms
        return None

    def _ratio(self, before: nn.Module, after: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[float, float]:
        runtime = self.job.subject.runtime
        with ExitStack() as stack:
            first, second = (stack.enter_context(closing(runtime.build(one, inputs))) for one in (before, after))
            found = measure_ratio(first, second, watch=watch_for(runtime.cuda_index))
        return found.ratio, found.dense_ms

    def _inputs(self) -> dict[str, tuple[nn.Module, Tensor]]:
        """Every layer that has proposals, with the input that it gets, by its path."""
        names = Counter(id(layer) for _, layer in self.small.named_modules(remove_duplicate=False))
        wanted = {
            name: layer
            for name, layer in self.small.named_modules()
            if names[id(layer)] == 1 and self.transform.proposals(layer)  # one of two names alone cannot be rewritten
        }
        found: dict[str, tuple[nn.Module, Tensor]] = {}
        with torch.no_grad(), running(self.small, None), _hearing(wanted, found):
            self.small(*self.job.subject.inputs)
        return found


@contextmanager
def _hearing(wanted: Mapping[str, nn.Module], found: dict[str, tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Note the first input of each of these layers meanwhile."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def heard(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.setdefault(name, (module, inputs[0].detach().clone()))

        return heard

    with hooked(layer.register_forward_pre_hook(hook(name)) for name, layer in wanted.items()):
        yield
