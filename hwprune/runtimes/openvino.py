"""OpenVINO on the CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprune.errors import EngineError, MissingPackageError
from hwprune.runtimes.base import EngineMemory, LayerKind, LayerTime
from hwprune.runtimes.onnxruntime import load_header
from hwprune.runtimes.onnxruntime_nodes import LAYOUT_PREFIXES, nodes_of

if TYPE_CHECKING:
    from torch import Tensor, nn

REORDER = "Reorder"  # type of a node that only changes a layout
NO_WORK = frozenset({"Const", "Input", "Output"})  # types of nodes that never run
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVino:
    """Engines of OpenVINO's CPU plugin, compiled for the latency of single requests."""

    name = "openvino"
    reads_onnx = True
    can_time = True
    cuda_index = None

    def __init__(self, *, threads: int = 1, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise EngineError(
                f"OpenVINO on the CPU is not used in {precision}",
                fix=f"choose one of {', '.join(PRECISIONS)}",
            )
        self._ov = _import()
        self._core = self._ov.Core()
        self.threads, self.precision = threads, precision

    @property
    def version(self) -> str:
        return str(self._ov.get_version())

    def build(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> OpenVinoEngine:
        """An engine for ``model`` in eval mode at the shapes of ``example_inputs``."""
        from hwprune.runtimes.onnx_export import export

        return self.build_onnx(export(model, example_inputs))

    def build_onnx(self, model: bytes | Path) -> OpenVinoEngine:
        """An engine for a serialised ONNX model with fixed input shapes."""
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
        }
        try:
            network = self._core.read_model(model)
            plain = self._core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise EngineError("OpenVINO refused the model", where=_reason(error)) from error
        if any(port.partial_shape.is_dynamic for port in plain.inputs):
            raise EngineError(
                "the ONNX model has inputs without a fixed shape",
                fix="export it with fixed shapes: latency belongs to one shape",
            )
        return OpenVinoEngine(
            self._ov, plain, lambda: self._core.compile_model(network, "CPU", {**options, "PERF_COUNT": True}), model
        )

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers belong to."""
        return {
            "runtime": f"{self.name} {self.version}",
            "cpu_plugin": str(self._core.get_property("CPU", "FULL_DEVICE_NAME")),
            "threads": str(self.threads),
            "precision": self.precision,
            "machine": platform.machine(),
        }


class OpenVinoEngine:
    """A compiled network with one request whose inputs lie in place; a second one, made on demand, profiles."""

    def __init__(self, ov: ModuleType, compiled: Any, profiled: Callable[[], Any], model: bytes | Path) -> None:
        self._ov, self._model = ov, model
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        self._compile_profiled = profiled
        rng = np.random.default_rng(0)
        self._fill(self._request, [rng.standard_normal(tuple(port.shape)) for port in compiled.inputs])

    @property
    def size_bytes(self) -> int:
        """Size of the compiled network as OpenVINO exports it."""
        return len(self._open().export_model().getvalue())

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for ``inputs``, in the types of the graph."""
        compiled = self._open()
        if len(inputs) != len(compiled.inputs):
            raise EngineError(f"the network takes {len(compiled.inputs)} inputs, {len(inputs)} were given")
        request = compiled.create_infer_request()
        try:
            self._fill(request, inputs)
            request.infer()
        except RuntimeError as error:
            raise EngineError("OpenVINO failed while it ran the network", where=_reason(error)) from error
        return [np.array(tensor.data) for tensor in request.output_tensors]

    def time(self, *, warmup: int, repeats: int) -> tuple[float, ...]:
        """Latencies in ms of single blocking requests on memory that lies in place."""
        self._open()
        infer = self._request.infer
        for _ in range(warmup):
            infer()
        samples = []
        for _ in range(repeats):
            start = perf_counter_ns()
            infer()
            samples.append((perf_counter_ns() - start) / 1e6)
        return tuple(samples)

    def layers(self, *, repeats: int) -> list[LayerTime]:
        """Mean times of executed nodes by OpenVINO's counters; a fused node stands for all its layers' nodes.

        The counters hold the mean over all runs since the network was compiled, cut to whole microseconds, and the
        first run also prepares weights: a hundred times as long for a small layer. So that run is taken out again.
        """
        self._open()
        profiled = self._compile_profiled()
        nodes = _executable(profiled.get_runtime_model())
        request = profiled.create_infer_request()
        for port, tensor in zip(profiled.inputs, self._request.input_tensors, strict=True):
            request.set_tensor(port, tensor)
        request.infer()
        first = _counters(request)
        for _ in range(repeats):
            request.infer()
        last = _counters(request)
        kinds: list[LayerKind] = ["reformat" if kind == REORDER else "layer" for _, kind in nodes.values()]
        told = [layers or name for name, (layers, _) in nodes.items()]
        return [
            LayerTime(called, _without_first(first.get(name, 0), last.get(name, 0), repeats), kind, stands_for)
            for name, called, kind, stands_for in zip(nodes, told, kinds, _nodes(told, kinds, self._model), strict=True)
        ]

    def memory(self) -> EngineMemory:
        """Nothing: OpenVINO's CPU plugin does not tell what a network's activations take."""
        return EngineMemory(None, None)

    def close(self) -> None:
        """Drop the compiled network and its request."""
        self._compiled = self._request = None

    def _open(self) -> Any:
        if self._compiled is None:
            raise EngineError("this engine is closed")
        return self._compiled

    def _fill(self, request: Any, inputs: Sequence[np.ndarray]) -> None:
        for tensor, array in zip(request.input_tensors, inputs, strict=True):
            if tuple(tensor.shape) != array.shape:
                raise EngineError(f"an input has shape {array.shape}, the engine was built for {tensor.shape}")
            tensor.data[:] = array


def _without_first(first_us: int, mean_us: int, repeats: int) -> float:
    """Mean in ms of all runs but the first, from the first and the mean of all, both cut to whole microseconds.

    >>> _without_first(312, 15, 20)
    0.00065
    """
    if not mean_us:
        return 0.0
    half = 0.5  # what cutting takes away on average
    return max((1 + repeats) * (mean_us + half) - (first_us + half), 0.0) / repeats / 1000


def _nodes(told: Sequence[str], kinds: Sequence[LayerKind], model: bytes | Path) -> list[tuple[str, ...]]:
    """Nodes of the exported graph that each executed node stands for; "a/Add,a/Relu" names only some of them.

    OpenVINO folds a batch norm into a multiplication of its own making ("Multiply_12345") and that into the
    convolution, which it no longer names; what makes an output is called after the output. As in ONNX
    Runtime the rest follows from the graph, backwards from the last name.
    """
    graph = load_header(model)
    known = {name: node.name for node in graph.graph.node for name in (*node.output, node.name)}
    named = [[known[part] for part in name.split(",") if part in known] for name in told]
    kernels = [
        LAYOUT_PREFIXES[0] if kind == "reformat" else (parts[-1] if parts else name)
        for name, kind, parts in zip(told, kinds, named, strict=True)
    ]
    claimed = {part: place for place, parts in enumerate(named) for part in parts}
    return [
        tuple(dict.fromkeys((*parts, *(node for node in nodes if claimed.get(node, place) == place))))
        if kinds[place] == "layer"
        else nodes
        for place, (parts, nodes) in enumerate(zip(named, nodes_of(kernels, graph), strict=True))
    ]


def _executable(graph: Any) -> dict[str, tuple[str, str]]:
    """Original layers and type of each node that runs, in topological order.

    All of them and not only those whose counters say that they ran: a run of less than a microsecond counts as none.
    """
    facts = {op.get_friendly_name(): op.rt_info for op in graph.get_ordered_ops()}
    told = {n: (str(f["originalLayersNames"].astype(str)), str(f["layerType"].astype(str))) for n, f in facts.items()}
    return {name: (layers, kind) for name, (layers, kind) in told.items() if kind not in NO_WORK}


def _counters(request: Any) -> dict[str, int]:
    """Mean time in microseconds of each node by name."""
    return {node.node_name: round(1e6 * node.real_time.total_seconds()) for node in request.profiling_info}


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _import() -> ModuleType:
    try:
        import openvino
    except ImportError:
        raise MissingPackageError("openvino", extra="openvino") from None
    module: ModuleType = openvino
    return module
