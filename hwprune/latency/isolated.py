"""One layer as a model of its own, in a frame that gives it the surroundings it has in a network.

A runtime runs a layer in the layout that its neighbours use. Alone, the same layer also pays for bringing its input
into that layout and its output out of it: with ONNX Runtime on one AVX-512 core, bare layers of ResNet-20 sum to 1.38
to 1.51 times the network's latency. So a layer on images stands in a *frame*: a feed before it (a 1 × 1 convolution
from one channel, which writes the runtime's own layout) and a tap behind it (a max pooling of single pixels, which
reads hardly anything). The frame is also built with nothing in it, and its time subtracted: the same layers then sum to
0.96 to 1.00 times the network. A residual addition gets fused into the feed as it would be into a convolution, and a
width that the runtime's layout does not like pays for the detour.
"""

from __future__ import annotations

from math import prod
from typing import Final

from torch import Tensor, nn

from hwprune.latency.eager import module_of
from hwprune.latency.onnx_ops import Graph, add_layer
from hwprune.layer import Layer

MOST_IMAGE_CHANNELS: Final = 3  # a layer with no more reads the network's own input, which no layer has laid out
UNFRAMED: Final = frozenset({"native_layer_norm", "layer_norm", "softmax", "_softmax"})  # these work on tokens

REFERENCE: Final = Layer(
    "conv", 64, 64, size=(40, 40), kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), out_size=(40, 40)
)


def layer_onnx(layer: Layer) -> bytes:
    """The layer, in its frame where it has one, with seeded random weights and fixed shapes.

    Raises:
        ProfileError: the kind has no such variant.
    """
    graph = Graph()
    if not framed(layer):
        return graph.model([add_layer(graph, layer, [graph.input(*shape) for shape in input_shapes(layer)])])
    output = add_layer(graph, layer, [_feed(graph, layer, shape) for shape in input_shapes(layer)])
    return graph.model([_tap(graph, output, layer.out_size or layer.size)])


def frame_onnx(layer: Layer) -> bytes | None:
    """The frame of ``layer`` with nothing in it; None for a layer without a frame."""
    if not framed(layer):
        return None
    graph = Graph()
    return graph.model([_tap(graph, _feed(graph, layer, shape), shape[2:]) for shape in input_shapes(layer)])


def framed(layer: Layer) -> bool:
    """Whether the layer is measured in a frame: it works on images that another layer made."""
    return (
        len(layer.size) == 2
        and layer.kind != "linear"
        and layer.c_in > MOST_IMAGE_CHANNELS
        and layer.variant not in UNFRAMED
    )


def frame_key(layer: Layer) -> tuple[object, ...]:
    """Layers with equal keys have the same frame, so it need be timed once.

    >>> conv = Layer("conv", 64, 128, size=(8, 8), kernel=(3, 3), out_size=(8, 8))
    >>> frame_key(conv) == frame_key(conv.at(64, 32)), frame_key(conv) == frame_key(conv.at(32, 128))
    (True, False)
    """
    return (layer.kind == "norm", *input_shapes(layer))


def input_shapes(layer: Layer) -> list[tuple[int, ...]]:
    """Shape of each input tensor; a token layer has its features last.

    >>> input_shapes(Layer("mul", 8, 8, size=(4, 4), variant="broadcast"))
    [(1, 8, 4, 4), (1, 8, 1, 1)]
    """
    whole = (layer.batch, layer.c_in, *layer.size)
    if layer.kind == "linear":
        return [(layer.batch, *layer.size, layer.c_in)]
    if layer.kind in ("add", "mul"):
        small = (layer.batch, layer.c_in, *(1 for _ in layer.size))
        return [whole, small if layer.variant == "broadcast" else whole]
    if layer.kind == "cat":
        halves = (layer.c_in // 2, layer.c_in - layer.c_in // 2)
        return [(layer.batch, half, *layer.size) for half in halves if half]
    return [whole]


def layer_module(layer: Layer) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The layer and its inputs for the pytorch runtime, which keeps one layout and so needs no frame.

    Raises:
        ProfileError: the kind has no such variant.
    """
    return module_of(layer, input_shapes(layer))


def reference_onnx() -> bytes:
    """The fixed workload that every measurement is paired with: `REFERENCE`, 0.3 to 1 ms on one CPU thread."""
    graph = Graph()
    return graph.model([add_layer(graph, REFERENCE, [graph.input(*shape) for shape in input_shapes(REFERENCE)])])


def reference_module() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The same workload for the pytorch runtime."""
    return layer_module(REFERENCE)


def _feed(graph: Graph, layer: Layer, shape: tuple[int, ...]) -> str:
    """A tensor of this shape in whatever layout the runtime gives the output of a convolution."""
    batch, channels, *size = shape
    image = graph.input(batch, 1, *size)
    feed = graph.node("Conv", image, graph.weight(channels, 1, 1, 1), graph.weight(channels), kernel_shape=[1, 1])
    if layer.kind == "norm":  # which would be folded into a convolution right before it
        feed = graph.node("MaxPool", feed, kernel_shape=[1, 1])
    return feed


def _tap(graph: Graph, tensor: str, size: tuple[int, ...]) -> str:
    """One pixel of each channel, so that the tensor need not leave its layout to be the model's output."""
    if prod(size) == 1:
        return tensor
    return graph.node("MaxPool", tensor, kernel_shape=[1] * len(size), strides=list(size))
