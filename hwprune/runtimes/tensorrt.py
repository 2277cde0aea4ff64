"""TensorRT in both flavours, through the interface that they share.

``tensorrt`` builds on the card that it builds for. ``tensorrt_rtx`` also builds without any, for a compute
capability that is named: such engines are real, and only timing them needs the card.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from hwprune.device import Capability
from hwprune.errors import EngineError, MissingPackageError, listed
from hwprune.runtimes.cuda import open_cuda
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_graph import load
from hwprune.runtimes.onnx_half import to_half
from hwprune.runtimes.tensorrt_engine import TensorRTEngine

log = logging.getLogger(__name__)

Flavour = Literal["tensorrt", "tensorrt_rtx"]
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


class TensorRT:
    """Engines of TensorRT, from strongly typed networks: every tensor has the type that the ONNX graph says."""

    reads_onnx = True

    def __init__(
        self,
        flavour: Flavour = "tensorrt",
        *,
        precision: str = "fp32",
        compute_capability: Capability | None = None,
        index: int = 0,
    ) -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"TensorRT is not used in {precision}", fix=f"use one of {', '.join(PRECISIONS)}")
        if compute_capability is not None and flavour == "tensorrt":
            raise EngineError(
                "TensorRT builds only on the card that it builds for",
                where=f"compute capability {'.'.join(map(str, compute_capability))} is not in this machine",
                fix="run this on the card, or build for it with --runtime tensorrt_rtx",
            )
        self.name: str = flavour
        self.precision, self.compute_capability, self.index = precision, compute_capability, index
        self._trt, self._logger = _import(flavour)
        self._target = _target(self._trt, compute_capability) if flavour == "tensorrt_rtx" else None
        self._timing_cache = b""

    @property
    def version(self) -> str:
        return str(self._trt.__version__)

    @property
    def can_time(self) -> bool:
        return self.compute_capability is None and torch.cuda.is_available()

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> TensorRTEngine:
        """An engine for ``model`` in eval mode at the shapes of ``example_inputs``."""
        return self.build_onnx(export(model, example_inputs))

    def build_onnx(self, model: bytes | Path) -> TensorRTEngine:
        """An engine for a serialised ONNX model in float32; half precision converts the whole graph first.

        Raises:
            EngineError: the parser or the builder refuses the network; the message names its nodes.
        """
        proto = load(model)
        if self.precision == "fp16":
            proto = to_half(proto, "fp16")
        elif self.precision == "bf16":
            proto = to_half(proto, "bf16")
        converted = model if isinstance(model, Path) and proto.ByteSize() > 1_900_000_000 else None
        serialized = self._build(converted or bytes(proto.SerializeToString()))
        cuda = open_cuda(self.index) if self.can_time else None
        return TensorRTEngine(self._trt, self._logger, serialized, _weight_bytes(proto), cuda)

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to."""
        target = self.compute_capability
        return {
            "runtime": f"{self.name} {self.version}",
            "precision": self.precision,
            "target": "this card" if target is None else f"compute capability {target[0]}.{target[1]}",
            "typing": "strong",
        }

    def _build(self, model: bytes | Path) -> bytes:
        with torch.cuda.device(self.index) if self.can_time else nullcontext():
            return self._build_on_current(model)

    def _build_on_current(self, model: bytes | Path) -> bytes:
        trt, logger = self._trt, self._logger
        logger.errors.clear()
        try:
            builder = trt.Builder(logger)
            network = builder.create_network(_strongly_typed(trt))
            config = builder.create_builder_config()
        except (RuntimeError, TypeError) as error:  # a missing driver makes the constructors return nothing
            raise EngineError(
                f"{self.name} cannot start",
                where=logger.last_error() or error,
                fix="run on a machine with an NVIDIA GPU, or name a card and use --runtime tensorrt_rtx",
            ) from error
        _parse(trt, network, logger, model)
        self._configure(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"{self.name} could not build the engine", where=logger.last_error())
        if self.name == "tensorrt" and (timings := config.get_timing_cache()) is not None:
            self._timing_cache = bytes(memoryview(timings.serialize()))
        return bytes(memoryview(plan))

    def _configure(self, config: Any) -> None:
        trt = self._trt
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self.precision == "tf32":
            config.set_flag(trt.BuilderFlag.TF32)
        else:
            config.clear_flag(trt.BuilderFlag.TF32)
        if self._target is not None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self._target, 0)
        else:
            # Candidates share most of their layers: tactics timed for one hold for the next.
            config.set_timing_cache(config.create_timing_cache(self._timing_cache), ignore_mismatch=False)


def _parse(trt: ModuleType, network: Any, logger: Any, model: bytes | Path) -> None:
    parser = trt.OnnxParser(network, logger)
    read = parser.parse_from_file(str(model)) if isinstance(model, Path) else parser.parse(model)
    if not read or parser.num_errors:
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        texts = [f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in errors]
        raise EngineError("TensorRT's parser refuses the network", where=listed(texts, most=3) or logger.last_error())
    for position in range(network.num_inputs):
        tensor = network.get_input(position)
        if any(size < 0 for size in tensor.shape):
            raise EngineError(
                "the ONNX model has inputs without a fixed shape",
                where=f"{tensor.name} {tuple(tensor.shape)}",
                fix="export it with fixed shapes: latency belongs to one shape",
            )


def _strongly_typed(trt: ModuleType) -> int:
    """Flags of `create_network`; versions without this one know nothing but strongly typed networks."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _target(trt: ModuleType, capability: Capability | None) -> Any:
    if capability is None:
        return trt.ComputeCapability.CURRENT
    members = trt.ComputeCapability.__members__
    wanted = f"SM{capability[0]}{capability[1]}"
    if wanted not in members:
        known = sorted((n for n in members if n.startswith("SM")), key=lambda n: int(n[2:]))
        raise EngineError(
            f"tensorrt_rtx {trt.__version__} builds no engines for {wanted}",
            where=f"it knows {', '.join(known)}",
            fix="build on the card itself with --runtime tensorrt",
        )
    return members[wanted]


def _weight_bytes(proto: ModelProto) -> int:
    return sum(len(t.raw_data) or int(np.prod(t.dims)) * 4 for t in proto.graph.initializer)


@cache
def _import(flavour: Flavour) -> tuple[ModuleType, Any]:
    """The module and its one logger: TensorRT complains when it meets a second."""
    try:
        trt = import_module(flavour)
    except ImportError:
        raise MissingPackageError(flavour, extra=flavour.replace("_", "-")) from None

    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.INFO,
        trt.ILogger.Severity.INFO: logging.DEBUG,
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """TensorRT's messages as Python's: its errors are raised anyway, so all come a level lower."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level == logging.ERROR:
                self.errors.append(message)
            if level is not None:
                log.log(min(level, logging.INFO), message)

        def last_error(self) -> str:
            return self.errors[-1] if self.errors else ""

    return trt, Logger()
