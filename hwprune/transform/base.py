"""What every transform of layers offers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A layer to be written otherwise.

    Attributes:
        module: its path.
        options: plain values that say how, for the transform that proposed it.
    """

    module: str
    options: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"module": self.module, "options": dict(self.options)}


class Transform(Protocol):
    """A way to write a layer as others that compute nearly the same."""

    @property
    def name(self) -> str: ...

    def proposals(self, layer: nn.Module) -> Sequence[Mapping[str, int]]:
        """Options of `rewritten` for this layer, the most faithful first; none where it cannot be written so."""

    def rewritten(self, layer: nn.Module, options: Mapping[str, int]) -> nn.Module:
        """What takes the layer's place, with weights from it; the layer itself stays as it is."""


def applied(model: nn.Module, transform: Transform, rewritings: Sequence[Rewriting]) -> nn.Module:
    """A copy of the network with these layers rewritten."""
    found = copy.deepcopy(model)
    for one in rewritings:
        parent, _, name = one.module.rpartition(".")
        layer = found.get_submodule(one.module)
        setattr(found.get_submodule(parent), name, transform.rewritten(layer, one.options).train(layer.training))
    return found
