"""Work of a network as functions of its widths: multiply-accumulates, parameters, activation elements.

Counting: one MAC is one multiply and one add (the "FLOPs" of most pruning papers are these MACs). Only convolutions and
linear layers are counted. Activation elements are the outputs of the convolutions, which is how Group Fisher Pruning
(Liu et al. 2021, table 1) counts memory: ResNet-50 at 224 x 224 and batch 1 has 4.089 G, 25.56 M and 11.11 M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import nn

from hwprune.graph.network import Network
from hwprune.layer import Layer


def macs(layer: Layer) -> int:
    """Multiply-accumulates of one layer; 0 for anything but convolutions and linear layers.

    >>> macs(Layer("conv", 64, 64, size=(56, 56), kernel=(3, 3), out_size=(56, 56)))
    115605504
    """
    if layer.kind == "linear":
        return layer.batch * prod(layer.size) * layer.c_in * layer.c_out
    if layer.kind != "conv":
        return 0
    positions = prod(layer.size if layer.variant == "transposed" else layer.out_size)
    per_output = (layer.group_width or layer.c_in) * prod(layer.kernel)
    return layer.batch * positions * layer.c_out * per_output


def output_elements(layer: Layer) -> int:
    """Elements of a layer's output."""
    return layer.batch * layer.c_out * prod(layer.out_size)


def weight_elements(layer: Layer) -> int:
    """Elements of the weight of a convolution or linear layer, without its bias; 0 for anything else.

    >>> weight_elements(Layer("conv", 64, 128, kernel=(3, 3), group_width=16))
    18432
    """
    if layer.kind not in ("conv", "linear"):
        return 0
    return layer.c_out * (layer.group_width or layer.c_in) * prod(layer.kernel)


@dataclass(frozen=True, slots=True)
class Work:
    """Totals of a network at some widths, at the batch size that was analysed."""

    macs: int
    parameters: int
    activation_elements: int


def parameter_names(model: nn.Module) -> frozenset[str]:
    """Names of the parameters (not buffers), tied ones once."""
    return frozenset(name for name, _ in model.named_parameters())


def work(network: Network, parameters: frozenset[str], widths: Mapping[str, int] | None = None) -> Work:
    """Count a network at ``widths`` (default: dense). ``parameters`` are the names that count as parameters."""
    widths = network.widths if widths is None else widths
    layers = [layer.at(widths) for layer in network.layers]
    return Work(
        macs=sum(macs(layer) for layer in layers),
        parameters=network.parameter_count(parameters, widths),
        activation_elements=sum(output_elements(layer) for layer in layers if layer.kind == "conv"),
    )
