"""The layers of a traced network, with their widths as functions of the channel groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        fused: whether runtimes fold it into the layer before it (batch norm or ReLU behind a convolution), so that
            it has no latency of its own.
    """

    name: str
    dense: Layer
    c_in: WidthOf
    c_out: WidthOf
    fused: bool = False

    def at(self, widths: Mapping[str, int]) -> Layer:
        """The layer that the hardware sees when every group keeps ``widths[name]`` channels."""
        return self.dense.at(self.c_in(widths), self.c_out(widths))
