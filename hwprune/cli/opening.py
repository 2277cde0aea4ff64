"""From what the user typed to a model and data, and the same again when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hwprune.data.batches import Data
from hwprune.data.load import load_data
from hwprune.errors import RunError
from hwprune.models.resolve import describe_inputs, load_model


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run's model and data come from.

    Attributes:
        model: reference, see `load_model`.
        weights: safetensors file, "DEFAULT", or "" for the initial ones.
        data: specification, see `load_data`.
        batch_size, workers, seed: of the data.
        num_classes: of the network; 0 leaves the architecture's own.
        table: latency table, "" for the user's own.
    """

    model: str
    weights: str
    data: str
    batch_size: int = 128
    workers: int = 0
    seed: int = 0
    num_classes: int = 0
    table: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; paths are made absolute, so that a resume works from any folder."""
        values = asdict(self)
        for name in ("weights", "table"):
            if values[name] and values[name] != "DEFAULT":
                values[name] = str(Path(values[name]).expanduser().resolve())
        kind, colon, path = self.data.partition(":")
        if colon and kind in ("npz", "cifar10", "imagefolder"):
            values["data"] = f"{kind}:{Path(path).expanduser().resolve()}"
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Origin:
        """The inverse of `as_json`. Raises `RunError` for a run of the Python API, which has no command line."""
        try:
            return cls(**values)
        except TypeError as error:
            raise RunError(
                "this run was not started by the command line, so its model and data cannot be loaded by name",
                fix="go on with hwprune.pruning.go_on(...) in Python",
            ) from error

    def open_model(self) -> nn.Module:
        """The dense network in eval mode."""
        weights = None if not self.weights else Path(self.weights)
        return load_model(self.model, weights=weights, num_classes=self.num_classes or None)

    def open_data(self) -> Data:
        """The data in the shape that the network takes."""
        shape = describe_inputs(self.model)
        wanted = (shape[0], shape[1], shape[2]) if len(shape) == 3 else None
        return load_data(
            self.data, batch_size=self.batch_size, input_shape=wanted, seed=self.seed, workers=self.workers
        )
