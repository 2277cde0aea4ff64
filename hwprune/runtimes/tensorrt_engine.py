"""A built TensorRT engine: its bytes, and where its card is here, running and timing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from hwprune.errors import EngineError
from hwprune.runtimes.base import EngineMemory, LayerTime
from hwprune.runtimes.cuda import Cuda, Launch, capture
from hwprune.runtimes.tensorrt_layers import EngineLayer, completed, from_information, joined


@dataclass(frozen=True, slots=True)
class Built:
    """What the builder has made.

    Attributes:
        serialized: the engine as TensorRT reads it from a disk.
        weight_bytes: constants of the ONNX graph.
        planned_bytes: device memory that an execution context takes, by the builder's plan; None where it told none.
        layers: of the engine, by the builder's log; empty where it listed none.
        weighted: names of the graph's convolutions and products, in its order.
    """

    serialized: bytes
    weight_bytes: int
    planned_bytes: int | None = None
    layers: tuple[EngineLayer, ...] = ()
    weighted: tuple[str, ...] = ()


class TensorRTEngine:
    """A serialised engine and, where its card is here, an execution context with its inputs in place.

    Attributes:
        serialized: the engine as TensorRT reads it from a disk.
    """

    def __init__(self, trt: ModuleType, logger: Any, built: Built, cuda: Cuda | None) -> None:
        self.serialized = built.serialized
        self._trt, self._built, self._cuda = trt, built, cuda
        self._live = _Live(trt, logger, built.serialized, cuda) if cuda is not None else None

    @property
    def size_bytes(self) -> int:
        """Size of the serialised engine."""
        return len(self.serialized)

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for ``inputs``, as float32 where they are floating point."""
        live = self._open("run")
        live.fill(inputs)
        live.launch()
        return live.outputs()

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of single runs by CUDA events, as one CUDA graph where it can be captured."""
        live = self._open("time")
        for _ in range(warmup):
            live.cuda.clock(live.replay)
        return tuple(live.cuda.clock(live.replay) for _ in range(repeats))

    def layers(self, *, repeats: int) -> list[LayerTime]:
        """Times by TensorRT's profiler, which runs layer by layer without a CUDA graph.

        Where branches run in several streams the layers' times overlap, and add up to more than the engine's.
        """
        times = self._open("layers").profile(repeats)
        return joined(times, self.structure())

    def structure(self) -> list[EngineLayer]:
        """The engine's layers in order of execution, without times: what was fused, what is reformatted.

        By the inspector where the card is here. Without it engines cannot be inspected (loading one needs a driver);
        then by the builder's own list, which TensorRT-RTX logs wherever it builds. Empty where neither tells.
        """
        told = from_information(self.information()) if self._live is not None else self._built.layers
        return completed(told, self._built.weighted)

    def memory(self) -> EngineMemory:
        """What an execution context asks for, and the weights of the ONNX graph.

        Without the card the former is the builder's plan, where it told one.
        """
        if self._live is None:
            return EngineMemory(self._built.planned_bytes, self._built.weight_bytes)
        return EngineMemory(int(self._live.engine.device_memory_size_v2), self._built.weight_bytes)

    def information(self) -> str:
        """The engine inspector's account of every layer, as JSON; needs the card."""
        live = self._open("inspect")
        inspector = live.engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Give back the device memory; the serialised engine stays."""
        if self._live is not None:
            self._live.close()
        self._live = None

    def _open(self, doing: str) -> _Live:
        if self._live is None:
            reason = "is closed" if self._cuda is not None else "was built for a card that is not in this machine"
            raise EngineError(f"cannot {doing}: this engine {reason}", fix="run this on a machine with the card")
        return self._live


class _Live:
    """A deserialised engine, its execution context and its tensors' memory."""

    def __init__(self, trt: ModuleType, logger: Any, serialized: bytes, cuda: Cuda) -> None:
        self._trt, self.cuda = trt, cuda
        with cuda.current():
            self._runtime = trt.Runtime(logger)
            self.engine = self._runtime.deserialize_cuda_engine(serialized)
            if self.engine is None:
                raise EngineError("TensorRT cannot load the engine that it has built", where=logger.last_error())
        self._tensors = {name: self._tensor(name) for name in self._names()}
        self._context = self._new_context()
        rng = np.random.default_rng(0)
        self.fill([rng.standard_normal(self._tensors[name][1].shape) for name in self._names(inputs=True)])
        self.launch()  # the first run loads or compiles kernels
        self.replay: Launch = capture(cuda, self._enqueue) or self._enqueue

    def fill(self, inputs: Sequence[np.ndarray]) -> None:
        names = self._names(inputs=True)
        if len(names) != len(inputs):
            raise EngineError(f"the network takes {len(names)} inputs, {len(inputs)} were given")
        for name, array in zip(names, inputs, strict=True):
            address, host = self._tensors[name]
            if array.shape != host.shape:
                raise EngineError(f"input {name!r} has shape {array.shape}, the engine takes {host.shape}")
            host[...] = array.astype(host.dtype)
            self.cuda.upload(address, host)

    def launch(self) -> None:
        with self.cuda.current():
            self._enqueue()
        self.cuda.synchronize()

    def outputs(self) -> list[np.ndarray]:
        found = []
        for name in self._names(inputs=False):
            address, host = self._tensors[name]
            self.cuda.download(address, host)
            half = host.dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
            found.append(host.astype(np.float32) if half else host.copy())
        return found

    def profile(self, repeats: int) -> list[tuple[str, float]]:
        """Name and median time in ms of each layer, in the order in which they ran first."""
        profiler = _profiler(self._trt)
        with self.cuda.current():
            context = self._new_context()
            if not context.execute_async_v3(self.cuda.handle):
                raise EngineError("TensorRT failed while it was profiled")
            self.cuda.synchronize()
            context.profiler = profiler
            for _ in range(repeats):
                context.execute_async_v3(self.cuda.handle)
                self.cuda.synchronize()
        return [(name, float(np.median(times))) for name, times in profiler.times.items()]

    def close(self) -> None:
        self.replay = self._enqueue
        with self.cuda.current():
            self._context = self.engine = self._runtime = None
        self.cuda.close()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self.cuda.handle):
            raise EngineError("TensorRT failed while it ran the engine")

    def _new_context(self) -> Any:
        with self.cuda.current():
            context = self.engine.create_execution_context()
            if context is None:
                raise EngineError("TensorRT has no memory for an execution context")
            for name, (address, _) in self._tensors.items():
                context.set_tensor_address(name, address)
        return context

    def _names(self, *, inputs: bool | None = None) -> list[str]:
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        if inputs is None:
            return names
        mode = self._trt.TensorIOMode.INPUT if inputs else self._trt.TensorIOMode.OUTPUT
        return [name for name in names if self.engine.get_tensor_mode(name) == mode]

    def _tensor(self, name: str) -> tuple[int, np.ndarray]:
        shape = tuple(self.engine.get_tensor_shape(name))
        host = np.zeros(shape, dtype=_dtype(self._trt, self.engine.get_tensor_dtype(name)))
        return self.cuda.allocate(host.nbytes), host


def _dtype(trt: ModuleType, kind: Any) -> Any:
    # numpy has no bfloat16, so TensorRT's own table leaves it out.
    return np.dtype(ml_dtypes.bfloat16 if kind == trt.DataType.BF16 else trt.nptype(kind))


def _profiler(trt: ModuleType) -> Any:
    """TensorRT calls back with the time of each layer; the class can only be made once TensorRT is imported."""

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(ms)

    make: Callable[[], Any] = Profiler
    return make()
