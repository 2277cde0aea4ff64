"""Every kind of layer as a PyTorch module, for runtimes that take no ONNX.

Eager PyTorch fuses nothing and keeps one layout, so a layer needs no frame here. `ACTIVATIONS` is the table of
functions, named as in `onnx_ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwprune.latency.onnx_ops import NORMS, POOLS, RESIZES, unknown_variant
from hwprune.layer import Layer

Function = Callable[..., Tensor]


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """``function(*inputs)``."""
        return self.function(*inputs)


def module_of(layer: Layer, shapes: Sequence[tuple[int, ...]]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The layer with seeded random weights, in eval mode, and inputs of the given shapes.

    Raises:
        ProfileError: the kind has no such variant.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _MODULES[layer.kind](layer).eval()
        return module.requires_grad_(False), tuple(torch.randn(shape) for shape in shapes)


def _conv(layer: Layer) -> nn.Module:
    rank = len(layer.kernel)
    settings: dict[str, Any] = {
        "stride": layer.stride or (1,) * rank,
        "padding": layer.padding or (0,) * rank,
        "dilation": layer.dilation or (1,) * rank,
        "groups": layer.groups,
        "bias": layer.variant == "bias",
    }
    if layer.variant not in ("", "bias", "transposed"):
        raise unknown_variant(layer, ("", "bias", "transposed"))
    if layer.variant == "transposed":
        made = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        return made(layer.c_in, layer.c_out, layer.kernel, output_padding=_output_padding(layer), **settings)  # type: ignore[arg-type]
    made_forward = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return made_forward(layer.c_in, layer.c_out, layer.kernel, **settings)  # type: ignore[arg-type]


def _output_padding(layer: Layer) -> tuple[int, ...]:
    ones, zeros = (1,) * len(layer.kernel), (0,) * len(layer.kernel)
    dims = zip(
        layer.size,
        layer.out_size,
        layer.kernel,
        layer.stride or ones,
        layer.padding or zeros,
        layer.dilation or ones,
        strict=True,
    )
    return tuple(out - ((size - 1) * step - 2 * pad + wide * (k - 1) + 1) for size, out, k, step, pad, wide in dims)


def _linear(layer: Layer) -> nn.Module:
    return nn.Linear(layer.c_in, layer.c_out, bias=layer.variant == "bias")


def _norm(layer: Layer) -> nn.Module:
    if layer.variant not in NORMS:
        raise unknown_variant(layer, NORMS)
    if layer.variant == "group_norm":
        return nn.GroupNorm(layer.groups, layer.c_in)
    if layer.variant == "instance_norm":
        return Calls(F.instance_norm)
    return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(layer.size)](layer.c_in)


def _activation(layer: Layer) -> nn.Module:
    if layer.variant in RESIZES:
        mode = "nearest" if RESIZES[layer.variant] == "nearest" else "bilinear"
        return Calls(lambda x: F.interpolate(x, size=layer.out_size, mode=mode))
    if layer.variant in ("native_layer_norm", "layer_norm"):
        return nn.LayerNorm((layer.size or (layer.c_in,))[-1])
    if layer.variant not in ACTIVATIONS:
        raise unknown_variant(layer, [*ACTIVATIONS, *RESIZES, "layer_norm"])
    return Calls(ACTIVATIONS[layer.variant])


def _pool(layer: Layer) -> nn.Module:
    if layer.variant not in POOLS:
        raise unknown_variant(layer, POOLS)
    rank = len(layer.size)
    if layer.variant == "adaptive_avg":
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1](layer.out_size)
    if layer.variant == "adaptive_max":
        return (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[rank - 1](layer.out_size)
    pools: dict[str, tuple[type[nn.Module], ...]] = {
        "max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
        "avg": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    }
    padding = layer.padding or (0,) * rank
    floor = tuple(
        (size + 2 * pad - k) // step + 1
        for size, k, step, pad in zip(layer.size, layer.kernel, layer.stride or (1,) * rank, padding, strict=True)
    )
    rounded_up = bool(layer.out_size) and floor != layer.out_size
    made = pools[layer.variant][rank - 1]
    return made(layer.kernel, stride=layer.stride or 1, padding=padding, ceil_mode=rounded_up)


_MODULES: Final[Mapping[str, Callable[[Layer], nn.Module]]] = MappingProxyType(
    {
        "conv": _conv,
        "linear": _linear,
        "norm": _norm,
        "activation": _activation,
        "add": lambda layer: Calls(torch.add),
        "mul": lambda layer: Calls(torch.mul),
        "cat": lambda layer: Calls(lambda *parts: torch.cat(parts, dim=1)),
        "pool": _pool,
    }
)

ACTIVATIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "_prelu_kernel": lambda x: F.prelu(x, x.new_full((1,), 0.25)),
        "_softmax": lambda x: torch.softmax(x, -1),
        "abs": torch.abs,
        "add": lambda x: x + 0.5,
        "celu": F.celu,
        "clamp": lambda x: x.clamp(-1.0, 1.0),
        "clamp_max": lambda x: x.clamp_max(1.0),
        "clamp_min": lambda x: x.clamp_min(0.5),
        "copy": torch.clone,
        "div": lambda x: x / 1.5,
        "elu": F.elu,
        "erf": torch.erf,
        "exp": torch.exp,
        "gelu": F.gelu,
        "hardsigmoid": F.hardsigmoid,
        "hardswish": F.hardswish,
        "hardtanh": F.hardtanh,
        "leaky_relu": F.leaky_relu,
        "log": torch.log,
        "log_sigmoid": F.logsigmoid,
        "mish": F.mish,
        "mul": lambda x: x * 1.5,
        "neg": torch.neg,
        "pow": lambda x: x**3.0,
        "prelu": lambda x: F.prelu(x, x.new_full((1,), 0.25)),
        "reciprocal": torch.reciprocal,
        "relu": F.relu,
        "relu6": F.relu6,
        "round": torch.round,
        "rsqrt": torch.rsqrt,
        "rsub": lambda x: 0.5 - x,
        "selu": F.selu,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "sin": torch.sin,
        "softmax": lambda x: torch.softmax(x, -1),
        "softplus": F.softplus,
        "softsign": F.softsign,
        "sqrt": torch.sqrt,
        "square": torch.square,
        "sub": lambda x: x - 0.5,
        "tanh": torch.tanh,
    }
)
