"""The network that a run is about: its analysis, its runtime, and how cut copies of it become engines."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.cost.work import Work, parameter_names, work
from hwprune.device import resolve
from hwprune.errors import EngineError, HwpruneError, TargetError, listed
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.graph.network import ChannelGroup, Network
from hwprune.graph.surgery import cut
from hwprune.latency.wanted import default_choices
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.models.weights import check_finite
from hwprune.plan import Plan
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_weights import with_weights
from hwprune.runtimes.select import RuntimeSpec, slug_of, spec_for, with_files


def check_multiples(multiples: Mapping[str, int], network: Network) -> None:
    """Raise `HwpruneError` for a pattern that matches no group whose channels may go."""
    for pattern in multiples:
        if not fnmatch.filter(network.widths, pattern):
            stays = fnmatch.filter([group.name for group in network.groups], pattern)
            near = get_close_matches(pattern, network.widths, n=3)
            raise HwpruneError(
                f"the pattern {pattern!r} of a width multiple matches no channel group that may go",
                where=f"what it matches stays: {listed(stays, most=3)}" if stays else "",
                fix=f"did you mean {listed(near)}?" if near else "`hwprune inspect` lists the groups of a network",
            )


@dataclass(eq=False)
class Subject:
    """A dense network and the device that it is pruned for. The model given is never changed.

    Attributes:
        model: the dense network.
        input_shape: of one input, without the batch.
        settings: what was asked.
        folder: where the exported network is kept.
        reporter: hears of progress.
        reference: how to load the model again.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    settings: Settings
    folder: Path
    reporter: Reporter
    reference: str = ""

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs of the deployment's batch size."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        return (torch.randn(self.settings.batch, *self.input_shape, generator=generator),)

    @cached_property
    def network(self) -> Network:
        """The analysis of the dense network."""
        check_finite(self.model.state_dict(), where=self.reference or type(self.model).__name__)
        settings = self.settings
        found = analyze(
            self.model,
            self.inputs,
            exclude=settings.exclude,
            choices=settings.choices,
            model_reference=self.reference,
        )
        if not found.free:
            raise TargetError(
                "no channel of this network may go",
                where=f"{len(found.groups)} pinned groups",
                fix="`hwprune inspect` says why each of them stays",
            )
        return found

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of what counts as parameters."""
        return parameter_names(self.model)

    def work(self, widths: Mapping[str, int] | None = None) -> Work:
        """Counted cost at ``widths``."""
        return work(self.network, self.parameters, widths)

    @cached_property
    def spec(self) -> RuntimeSpec:
        """The runtime that the network is pruned for."""
        settings = self.settings
        spec = spec_for(
            resolve(settings.device), settings.runtime, precision=settings.precision, threads=settings.threads
        )
        return with_files(spec, self.folder)

    @property
    def slug(self) -> str:
        """The deployment as a name for files."""
        threads = "" if self.settings.threads == 1 else f"-{self.settings.threads}threads"
        return slug_of(self.spec, self.settings.batch) + threads

    @cached_property
    def runtime(self) -> Runtime:
        """The same, opened in this process."""
        return self.spec.open()

    @cached_property
    def validators(self) -> tuple[RuntimeSpec, ...]:
        """Runtimes that only build an engine of every candidate."""
        return tuple(spec_for(resolve(name), None) for name in self.settings.engines)

    @cached_property
    def choices(self) -> dict[str, tuple[int, ...]]:
        """Widths that each group may keep."""
        usual = self.settings.multiple or self.settings.usual_multiple
        check_multiples(self.settings.multiples, self.network)
        return {g.name: self._choices(g, self.settings.multiple_of(g.name) or usual) for g in self.network.free}

    @cached_property
    def producers(self) -> dict[str, int]:
        """How many layers make the channels of each group: convolutions and linear layers, not norms and biases."""
        kernels = {name for name, values in self.model.state_dict().items() if values.dim() > 1}
        made = {g.name: {slot.parameter for slot in g.slots if not slot.contracted} for g in self.network.free}
        return {name: max(1, len(kernels & parameters)) for name, parameters in made.items()}

    def _choices(self, group: ChannelGroup, multiple: int) -> tuple[int, ...]:
        # A coupled channel may be several channels (a whole conv group): the multiple counts channels.
        each = next((slot.indices.shape[1] for slot in group.slots if not slot.contracted), 1)
        found = default_choices(group.width, multiple=max(1, multiple // each), most=self.settings.most_widths)
        return tuple(width for width in found if width >= self.settings.min_width or width == group.width)

    # Cutting and exporting

    @property
    def dense_onnx(self) -> Path:
        """The dense network's exported file."""
        return self.folder / "dense.onnx"

    @cached_property
    def exported(self) -> bytes:
        """The dense network as ONNX; exported once."""
        if not self.dense_onnx.exists():
            write_atomically(self.dense_onnx, export(self.model, self.inputs))
        return self.dense_onnx.read_bytes()

    def small(self, plan: Plan) -> nn.Module:
        """A copy of the dense network cut to ``plan``."""
        return cut(self.model, plan, self.network)

    def onnx(self, small: nn.Module, *, rewritten: bool = False) -> bytes:
        """A cut network as ONNX: the dense export with narrower weights where its graph allows, else a new export.

        ``rewritten`` says that layers of it were put in the place of others: the dense network's graph is not its own.
        """
        if rewritten:
            return export(small, self.inputs)
        try:
            return with_weights(self.exported, small)
        except EngineError:
            return export(small, self.inputs)

    def engine(self, small: nn.Module) -> Engine:
        """An engine of a cut network in this process."""
        if self.runtime.reads_onnx:
            return self.runtime.build_onnx(self.onnx(small))
        return self.runtime.build(small, self.inputs)

    def first_channels(self, widths: Mapping[str, int]) -> Plan:
        """A plan of these widths that keeps the first channels: for timing, which ones stay makes no difference."""
        return Plan.keeping(self.network, {name: list(range(width)) for name, width in widths.items()})

    def random_widths(self, count: int, *, seed: int) -> list[dict[str, int]]:
        """Random settings of all groups, from the choices; no group's width depends on another's."""
        rng = np.random.default_rng(seed)
        return [{name: int(rng.choice(widths)) for name, widths in self.choices.items()} for _ in range(count)]

    @property
    def trainer(self) -> torch.device:
        """Where importance is estimated and the network is fine-tuned: a GPU where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
