"""ONNX Runtime on the CPU or on a CUDA device."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hwprune.errors import EngineError, MissingPackageError
from hwprune.runtimes.base import EngineMemory, LayerTime
from hwprune.runtimes.onnx_graph import load
from hwprune.runtimes.onnx_half import to_half
from hwprune.runtimes.onnxruntime_profile import profile, running

if TYPE_CHECKING:
    from torch import Tensor, nn

Provider = Literal["cpu", "cuda"]
PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PRECISIONS: dict[Provider, tuple[str, ...]] = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "fp16")}
DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
QUIET = 3  # errors only


class OnnxRuntime:
    """Engines of ONNX Runtime with full graph optimisation, executed in sequence."""

    name = "onnxruntime"
    reads_onnx = True

    def __init__(
        self, provider: Provider = "cpu", *, threads: int = 1, precision: str = "fp32", index: int = 0
    ) -> None:
        self._ort = _import()
        self.provider, self.threads, self.precision, self.index = provider, threads, precision, index
        if precision not in PRECISIONS[provider]:
            raise EngineError(
                f"ONNX Runtime on {provider} is not used in {precision}",
                effect="its CPU kernels compute half precision in float32" if provider == "cpu" else "",
                fix=f"choose one of {', '.join(PRECISIONS[provider])}",
            )

    @property
    def version(self) -> str:
        return str(self._ort.__version__)

    @property
    def can_time(self) -> bool:
        return PROVIDERS[self.provider] in self._ort.get_available_providers()

    @property
    def cuda_index(self) -> int | None:
        return self.index if self.provider == "cuda" else None

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> OnnxRuntimeEngine:
        """An engine for ``model`` in eval mode at the shapes of ``example_inputs``."""
        from hwprune.runtimes.onnx_export import export

        return self.build_onnx(export(model, example_inputs))

    def build_onnx(self, model: bytes | Path) -> OnnxRuntimeEngine:
        """An engine for a serialised ONNX model with fixed input shapes."""
        if not self.can_time:
            raise EngineError(
                f"this ONNX Runtime has no {PROVIDERS[self.provider]}",
                where=f"onnxruntime {self.version}: {', '.join(self._ort.get_available_providers())}",
                fix="pip install onnxruntime-gpu" if self.provider == "cuda" else "",
            )
        if self.precision == "fp16":
            model = bytes(to_half(load(model), "fp16").SerializeToString())
        return OnnxRuntimeEngine(self, model)

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to."""
        return {
            "runtime": f"{self.name} {self.version}",
            "provider": PROVIDERS[self.provider],
            "threads": str(self.threads),
            "precision": self.precision,
            "machine": platform.machine(),
        }

    def session(self, model: bytes | Path, *, profile_prefix: str = "") -> Any:
        """A session for ``model``; with a prefix it writes a profile."""
        options = self._ort.SessionOptions()
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = QUIET
        # Threads of an engine that waits for its turn must not spin on the cores of the one being timed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile_prefix:
            options.enable_profiling, options.profile_file_prefix = True, profile_prefix
        try:
            source = os.fspath(model) if isinstance(model, Path) else model
            return self._ort.InferenceSession(source, options, providers=self._providers())
        except Exception as error:  # each refusal of ONNX Runtime is a class of its own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EngineError("ONNX Runtime refused the model", where=reason) from error

    def _providers(self) -> list[Any]:
        if self.provider == "cpu":
            return [PROVIDERS["cpu"]]
        tf32 = "0" if self.precision == "fp32" else "1"
        return [(PROVIDERS["cuda"], {"device_id": str(self.index), "use_tf32": tf32})]


