"""What the analysis of a network finds: its channel groups, layers, and how their sizes depend on the widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwprune.graph.choices import Choices
from hwprune.graph.inputs import Inputs
from hwprune.graph.labels import Dims
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.graph.literals import Literal
from hwprune.graph.narrowing import Attribute
from hwprune.graph.trace import Forward, Trace, Value


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
class Spanning:
    """A call whose values for the channels that stay depend on those that go: a layer norm, a mean over channels.

    Attributes:
        position: in the trace.
        module: path of the module that makes it.
        why: in words.
    """

    position: int
    module: str
    why: str

    def __str__(self) -> str:
        return f"{self.why} in {self.module or 'the network itself'!r}"


@dataclass(frozen=True, eq=False)
class Network:
    """The analysis of one network on one input shape; made by `analyze`.

    Attributes:
        groups: groups whose channels may go, in the order of the forward pass, then the pinned ones.
        lowering: makes `layers` and `parameter_dims`, which a cut does not need.
        consumers: see `Consumer`; for importances that watch inputs.
        unwatched: calls that sum over prunable channels outside of a convolution or linear module, as text.
        attributes: integers of modules that follow from widths, found by a pass at other widths.
        spanning: see `Spanning`; removing channels there is not the same as zeroing them.
        computed: positions of products with a weight that is computed from parameters (a normalised weight), which
            is not zero where they are.
        trace: the recorded forward pass.
        rescaled: positions of arithmetic with a plain number that depends on a width (1 / sqrt(head size)).
        channels: per value of the trace, by its number, and dimension the coupled channel's number at every index, -1
            where it stays, None where the dimension is no channels at all.
        literals: by position in the trace the numbers among a call's arguments that follow from widths; their labels
            are coupled channels' numbers.
        inputs, forward, choices, model_reference: what was analysed, and how.
        offsets: grouped convolutions that lose the same offset in every group, by module.
        groups_hash: fingerprint of all group names, widths and slots; a plan only fits a network with the same one.
    """

    groups: tuple[ChannelGroup, ...]
    lowering: Callable[[], tuple[tuple[NetworkLayer, ...], dict[str, tuple[WidthOf, ...]]]] = field(repr=False)
    consumers: tuple[Consumer, ...]
    unwatched: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    spanning: tuple[Spanning, ...]
    computed: tuple[int, ...] = field(repr=False)
    trace: Trace = field(repr=False)
    rescaled: frozenset[int] = field(repr=False)
    offsets: frozenset[str] = field(repr=False)
    channels: Mapping[int, Dims] = field(repr=False)
    literals: Mapping[int, tuple[Literal, ...]] = field(repr=False)
    inputs: Inputs = field(repr=False)
    forward: Forward | None = field(repr=False)
    choices: Choices
    model_reference: str
    groups_hash: str

    @cached_property
    def _lowered(self) -> tuple[tuple[NetworkLayer, ...], dict[str, tuple[WidthOf, ...]]]:
        return self.lowering()

    @property
    def layers(self) -> tuple[NetworkLayer, ...]:
        """Every operator that costs time, in order."""
        return self._lowered[0]

    @property
    def parameter_dims(self) -> Mapping[str, tuple[WidthOf, ...]]:
        """Size of every parameter and buffer dimension as a function of the widths."""
        return self._lowered[1]

    @cached_property
    def channel_of(self) -> dict[str, Dims]:
        """`channels` of every parameter and buffer, by name."""
        return {name: self.dims(value) for name, value in self.trace.parameters.items()}

    def dims(self, value: Value) -> Dims:
        """`channels` of a value; none for a value that met no rule."""
        return self.channels.get(value.number) or (None,) * len(value.shape)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all tensors of the inputs."""
        return self.inputs.shapes

    @property
    def count(self) -> int:
        """How many coupled channels there are, pinned ones too."""
        return sum(group.width for group in self.groups)

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
