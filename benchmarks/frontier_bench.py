"""Where the methods of `frontier.py` meet: one dense network, one data set, one runtime that says what it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from cases import Case, First
from torch import Tensor, nn

import hwprune
from hwprune.clocks import watch_for
from hwprune.data.batches import Batch, Data
from hwprune.device import resolve
from hwprune.errors import EngineError
from hwprune.graph.network import Network
from hwprune.loop.trying import SURE
from hwprune.models.cifar_resnet import without_padding
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.evaluate import evaluate
from hwprune.recovery.finetune import finetune
from hwprune.recovery.recipe import Recipe
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_weights import with_weights
from hwprune.runtimes.select import RuntimeSpec, spec_for
from hwprune.validation.certify import Certificate, certify
from hwprune.validation.engine import measure_ratio

T = TypeVar("T")
Shapes: TypeAlias = tuple[torch.Size, ...]
HALVINGS = 10  # of the range of a method's knob, at most
KNOBS = 16  # steps through that range, where halving it finds nothing
CLOSE, NEAR = 0.985, 0.97  # of an aim as measured, and of the target as certified: near enough to stop there
TRIES = 4  # aims until one is certified near the target
BATCHES = 8  # of training data for one estimate of importance
TRAINER = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # latency is the processor's anyway
MULTIPLE = 4  # of widths, for every method that can round


@dataclass(frozen=True)
class Found:
    """What a method has made of a case.

    Attributes:
        network: smaller, with inherited weights.
        steps: batches that were run forward and backward to get there.
        how: what `frontier_rebuild` makes it from again.
        note: what had to be done differently.
    """

    network: nn.Module
    steps: int
    how: Mapping[str, Any]
    note: str = ""


@dataclass(eq=False)
class Bench:
    """A case on the runtime, ONNX Runtime on one thread.

    Attributes:
        case: what is pruned.
        table: file of the latency table that methods with a table share.
        seed: of the data that importance is estimated on, and of the fine-tuning.
        graphs: exported networks of other structures than the dense one's.
        folder: for exported networks.
    """

    case: Case
    table: Path
    seed: int
    graphs: list[bytes] = field(default_factory=list)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hwprune-frontier-")))

    @property
    def data(self) -> Data:
        """The case's, with one batch to validate on: what a run says of networks on its way, nothing here looks at."""
        return replace(self.case.data, validation=First(self.case.data.validation))

    @cached_property
    def inputs(self) -> Tensor:
        """One image."""
        return torch.randn(1, *self.case.data.input_shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def network(self) -> Network:
        """The analysis of the dense network."""
        return hwprune.analyze(self.case.model, (self.inputs,))

    @cached_property
    def spec(self) -> RuntimeSpec:
        """The runtime."""
        return spec_for(resolve("cpu"), "onnxruntime")

    @cached_property
    def dense_onnx(self) -> Path:
        """The dense network's file."""
        file = self.folder / "dense.onnx"
        file.write_bytes(export(self.case.model, (self.inputs,)))
        return file

    def rewritten(self) -> Bench:
        """The same, but zero-padded shortcuts are convolutions; its dense latency is that network's."""
        return Bench(replace(self.case, model=without_padding(self.case.model)), self.table, self.seed)

    def batches(self) -> list[Batch]:
        """Training data for one estimate of importance."""
        return list(islice(self.case.data.calibration.epoch(self.seed), BATCHES))

    def onnx(self, small: nn.Module) -> Path:
        """A cut network's file: narrower weights in a graph exported before, where one of them fits."""
        file = self.folder / "small.onnx"
        for base in (self.dense_onnx.read_bytes(), *self.graphs):
            try:
                file.write_bytes(with_weights(base, small))
                return file
            except EngineError:
                continue
        self.graphs.append(export(small, (self.inputs,)))
        file.write_bytes(self.graphs[-1])
        return file

    def ratio(self, small: nn.Module) -> float:
        """Measured latency over the dense network's, of one pair of engines."""
        runtime = self.spec.open()
        with (
            closing(runtime.build_onnx(self.dense_onnx)) as dense,
            closing(runtime.build_onnx(self.onnx(small))) as own,
        ):
            return measure_ratio(dense, own, watch=watch_for(runtime.cuda_index)).ratio

    def certified(self, small: nn.Module) -> Certificate:
        """The paired test with rebuilt engines."""
        return certify(self.dense_onnx, self.onnx(small), self.spec, batch=1)

    def trained(self, small: nn.Module, *, steps: int, lr: float) -> dict[str, float]:
        """Top-1 (a share) of a network with inherited weights before and after so many steps of the same fine-tuning,
        each with batch-norm statistics estimated anew; the network is changed, and on the CPU afterwards.
        """
        data, small = self.case.data, small.to(TRAINER)
        reestimate(small, data.calibration)
        untrained = evaluate(small, data.validation)
        recipe = Recipe(epochs=1000, max_steps=max(0, steps), lr=lr, seed=self.seed)
        finetune(small, self.data, recipe)
        tuned = evaluate(small, data.validation)
        small.cpu()
        return {"untrained": untrained.top1, "tuned": tuned.top1}

    def met(self, target: float, make: Callable[[float], nn.Module]) -> tuple[float, nn.Module]:
        """The knob whose network, ``make(knob)``, is certified within the target and is pruned least, as far as
        bisection finds it, and that network; the knob goes from 0, nothing pruned, to 1.

        Raises:
            EngineError: none is measured or certified within the target.
        """
        known = dict[Shapes, float]()

        def tried(knob: float) -> tuple[float, tuple[float, nn.Module]]:
            small = make(knob)
            return _once(known, small, self.ratio), (knob, small)

        def halved(aim: float, low: float = 0.0, high: float = 1.0) -> tuple[float, nn.Module] | None:
            best = None
            for _ in range(HALVINGS):
                knob = (low + high) / 2
                taken, found = tried(knob)
                if taken > aim:
                    low = knob
                    continue
                high, best = knob, found
                if taken >= CLOSE * aim:
                    break
            return best

        def stepped(aim: float) -> tuple[float, nn.Module] | None:
            # Where a layer would go whole Torch-Pruning leaves all of it, so that networks grow again at high knobs.
            for step in range(1, KNOBS):
                taken, found = tried(step / KNOBS)
                if taken <= aim:
                    return halved(aim, (step - 1) / KNOBS, step / KNOBS) or found
            return None

        def found_at(aim: float) -> tuple[float, nn.Module]:
            best = halved(aim) or stepped(aim)
            if best is None:
                raise EngineError(
                    f"no network was measured within {aim:.1%}", where=f"measured: {sorted(known.values())}"
                )
            return best

        return self.aimed(target, target, found_at)

    def aimed(self, target: float, aim: float, find: Callable[[float], tuple[T, nn.Module]]) -> tuple[T, nn.Module]:
        """What ``find(aim)`` tells of the network that is certified nearest to the target, within it, as hwprune takes
        its own candidates; each aim is mended by what the certificate before was off, until one is near.

        Raises:
            EngineError: none was certified within the target.
        """
        known, met = dict[Shapes, float](), list[tuple[float, tuple[T, nn.Module]]]()
        for _ in range(TRIES):
            found = find(aim)
            upper = _once(known, found[1], lambda small: self.certified(small).upper(SURE))
            if upper <= target:
                met.append((upper, found))
                if upper >= NEAR * target:
                    break
            aim *= target / upper * 0.995
        if not met:
            raise EngineError(f"no network was certified within {target:.0%}", where=f"the last was within {upper:.1%}")
        return max(met, key=lambda one: one[0])[1]


def _once(known: dict[Shapes, float], small: nn.Module, measure: Callable[[nn.Module], float]) -> float:
    """What ``measure`` says of the first network of these shapes: networks of the same have one latency."""
    shapes = tuple(one.shape for one in small.parameters())
    if shapes not in known:
        known[shapes] = measure(small)
    return known[shapes]
