"""What all steps of a run share: the subject, the data, the run directory, the latency table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from hwprune.data.batches import Data
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
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
    """

    subject: Subject
    data: Data
    run: Run
    table: Path

    @property
    def settings(self) -> Settings:
        """What was asked."""
        return self.subject.settings

    @property
    def reporter(self) -> Reporter:
        """Hears of progress."""
        return self.subject.reporter

    def importance_batches(self, milestone: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training data for one estimate of importance, other data at every milestone."""
        return islice(self.data.calibration.epoch(milestone), self.settings.importance_batches)

    def keep_calibration(self) -> None:
        """Write the inputs that quantised engines find their scales with, once for a run; nothing in other precisions.

        The same for the dense network and all candidates, so that their engines differ by the cut alone.
        """
        path = self.subject.spec.calibration
        if not path or Path(path).exists():
            return
        found: list[np.ndarray] = []
        for inputs, _ in self.data.calibration.epoch(0):
            found.append(inputs.numpy())
            if sum(map(len, found)) >= QUANTISED_WITH:
                break
        save_calibration(Path(path), [np.concatenate(found)[:QUANTISED_WITH]])
