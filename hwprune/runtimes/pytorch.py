"""PyTorch itself as a runtime: eager on the CPU, captured in a CUDA graph on a GPU."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwprune.errors import EngineError
from hwprune.runtimes.base import EngineMemory, LayerTime
from hwprune.runtimes.pytorch_memory import cpu_peak_bytes

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WARMUP_BEFORE_CAPTURE = 3  # as PyTorch's own guide to CUDA graphs says


class PyTorchRuntime:
    """Engines that are the module itself, in eval mode and without autograd."""

    name = "pytorch"
    reads_onnx = False

    def __init__(
        self, device: str = "cpu", *, threads: int = 1, precision: str = "fp32", channels_last: bool = False
    ) -> None:
        self.device, self.threads, self.precision = torch.device(device), threads, precision
        self.channels_last = channels_last
        choice = ("fp32", "bf16") if self.device.type == "cpu" else tuple(DTYPES)
        if precision not in choice:
            raise EngineError(
                f"PyTorch on {self.device.type} is not used in {precision}",
                fix=f"choose one of {', '.join(choice)}",
            )

    @property
    def version(self) -> str:
        return str(torch.__version__)

    @property
    def can_time(self) -> bool:
        return self.device.type == "cpu" or torch.cuda.is_available()

    @property
    def cuda_index(self) -> int | None:
        return None if self.device.type == "cpu" else self.device.index or 0

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> PyTorchEngine:
        """An engine for a copy of ``model`` at the shapes of ``example_inputs``."""
        if not self.can_time:
            raise EngineError("PyTorch sees no CUDA device", fix="use --device cpu, or a machine with a GPU")
        network = copy.deepcopy(model).eval().to(self.device, DTYPES[self.precision])
        inputs = tuple(self._moved(tensor) for tensor in example_inputs)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return PyTorchEngine(self, network, inputs)

    def build_onnx(self, model: bytes | Path) -> PyTorchEngine:
        """Always an error: PyTorch runs modules, not ONNX graphs."""
        raise EngineError(
            "the pytorch runtime cannot read ONNX", fix="build from the module, or use onnxruntime or tensorrt"
        )

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to."""
        return {
            "runtime": f"{self.name} {self.version}",
            "torch_device": str(self.device),
            "threads": str(self.threads),
            "precision": self.precision,
            "channels_last": str(self.channels_last),
            "machine": platform.machine(),
            "cuda": str(torch.version.cuda) if self.device.type == "cuda" else "none",
        }

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Threads and TF32 as asked for, and as they were afterwards."""
        threads = torch.get_num_threads()
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        if self.device.type == "cpu":
            torch.set_num_threads(self.threads)
        else:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision != "fp32"
        try:
            with torch.inference_mode():
                yield
        finally:
            if self.device.type == "cpu":
                torch.set_num_threads(threads)
            else:
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32

    def _moved(self, tensor: Tensor) -> Tensor:
        dtype = DTYPES[self.precision] if tensor.is_floating_point() else tensor.dtype
        moved = tensor.detach().clone().to(self.device, dtype)
        if self.channels_last and moved.dim() == 4:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved


class PyTorchEngine:
    """A module with its inputs beside it; on CUDA, its captured graph."""

    def __init__(self, runtime: PyTorchRuntime, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._runtime, self._network, self._inputs = runtime, network, inputs
        self._weight_bytes = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
        self._peak_bytes: int | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._replay: Callable[[], object] | None = None
        with self._failing_as("PyTorch failed while it built the engine"), runtime.settings():
            self._replay = self._capture() if runtime.device.type == "cuda" else self._forward

    @property
    def size_bytes(self) -> int:
        """Size of the weights: PyTorch has no engine file."""
        return self._weight_bytes

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for ``inputs``, as float32 where they are floating point."""
        self._open()
        tensors = tuple(self._runtime._moved(torch.from_numpy(np.ascontiguousarray(x))) for x in inputs)
        with self._failing_as("PyTorch failed while it ran the network"), self._runtime.settings():
            outputs = _flat(self._network(*tensors))
        return [(t.float() if t.is_floating_point() else t).cpu().numpy() for t in outputs]

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of single runs: wall clock on the CPU, events around a graph replay on CUDA."""
        replay = self._open()
        with self._failing_as("PyTorch failed while it was timed"), self._runtime.settings():
            for _ in range(warmup):
                replay()
            clock = _cuda_clock(self._runtime.device) if self._runtime.device.type == "cuda" else _wall_clock
            return tuple(clock(replay) for _ in range(repeats))

    def layers(self, *, repeats: int) -> list[LayerTime]:
        """Time of each leaf module, clocked by hooks around eager calls, in the order of execution.

        On CUDA the hooks' events also hold the gaps between kernels, which the captured graph does not have.
        """
        self._open()
        clock = _ModuleClock(self._runtime.device, self._network)
        with clock, self._runtime.settings():
            self._network(*self._inputs)
            clock.times.clear()
            for _ in range(repeats):
                self._network(*self._inputs)
        return [LayerTime(name, float(np.median(values))) for name, values in clock.in_ms().items()]

    def memory(self) -> EngineMemory:
        """The allocator's peak over one run, less what lay there before: inputs and weights are not in it."""
        if self._peak_bytes is None:
            with self._runtime.settings():
                self._peak_bytes = cpu_peak_bytes(self._open())
        return EngineMemory(self._peak_bytes, self._weight_bytes)

    def close(self) -> None:
        """Drop the module, its inputs and its graph."""
        self._network, self._inputs, self._graph, self._replay = nn.Identity(), (), None, None

    def _forward(self) -> object:
        return self._network(*self._inputs)

    def _capture(self) -> Callable[[], object]:
        device = self._runtime.device
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARMUP_BEFORE_CAPTURE):
                self._forward()
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            self._forward()
            torch.cuda.synchronize(device)
            self._peak_bytes = torch.cuda.max_memory_allocated(device) - before
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(self._graph):
            self._forward()
        return self._graph.replay

    def _open(self) -> Callable[[], object]:
        if self._replay is None:
            raise EngineError("this engine is closed")
        return self._replay

    @contextmanager
    def _failing_as(self, what: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, TypeError, ValueError) as error:
            raise EngineError(what, where=str(error).splitlines()[0] if str(error) else error) from error


