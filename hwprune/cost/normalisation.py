"""What a score is divided by: the cost that removing channels saves, as operators that the search can price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Literal, Protocol, get_args

from hwprune.cost.mixture import Correlated
from hwprune.cost.work import macs, output_elements
from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.graph.network import Network
from hwprune.latency.predictor import Predictor
from hwprune.layer import Layer
from hwprune.search.problem import Op

Normalisation = Literal["none", "flops", "params", "memory", "memory-measured", "correlated", "latency"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
MEASURED: tuple[Normalisation, ...] = ("memory-measured", "latency")  # they need a table


Sizes = Sequence[tuple[int, ...]]  # (c_in, c_out)


class LayerCost(Protocol):
    """What a layer costs in ms: a `Predictor` over a latency table, or `Correlated` where there is none."""

    @property
    def constant_ms(self) -> float: ...
    def costs_at(self, layer: NetworkLayer, sizes: Sizes) -> Sequence[float]: ...
    def predict_ms(self, widths: Mapping[str, int]) -> float: ...
    def summed_ms(self, latency_ms: float) -> float: ...


def price(
    network: Network,
    normalisation: Normalisation,
    *,
    parameters: frozenset[str],
    measured: LayerCost | None,
    correlated: Correlated | None = None,
) -> tuple[Op, ...]:
    """Operators whose summed cost importance is divided by; none for "none", where channels count alike.

    Raises:
        ValueError: a measured normalisation without measurements, or "correlated" without a mixture.
    """
    if normalisation == "none":
        return ()
    if normalisation == "flops":
        return mac_ops(network)
    if normalisation == "params":
        return parameter_ops(network, parameters)
    if normalisation == "memory":
        return memory_ops(network)
    if normalisation == "correlated":
        if correlated is None:
            raise ValueError("normalisation 'correlated' needs the device's mixture")
        return latency_ops(network, correlated)
    if measured is None:
        raise ValueError(f"normalisation {normalisation!r} needs a measured table")
    if normalisation == "latency":
        return latency_ops(network, measured)
    if not isinstance(measured, Predictor):
        raise ValueError(f"normalisation {normalisation!r} needs a measured table, not a mixture")
    return measured_memory_ops(network, measured)


def _groups(*sizes: WidthOf) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for size in sizes for name in size.groups))


def _per_layer(
    layers: list[NetworkLayer], costs_at: Callable[[NetworkLayer, Sizes], Sequence[float]]
) -> tuple[Op, ...]:
    """An operator for each layer, whose cost its two widths tell."""
    return tuple(
        Op(
            _groups(layer.c_in, layer.c_out),
            partial(_at, layer, costs_at),
            sides=(layer.c_in, layer.c_out),
            by_size=partial(costs_at, layer),
        )
        for layer in layers
    )


def _at(
    layer: NetworkLayer, costs_at: Callable[[NetworkLayer, Sizes], Sequence[float]], widths: Mapping[str, int]
) -> float:
    return float(costs_at(layer, [(layer.c_in(widths), layer.c_out(widths))])[0])


def _counted(count: Callable[[Layer], int], layer: NetworkLayer, sizes: Sizes) -> list[float]:
    return [float(count(layer.sized(c_in, c_out))) for c_in, c_out in sizes]


def mac_ops(network: Network) -> tuple[Op, ...]:
    """Multiply-accumulates of every convolution and linear layer."""
    layers = [layer for layer in network.layers if layer.dense.kind in ("conv", "linear")]
    return _per_layer(layers, partial(_counted, macs))


def memory_ops(network: Network) -> tuple[Op, ...]:
    """Elements of every convolution's output: the memory of Group Fisher Pruning (Liu et al. 2021, section 3.3)."""
    layers = [layer for layer in network.layers if layer.dense.kind == "conv"]
    return _per_layer(layers, partial(_counted, output_elements))


def parameter_ops(network: Network, parameters: frozenset[str]) -> tuple[Op, ...]:
    """Elements of every parameter."""

    def elements(dims: tuple[WidthOf, ...], widths: Mapping[str, int]) -> float:
        return float(prod(size(widths) for size in dims))

    counted = [dims for name, dims in network.parameter_dims.items() if name in parameters]
    return tuple(Op(_groups(*dims), partial(elements, dims)) for dims in counted)


def latency_ops(network: Network, measured: LayerCost) -> tuple[Op, ...]:
    """Cost in ms of every layer that has one of its own: predicted latency, or the mixture's."""
    return _per_layer([layer for layer in network.layers if not layer.fused], measured.costs_at)


def measured_memory_ops(network: Network, measured: Predictor) -> tuple[Op, ...]:
    """Predictor activation bytes of every layer that has some of its own."""
    return _per_layer([layer for layer in network.layers if not layer.fused], measured.memory_at)
