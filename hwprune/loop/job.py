"""What all steps of a run share: the subject, the data, the run directory, the latency table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from torch import Tensor

from hwprune.data.batches import Data
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.run import Run


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
