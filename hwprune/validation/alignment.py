"""Which widths a device likes: multiples that its kernels work in, and what the next such width would cost.

    tensor cores (TensorRT, PyTorch and ONNX Runtime on CUDA), in channels:
        fp16, bf16   8    TensorRT's HWC8 format; NVIDIA's guide on tensor cores: multiples of 16 bytes
        tf32         4    the same 16 bytes
        fp8          16   the same 16 bytes
        int8         32   TensorRT's CHW32 format; NVIDIA in TensorRT issue 1310: C = 18 or 36 get padded
        fp32         none: CUDA cores take any width
    processors (ONNX Runtime, OpenVINO, PyTorch on the CPU), convolutions only:
        16 with AVX-512, else 8: the block of channels of the NCHWc layout (`MlasNchwcGetBlockSize` in ONNX Runtime's
        MLAS, nChw16c and nChw8c in oneDNN). Narrower ends are padded. ONNX Runtime reorders an input only where its
        channels are a multiple of 4 (`ReorderInput` gathers four at a time): other widths leave the layout, and every
        neighbour pays for bringing the tensor back.

TensorRT itself finds other steps too (8 to 64 measured on a T4): the rule says where to look, the latency table what
it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hwprune.device import Device
from hwprune.layer import Layer
from hwprune.runtimes.select import RuntimeSpec

TENSOR_CORES: Final[Mapping[str, int]] = {"fp16": 8, "bf16": 8, "tf32": 4, "fp8": 16, "int8": 32}
AVX512_BLOCK, OTHER_BLOCK, REORDERED = 16, 8, 4


@dataclass(frozen=True, slots=True)
class Rule:
    """Multiples of channels that a device works in.

    Attributes:
        multiple: widths between are computed as the next multiple.
        why: where the number comes from, for people.
        least: widths that are no multiple of this leave the layout altogether; 1 where there is no such thing.
        linear: whether it holds for products of matrices too.
    """

    multiple: int
    why: str
    least: int = 1
    linear: bool = True

    def fits(self, width: int) -> bool:
        """Whether a width is a multiple."""
        return width % self.multiple == 0

    def up(self, width: int) -> int:
        """The next multiple at or above a width."""
        return -(-width // self.multiple) * self.multiple

    def down(self, width: int) -> int:
        """The next multiple at or below a width; 0 where there is none."""
        return width // self.multiple * self.multiple


@dataclass(frozen=True, slots=True)
class OffAlignment:
    """A convolution or product at widths that its device does not like, though the dense network's were no worse.

    Attributes:
        node: its name in the exported graph.
        widths: its input and output channels.
        at_fault: those of them that are off the rule, by the pruning's doing.
        leaves_layout: whether one of them is off even the least multiple.
        layer: it in the pruned network, where its geometry is known.
        up, down: the same with the widths at fault at their next multiples.
    """

    node: str
    widths: tuple[int, int]
    at_fault: tuple[int, ...]
    leaves_layout: bool
    layer: Layer | None = None
    up: Layer | None = None
    down: Layer | None = None


def rule_for(spec: RuntimeSpec, device: Device, cpu_flags: str) -> Rule | None:
    """The rule of a runtime on a device; None where any width is as good.

    Args:
        cpu_flags: of this machine's processor, as in `Device.fingerprint`.
    """
    if device.kind == "cuda":
        multiple = TENSOR_CORES.get(spec.precision)
        return None if multiple is None else Rule(multiple, f"tensor cores in {spec.precision}")
    block = AVX512_BLOCK if "avx512f" in cpu_flags.split() else OTHER_BLOCK
    least = REORDERED if spec.name == "onnxruntime" else 1
    return Rule(block, f"blocks of {block} channels on this processor", least, linear=False)


def off_alignment(
    node: str,
    rule: Rule,
    widths: tuple[int, int],
    dense_widths: tuple[int, int] | None,
    layer: Layer | None = None,
) -> OffAlignment | None:
    """What is wrong with a layer's widths; None where nothing is, or the dense network had the same.

    Args:
        dense_widths: of the same node in the dense network; a width that is the same there is not the pruning's.
        layer: the pruned network's.
    """
    if layer is not None and layer.kind == "linear" and not rule.linear:
        return None
    before = dense_widths or (0, 0)
    faults = tuple(width for width, was in zip(widths, before, strict=True) if width != was and not rule.fits(width))
    if not faults:
        return None
    return OffAlignment(
        node=node,
        widths=widths,
        at_fault=tuple(dict.fromkeys(faults)),
        leaves_layout=any(width % rule.least for width in faults),
        layer=layer,
        up=None if layer is None else _moved(layer, faults, {width: rule.up(width) for width in faults}),
        down=None if layer is None else _moved(layer, faults, {width: rule.down(width) for width in faults}),
    )


def _moved(layer: Layer, faults: tuple[int, ...], to: Mapping[int, int]) -> Layer | None:
    """The layer with its widths at fault elsewhere; None where there is no such layer."""
    c_in, c_out = (to[width] if width in faults else width for width in (layer.c_in, layer.c_out))
    moved = layer.at(c_in, c_out)
    whole = not layer.group_width or (c_in % layer.group_width == 0 and c_out % max(moved.groups, 1) == 0)
    return moved if c_in and c_out and whole else None