class OnnxRuntimeEngine:
    """A session with its inputs and outputs bound once, so that a timed run copies nothing."""

    def __init__(self, runtime: OnnxRuntime, model: bytes | Path) -> None:
        self._runtime, self._model = runtime, model
        self._session = runtime.session(model)
        self._shapes = {v.name: _fixed_shape(v) for v in self._session.get_inputs()}
        self._dtypes = {v.name: _dtype(v) for v in self._session.get_inputs()}
        self._binding = self._bind()
        self._memory: EngineMemory | None = None  # told by any profile

    @property
    def size_bytes(self) -> int:
        """Size of the ONNX model: ONNX Runtime keeps no engine file of its own."""
        if isinstance(self._model, bytes):
            return len(self._model)
        beside = {
            entry.value
            for tensor in load_header(self._model).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        return sum((self._model.parent / name).stat().st_size for name in (self._model.name, *beside))

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for ``inputs``, in the types of the graph."""
        if len(inputs) != len(self._shapes):
            raise EngineError(f"the network takes {len(self._shapes)} inputs, {len(inputs)} were given")
        feed = {
            name: np.ascontiguousarray(x, dtype=self._dtypes[name])
            for name, x in zip(self._shapes, inputs, strict=True)
        }
        session = self._open()
        with running():
            return list(session.run(None, feed))

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of single runs on bound memory; the call returns when the outputs are there."""
        session, binding = self._open(), self._binding
        run = session.run_with_iobinding
        samples = []
        with running():
            for _ in range(warmup):
                run(binding)
            for _ in range(repeats):
                start = perf_counter_ns()
                run(binding)
                samples.append((perf_counter_ns() - start) / 1e6)
        return tuple(samples)

    def layers(self, *, repeats: int) -> list[LayerTime]:
        """Kernel times by ONNX Runtime's own profiler, from a second session that profiles."""
        self._open()
        graph = load_header(self._model)
        times, self._memory = profile(
            self._runtime.session, self._model, self.random_inputs(), repeats=repeats, graph=graph
        )
        return times

    def memory(self) -> EngineMemory:
        """Growth of ONNX Runtime's arena over one run, sampled after each node, and the weights its nodes read.

        The network's inputs are the caller's and not in it; neither is scratch that a kernel gives back before it
        returns. Activations are None in versions whose profiler does not report the arena.
        """
        self._open()
        if self._memory is None:
            _, self._memory = profile(self._runtime.session, self._model, self.random_inputs(), repeats=1)
        return self._memory

    def close(self) -> None:
        """Drop the session and its memory."""
        self._session = self._binding = None

    def random_inputs(self) -> dict[str, np.ndarray]:
        """Normal numbers (small integers for integer inputs), always the same ones."""
        rng = np.random.default_rng(0)
        return {n: rng.standard_normal(s).astype(self._dtypes[n]) for n, s in self._shapes.items()}

    def _open(self) -> Any:
        if self._session is None:
            raise EngineError("this engine is closed")
        return self._session

    def _bind(self) -> Any:
        ort, device = self._runtime._ort, self._runtime.provider
        binding = self._session.io_binding()
        index = self._runtime.index
        for name, array in self.random_inputs().items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device, index))
        for output in self._session.get_outputs():
            if all(isinstance(size, int) for size in output.shape):
                value = ort.OrtValue.ortvalue_from_shape_and_type(output.shape, _dtype(output), device, index)
                binding.bind_ortvalue_output(output.name, value)
            else:
                binding.bind_output(output.name, device, index)
        return binding


def load_header(model: bytes | Path) -> Any:
    """The graph without the weights that lie beside it."""
    import onnx

    return load(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)


def _fixed_shape(value: Any) -> tuple[int, ...]:
    if not all(isinstance(size, int) for size in value.shape):
        raise EngineError(
            "the ONNX model has inputs without a fixed shape",
            where=f"{value.name} {value.shape}",
            fix="export it with fixed shapes: latency belongs to one shape",
        )
    return tuple(value.shape)


def _dtype(value: Any) -> Any:
    if value.type not in DTYPES:
        raise EngineError(f"{value.type} inputs and outputs are not supported", where=value.name)
    return DTYPES[value.type]


def _import() -> ModuleType:
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", extra="onnxruntime") from None
    module: ModuleType = onnxruntime
    return module
