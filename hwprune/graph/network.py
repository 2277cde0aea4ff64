"""What the analysis of a network finds: its channel groups, layers, and how their sizes depend on the widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwprune.graph.labels import Labels
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.graph.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Where the coupled channels of a group lie in one dimension of one parameter or buffer.

    Attributes:
        parameter: state-dict name.
        dim: its dimension.
        indices: (width, count): the rows of each coupled channel; count is 49 behind a flatten of 7 x 7.
        contracted: whether the operator sums over this dimension (a consumer's input), so that zeroing it is
            removing; else the dimension makes the channel (a producer's output, a norm's scale).
    """

    parameter: str
    dim: int
    indices: NDArray[np.int64]
    contracted: bool


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Coupled channels that touch the same dimensions of the same parameters.

    Attributes:
        name: the module that first makes them ("layer1.0.conv1"); "#2" and so on where it makes several groups.
        width: how many coupled channels there are.
        slots: every parameter dimension that they touch.
        pinned: None where channels may go, else the reason why they stay.
        numbers: (width,) the coupled channels' numbers in the whole network.
    """

    name: str
    width: int
    slots: tuple[Slot, ...]
    pinned: str | None
    numbers: NDArray[np.int64]

    @property
    def members(self) -> tuple[str, ...]:
        """Modules that make or scale these channels."""
        return tuple(dict.fromkeys(s.parameter.rpartition(".")[0] for s in self.slots if not s.contracted))

    @property
    def consumers(self) -> tuple[str, ...]:
        """Modules that sum over these channels."""
        return tuple(dict.fromkeys(s.parameter.rpartition(".")[0] for s in self.slots if s.contracted))


@dataclass(frozen=True, slots=True, eq=False)
class Consumer:
    """A convolution or linear layer whose input carries prunable channels.

    Attributes:
        module: its path.
        channel_of: (input channels,) number of the coupled channel that each input channel belongs to, -1 if pinned.
    """

    module: str
    channel_of: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Padding:
    """A padding module that makes channels of its own: coupled-channel numbers on both sides."""

    module: str
    before: NDArray[np.int64]
    after: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Network:
    """The analysis of one network on one input shape; made by `analyze`.

    Attributes:
        groups: groups whose channels may go, in the order of the forward pass, then the pinned ones.
        layers: every operator that costs time, in order.
        parameter_dims: size of every parameter and buffer dimension as a function of the widths.
        consumers: see `Consumer`; for importances that watch inputs.
        unwatched: calls that sum over prunable channels outside of a convolution or linear module, as text.
        paddings: see `Padding`.
        trace: the recorded forward pass.
        channel_of: per parameter (or buffer) and dimension the coupled channel's number at every index, -1 where it
            stays, None where the dimension is no channels at all.
        input_shapes, model_reference: what was analysed.
        groups_hash: fingerprint of all group names, widths and slots; a plan only fits a network with the same one.
    """

    groups: tuple[ChannelGroup, ...]
    layers: tuple[NetworkLayer, ...]
    parameter_dims: Mapping[str, tuple[WidthOf, ...]]
    consumers: tuple[Consumer, ...]
    unwatched: tuple[str, ...]
    paddings: tuple[Padding, ...]
    trace: Trace = field(repr=False)
    channel_of: Mapping[str, tuple[Labels | None, ...]] = field(repr=False)
    input_shapes: tuple[tuple[int, ...], ...]
    model_reference: str
    groups_hash: str

    @cached_property
    def free(self) -> tuple[ChannelGroup, ...]:
        """Groups whose channels may go."""
        return tuple(group for group in self.groups if group.pinned is None)

    @cached_property
    def widths(self) -> dict[str, int]:
        """Full width of every free group."""
        return {group.name: group.width for group in self.free}

    def group(self, name: str) -> ChannelGroup:
        """The group of that name. Raises KeyError."""
        return next(group for group in self.groups if group.name == name)

    def parameter_count(self, parameters: frozenset[str], widths: Mapping[str, int]) -> int:
        """Elements of the named parameters at ``widths``."""
        return sum(
            prod(size(widths) for size in dims) for name, dims in self.parameter_dims.items() if name in parameters
        )
