"""What all steps of a run share: the subject, the data, the run directory, the latency table."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor, nn

from hwprune.data.batches import Data
from hwprune.graph.surgery import cut
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.plan import Plan
from hwprune.run import Run
from hwprune.runtimes.calibration import save_calibration

QUANTISED_WITH = 64  # training inputs for the scales of a quantised engine


@dataclass(frozen=True, eq=False)
class Job:
    """One run of the loop.

    Attributes:
        subject: the network and its device.
        data: for importance, batch norm, fine-tuning and accuracy.
        run: where results are kept.
        table: file of the latency table.
        name: of a further deployment; "" for the run's own.
        further: the jobs of the further deployments, each with a subject and a table of its own.
    """

    subject: Subject
    data: Data
    run: Run
    table: Path
    name: str = ""
    further: tuple[Job, ...] = ()

    @property
    def all(self) -> tuple[Job, ...]:
        """One for each deployment, the run's own first."""
        return (self, *self.further)

    @property
    def settings(self) -> Settings:
        """What was asked."""
        return self.subject.settings

    @property
    def reporter(self) -> Reporter:
        """Hears of progress."""
        return self.subject.reporter

    def importance_batches(self, milestone: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training data for one estimate of importance, other data at every milestone; the reporter hears of each."""
        total = min(self.settings.importance_batches, len(self.data.calibration))
        for done, batch in enumerate(islice(self.data.calibration.epoch(milestone), total)):
            self.reporter.advance(done, total)
            yield batch
        self.reporter.advance(total, total)

    def calibration_batches(self, epoch: int, images: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training data as validation would see it, until there are so many images; the last batch is whole."""
        seen = 0
        for inputs, labels in self.data.calibration.epoch(epoch):
            yield inputs, labels
            seen += len(inputs)
            if seen >= images:
                return

    def source(self, weights: Path | None) -> nn.Module:
        """The dense network; or a copy of it with the weights of that file, which were trained on the way down."""
        if weights is None:
            return self.subject.model
        found = copy.deepcopy(self.subject.model)
        found.load_state_dict(load_file(weights))
        return found

    def trainee(self, weights: Path | None) -> nn.Module:
        """A copy of `source` on the device that trains."""
        found = self.source(weights)
        return (copy.deepcopy(found) if weights is None else found).to(self.subject.trainer)

    def small(self, plan: Plan, weights: Path | None) -> nn.Module:
        """A cut copy of `source`."""
        return cut(self.source(weights), plan, self.subject.network)

    @property
    def onnx_name(self) -> str:
        """Of a network exported for this deployment's batch size."""
        batch = self.settings.batch
        return "model.onnx" if batch == self.run.settings["batch"] else f"model-batch-{batch}.onnx"

    def stage(self, stage: str) -> str:
        """What a stage of this deployment is called in the run."""
        return f"{stage} {self.name}".strip()

    def keep_calibration(self) -> None:
        """Write the inputs that quantised engines find their scales with, once for a run; nothing in other precisions.

        The same for the dense network and all candidates, so that their engines differ by the cut alone.
        """
        path = self.subject.spec.calibration
        if not path or Path(path).exists():
            return
        found = [inputs.numpy() for inputs, _ in self.calibration_batches(0, QUANTISED_WITH)]
        save_calibration(Path(path), [np.concatenate(found)[:QUANTISED_WITH]])
