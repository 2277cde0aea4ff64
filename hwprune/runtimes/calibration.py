"""Inputs that quantisation finds its scales with: the user's own, or random ones, and a word on which they were.

Latency does not depend on the scales and accuracy does: random inputs do for profiling, and what is deployed wants the
user's. They travel in a file, because engines are built in child processes.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwprune.errors import DataError
from hwprune.files import write_atomically

RANDOM_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where inputs come from.

    Attributes:
        path: of a file by `save_calibration`; None, or a file that is not there, means random inputs.
    """

    path: Path | None = None

    @property
    def random(self) -> bool:
        """Whether there are no inputs of the user's."""
        return self.path is None or not self.path.exists()

    def describe(self) -> str:
        """For the fingerprint: random, or the user's inputs by their hash."""
        if self.path is None or self.random:
            return f"{RANDOM_BATCHES} random batches, seed 0"
        return f"{len(self._arrays()[0])} inputs, sha256 {hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]}"

    def batches(self, inputs: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> Iterator[dict[str, np.ndarray]]:
        """Batches by input name, each of the shape and type that the network's input of that name has.

        Raises:
            DataError: the file is damaged, or what it holds does not fit these inputs.
        """
        if self.random:
            rng = np.random.default_rng(0)
            for _ in range(RANDOM_BATCHES):
                yield {name: rng.standard_normal(shape).astype(dtype) for name, (shape, dtype) in inputs.items()}
            return
        arrays = self._arrays()
        wanted = [shape for shape, _ in inputs.values()]
        if [a.shape[1:] for a in arrays] != [shape[1:] for shape in wanted]:
            raise DataError(
                "the calibration inputs do not fit the network",
                where=f"{self.path} holds {[a.shape[1:] for a in arrays]}, the network takes {[s[1:] for s in wanted]}",
                fix="calibrate with inputs of the shapes that the network is deployed for",
            )
        batch, count = wanted[0][0], len(arrays[0])
        for start in range(0, count, batch):
            rows = np.arange(start, start + batch) % count  # the last batch is filled up from the first
            yield {name: a[rows].astype(kind) for (name, (_, kind)), a in zip(inputs.items(), arrays, strict=True)}

    def _arrays(self) -> list[np.ndarray]:
        try:
            # From memory: numpy leaves a damaged file open.
            with np.load(io.BytesIO(Path(str(self.path)).read_bytes()), allow_pickle=False) as stored:
                arrays = [stored[name] for name in sorted(stored.files)]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError("the calibration inputs cannot be read", where=f"{self.path}: {error}") from error
        if not arrays or any(a.ndim == 0 or len(a) == 0 or len(a) != len(arrays[0]) for a in arrays):
            raise DataError("the calibration file holds no inputs", where=self.path)
        return arrays


def save_calibration(path: Path, inputs: Sequence[np.ndarray]) -> None:
    """Keep calibration inputs, one array (count, ...) for each of the network's inputs in order."""
    stream = io.BytesIO()
    named: dict[str, Any] = {f"{position:03}": array for position, array in enumerate(inputs)}
    np.savez(stream, **named)
    write_atomically(path, stream.getvalue())
