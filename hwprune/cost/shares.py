"""How much of a network's work each channel group holds."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from math import prod

from hwprune.cost.work import macs, output_elements, work
from hwprune.graph.layers import WidthOf
from hwprune.graph.network import Network


@dataclass(frozen=True, slots=True)
class Share:
    """What goes with a group, as shares of the dense network's `Work`: from 0 to 1.

    Shares of different groups do not add up to 1: a layer between two groups counts for both.
    """

    macs: float
    parameters: float
    activation_elements: float


def shares(network: Network, parameters: frozenset[str]) -> dict[str, Share]:
    """Per free group the share of the work that goes when it alone is cut to one channel.

    The same as comparing `work` at full width with `work` at one channel, group by group; but only the layers and
    parameters that depend on a group are counted again, so that the time does not grow with groups times layers.
    """
    full = network.widths
    gone = {name: [0, 0, 0] for name in full}
    for layer in network.layers:
        if layer.dense.kind in ("conv", "linear"):
            dense = layer.at(full)
            for name in _groups(layer.c_in, layer.c_out):
                small = layer.at(ChainMap({name: 1}, full))
                gone[name][0] += macs(dense) - macs(small)
                if dense.kind == "conv":
                    gone[name][2] += output_elements(dense) - output_elements(small)
    for parameter, dims in network.parameter_dims.items():
        if parameter in parameters:
            for name in _groups(*dims):
                widths = ChainMap({name: 1}, full)
                gone[name][1] += prod(size(full) for size in dims) - prod(size(widths) for size in dims)
    total = work(network, parameters)
    whole = (total.macs, total.parameters, total.activation_elements)
    return {name: Share(*(a / max(b, 1) for a, b in zip(lost, whole, strict=True))) for name, lost in gone.items()}


def free_share(network: Network, parameters: frozenset[str]) -> float:
    """The share of the parameters that goes when every free group is cut to one channel."""
    dense = network.parameter_count(parameters, network.widths)
    return (dense - network.parameter_count(parameters, dict.fromkeys(network.widths, 1))) / max(dense, 1)


def _groups(*sizes: WidthOf) -> dict[str, None]:
    return dict.fromkeys(name for size in sizes for name in size.groups)
