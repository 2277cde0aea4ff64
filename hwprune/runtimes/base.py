"""What hwprune needs to know of anything that can run a network.

Protocols and not base classes: a runtime shares no code with another, and a user's own only has to have the methods.
An ``Engine`` is a network made ready for one device and fixed input shapes; a ``Runtime`` makes engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

LayerKind = Literal["layer", "reformat", "copy"]


@dataclass(frozen=True, slots=True)
class LayerTime:
    """Time of one layer inside an engine, by the runtime's own profiler.

    Attributes:
        name: as the runtime calls it (fused layers carry several names).
        median_ms: median over the profiled runs; the profiler's own overhead is in it.
        kind: whether it computes something, brings a tensor into another layout, or only copies it.
        nodes: names of the exported graph's nodes that it stands for; of a reformat or a copy, those of the layer
            that needs it, where the runtime tells; empty where it does not.
    """

    name: str
    median_ms: float
    kind: LayerKind = "layer"
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Device memory of an engine in bytes; None where the runtime does not tell.

    Attributes:
        activation_bytes: the most that intermediate tensors and scratch take at once.
        weight_bytes: constants kept on the device.
    """

    activation_bytes: int | None
    weight_bytes: int | None


class Engine(Protocol):
    """A network made ready for one device and fixed input shapes."""

    @property
    def size_bytes(self) -> int:
        """Size of the engine as it would lie on a disk."""

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for ``inputs``; to check numbers, never to time."""

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of ``repeats`` single runs after ``warmup`` unmeasured ones, oldest first.

        Inputs are of the built shapes and lie on the device; the device is in sync before and after each run.
        """

    def layers(self, *, repeats: int) -> list[LayerTime]:
        """Time of each layer by the runtime's profiler, in execution order. Empty where there is no profiler."""

    def memory(self) -> EngineMemory:
        """Device memory that the engine takes."""

    def close(self) -> None:
        """Give back the device memory. The engine cannot be used afterwards."""


class Runtime(Protocol):
    """Something that turns a network into an engine.

    Attributes:
        name: "pytorch", "onnxruntime", "openvino", "tensorrt" or "tensorrt_rtx".
        precision: "fp32", "tf32", "fp16", "bf16", "int8" or "fp8".
        reads_onnx: whether ``build_onnx`` works; else only ``build`` does.
        can_time: whether the device that engines are built for is in this machine. False means engines are built
            (for a named compute capability) but ``time``, ``run``, ``layers`` raise `EngineError`.
        cuda_index: number of the card that engines run on; None where they run on a processor, or nowhere here.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def reads_onnx(self) -> bool: ...
    @property
    def can_time(self) -> bool: ...
    @property
    def cuda_index(self) -> int | None: ...

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> Engine:
        """An engine for ``model`` in eval mode at the shapes of ``example_inputs``. The model is not changed."""

    def build_onnx(self, model: bytes | Path) -> Engine:
        """An engine for a serialised ONNX model with fixed input shapes (``Path`` when weights lie beside it)."""

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to: runtime version, device, driver, threads, precision, flags."""
