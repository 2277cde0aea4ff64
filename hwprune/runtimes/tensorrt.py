"""TensorRT in both flavours, through the interface that they share.

``tensorrt`` builds on the card that it builds for. ``tensorrt_rtx`` also builds without any, for a compute
capability that is named: such engines are real, and only timing them needs the card.

Networks are strongly typed: every tensor has the type that the ONNX graph says, so precisions are graphs. "int8" and
"fp8" have explicit Q/DQ pairs around convolutions and products, and float16 for the rest, as they are deployed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from hwprune.device import Capability, resolve
from hwprune.errors import EngineError, listed
from hwprune.runtimes.calibration import Calibration
from hwprune.runtimes.cuda import open_cuda
from hwprune.runtimes.onnx_dense import products_as_convolutions
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.onnx_graph import load
from hwprune.runtimes.onnx_half import to_half
from hwprune.runtimes.onnx_quantized import WEIGHTED, quantized
from hwprune.runtimes.tensorrt_engine import Built, TensorRTEngine
from hwprune.runtimes.tensorrt_layers import from_build_log
from hwprune.runtimes.tensorrt_module import Flavour, planned_bytes
from hwprune.runtimes.tensorrt_module import load as load_tensorrt
from hwprune.runtimes.tensorrt_options import BuilderOptions, TimingCache

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
# The first compute capability with instructions for the type; TensorRT refuses it on earlier ones.
NEEDS: Mapping[str, Capability] = {"bf16": (8, 0), "fp8": (8, 9)}
TURING: Capability = (7, 5)
MOST_BYTES = 1_900_000_000  # protobuf's limit is 2 GiB; larger graphs go through a file


class TensorRT:
    """Engines of TensorRT.

    Attributes:
        calibration: inputs that the scales of "int8" and "fp8" are found with.
        options: of the builder.
    """

    reads_onnx = True

    def __init__(
        self,
        flavour: Flavour = "tensorrt",
        *,
        precision: str = "fp32",
        compute_capability: Capability | None = None,
        index: int = 0,
        calibration: Calibration | None = None,
        options: BuilderOptions | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"TensorRT is not used in {precision}", fix=f"use one of {', '.join(PRECISIONS)}")
        if compute_capability is not None and flavour == "tensorrt":
            raise EngineError(
                "TensorRT builds only on the card that it builds for",
                where=f"compute capability {'.'.join(map(str, compute_capability))} is not in this machine",
                fix="run this on the card, or build for it with --runtime tensorrt_rtx",
            )
        self.name: Flavour = flavour
        self.precision, self.compute_capability, self.index = precision, compute_capability, index
        self.calibration, self.options = calibration or Calibration(), options or BuilderOptions()
        self._trt, self._logger = load_tensorrt(flavour)
        self._target = _target(self._trt, compute_capability) if flavour == "tensorrt_rtx" else None
        self._cache = TimingCache(self.options.timing_cache)
        _check_precision(precision, self._capability)

    @property
    def version(self) -> str:
        return str(self._trt.__version__)

    @property
    def can_time(self) -> bool:
        return self.compute_capability is None and torch.cuda.is_available()

    @property
    def cuda_index(self) -> int | None:
        return self.index if self.can_time else None

    @property
    def _capability(self) -> Capability | None:
        """Of the card that engines are for; None where there is none."""
        return torch.cuda.get_device_capability(self.index) if self.can_time else self.compute_capability

    @property
    def _no_products(self) -> bool:
        return self.name == "tensorrt_rtx" and self._capability == TURING and self.precision in ("fp32", "tf32")

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> TensorRTEngine:
        """An engine for ``model`` in eval mode at the shapes of ``example_inputs``."""
        return self.build_onnx(export(model, example_inputs))

    def build_onnx(self, model: bytes | Path) -> TensorRTEngine:
        """An engine for a serialised ONNX model in float32, which is converted to the precision first.

        Raises:
            EngineError: the graph cannot have the precision, or the parser or the builder refuses the network; the
                message names its nodes.
            MissingPackageError: the precision needs ONNX Runtime's quantiser, which is not installed.
        """
        proto = self._typed(load(model))
        built = self._build(proto)
        cuda = open_cuda(self.index) if self.can_time else None
        return TensorRTEngine(self._trt, self._logger, built, cuda)

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to."""
        target = self.compute_capability
        found = {
            "runtime": f"{self.name} {self.version}",
            "precision": self.precision,
            "target": "this card" if target is None else f"compute capability {target[0]}.{target[1]}",
            "typing": "strong",
            **self.options.as_fingerprint(),
            # TensorRT-RTX takes tactics by rules of its own: it times none, and its cache is without effect.
            "timing_cache": self._cache.hash if self.name == "tensorrt" else "none",
        }
        if self.precision in ("int8", "fp8"):
            found["calibration"] = self.calibration.describe()
        if self._no_products:
            found["products"] = "as 1x1 convolutions"
        if self.can_time:
            found["driver"] = resolve(f"cuda:{self.index}").fingerprint().get("driver", "unknown")
        return found

    def _typed(self, proto: ModelProto) -> ModelProto:
        """The graph in this runtime's precision."""
        if self.precision == "int8":
            return to_half(quantized(proto, "int8", self.calibration), "fp16")
        if self.precision == "fp8":
            return to_half(quantized(proto, "fp8", self.calibration), "fp16")
        if self.precision == "fp16":
            return to_half(proto, "fp16")
        if self.precision == "bf16":
            return to_half(proto, "bf16")
        return products_as_convolutions(proto) if self._no_products else proto

    def _build(self, proto: ModelProto) -> Built:
        with torch.cuda.device(self.index) if self.can_time else nullcontext():
            return self._build_on_current(proto)

    def _build_on_current(self, proto: ModelProto) -> Built:
        trt, logger = self._trt, self._logger
        logger.begin()
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
        _parse(trt, network, logger, proto)
        known = self._configure(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._refused(logger.last_error())
        if self.name == "tensorrt":
            self._keep_timings(config, known)
        return Built(
            bytes(memoryview(plan)),
            weight_bytes=_weight_bytes(proto),
            planned_bytes=planned_bytes(logger.messages),
            layers=tuple(from_build_log(logger.messages)),
            weighted=tuple(node.name for node in proto.graph.node if node.op_type in WEIGHTED),
        )

    def _refused(self, reason: str) -> EngineError:
        missed = self.options.only_cached and "timing cache" in reason.lower()
        return EngineError(
            f"{self.name} could not build the engine",
            where=reason,
            fix="drop only_cached once, so that the missing tactics are timed" if missed else "",
        )

    def _configure(self, config: Any) -> bytes:
        """Tell the builder what the options say; returns the timing cache as it was."""
        trt, options = self._trt, self.options
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self.precision == "tf32":
            config.set_flag(trt.BuilderFlag.TF32)
        else:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if options.aux_streams is not None:
            config.max_aux_streams = options.aux_streams
        if options.optimization_level != config.builder_optimization_level:
            config.builder_optimization_level = options.optimization_level
        if self._target is not None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self._target, 0)
            return b""
        config.avg_timing_iterations = options.timing_iterations
        return self._configure_cache(config)

    def _configure_cache(self, config: Any) -> bytes:
        flags, known = self._trt.BuilderFlag, self._cache.read()
        wanted = ["EDITABLE_TIMING_CACHE"] + ["ERROR_ON_TIMING_CACHE_MISS"] * self.options.only_cached
        for name in wanted:
            if (flag := getattr(flags, name, None)) is not None:  # versions before 10.0 have neither
                config.set_flag(flag)
        # Candidates share most of their layers: tactics timed for one hold for the next.
        timings = config.create_timing_cache(known)
        if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
            raise EngineError(
                "the timing cache does not belong to this card and version of TensorRT",
                where=self._cache.path or "memory",
                fix="name another file, or delete this one to have its tactics timed anew",
            )
        return known

    def _keep_timings(self, config: Any, known: bytes) -> None:
        def serialized(timings: Any) -> bytes:
            return bytes(memoryview(timings.serialize()))

        def combine(there: bytes, new: bytes) -> bytes:
            both = config.create_timing_cache(there)
            if both is None or not both.combine(config.create_timing_cache(new), ignore_mismatch=False):
                return new
            return serialized(both)

        if (timings := config.get_timing_cache()) is not None:
            self._cache.add(known, serialized(timings), combine)


def _check_precision(precision: str, capability: Capability | None) -> None:
    needed = NEEDS.get(precision)
    if needed is None or capability is None or capability >= needed:
        return
    raise EngineError(
        f"compute capability {capability[0]}.{capability[1]} does not compute in {precision}",
        where=f"{precision} needs {needed[0]}.{needed[1]} or later",
        fix="use --precision fp16 or int8",
    )


def _parse(trt: ModuleType, network: Any, logger: Any, proto: ModelProto) -> None:
    parser = trt.OnnxParser(network, logger)
    if not _read(parser, proto) or parser.num_errors:
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


def _read(parser: Any, proto: ModelProto) -> bool:
    if proto.ByteSize() <= MOST_BYTES:
        return bool(parser.parse(bytes(proto.SerializeToString())))
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path, save_as_external_data=True, location="weights.bin")
        return bool(parser.parse_from_file(str(path)))  # reads the weights as well, so the folder may go


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