class _ModuleClock:
    """Times every call of every leaf module, by hooks that are gone afterwards."""

    def __init__(self, device: torch.device, network: nn.Module) -> None:
        self._device, self._network = device, network
        self._handles: list[Any] = []
        self._started: dict[str, Any] = {}
        self.times: dict[str, list[tuple[Any, Any]]] = {}

    def __enter__(self) -> _ModuleClock:
        for name, module in self._network.named_modules():
            if not any(module.children()):
                self._handles.append(module.register_forward_pre_hook(self._before(name)))
                self._handles.append(module.register_forward_hook(self._after(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def in_ms(self) -> dict[str, list[float]]:
        """Durations by module name."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return {n: [a.elapsed_time(b) for a, b in pairs] for n, pairs in self.times.items()}
        return {n: [(b - a) / 1e6 for a, b in pairs] for n, pairs in self.times.items()}

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return perf_counter_ns()
        event = _event()
        event.record()
        return event

    def _before(self, name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self._started[name] = self._now()

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self.times.setdefault(name, []).append((self._started[name], self._now()))

        return hook


def _wall_clock(run: Callable[[], object]) -> float:
    start = perf_counter_ns()
    run()
    return (perf_counter_ns() - start) / 1e6


def _cuda_clock(device: torch.device) -> Callable[[Callable[[], object]], float]:
    start, end = _event(), _event()

    def clock(run: Callable[[], object]) -> float:
        stream = torch.cuda.current_stream(device)
        start.record(stream)
        run()
        end.record(stream)
        end.synchronize()
        return float(start.elapsed_time(end))

    return clock


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _flat(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return [tensor for value in outputs.values() for tensor in _flat(value)]
    if isinstance(outputs, Sequence):
        return [tensor for value in outputs for tensor in _flat(value)]
    raise EngineError(f"an output of type {type(outputs).__name__} is no tensor")
