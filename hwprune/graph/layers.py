"""The layers of a traced network, with their widths as functions of the channel groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwprune.layer import Layer


@dataclass(frozen=True, slots=True)
class WidthOf:
    """How many channels a dimension has, as a function of how many each group keeps.

    Attributes:
        fixed: channels that never go.
        terms: (group name, channels of this dimension per coupled channel of that group). A dimension that a
            flatten has multiplied by 49 has 49 there; a concatenation has several terms.
    """

    fixed: int
    terms: tuple[tuple[str, int], ...] = ()

    def __call__(self, widths: Mapping[str, int]) -> int:
        """Size at ``widths``.

        >>> WidthOf(3, (("stem", 2),))({"stem": 5})
        13
        """
        return self.fixed + sum(count * widths[group] for group, count in self.terms)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that this dimension depends on."""
        return tuple(group for group, _ in self.terms)


@dataclass(frozen=True, slots=True)
class NetworkLayer:
    """One operator call of the network that costs time.

    Attributes:
        name: module path, unique ("layer1.0.conv1"; a second call is "head.conv@2").
        dense: the layer at full width.
        c_in, c_out: its widths as functions of the groups.
        fixed_groups: groups of a convolution that loses the same offset of every group: their number stays, and what
            each holds follows its input; 0 where whole groups go, or there is one.
        fused: whether runtimes fold it into the layer before it (batch norm or ReLU behind a convolution), so that
            it has no latency of its own.
    """

    name: str
    dense: Layer
    c_in: WidthOf
    c_out: WidthOf
    fused: bool = False
    fixed_groups: int = 0

    def at(self, widths: Mapping[str, int]) -> Layer:
        """The layer that the hardware sees when every group keeps ``widths[name]`` channels."""
        return self.sized(self.c_in(widths), self.c_out(widths))

    def sized(self, c_in: int, c_out: int) -> Layer:
        """The layer that the hardware sees at these widths.

        >>> dense = Layer("conv", 64, 128, kernel=(3, 3), group_width=16)
        >>> cut = NetworkLayer("c", dense, WidthOf(64), WidthOf(128), fixed_groups=4).sized(32, 64)
        >>> cut.groups, cut.group_width, dense.at(32, 64).groups
        (4, 8, 2)
        """
        layer = self.dense.at(c_in, c_out)
        return replace(layer, group_width=c_in // self.fixed_groups) if self.fixed_groups else layer
