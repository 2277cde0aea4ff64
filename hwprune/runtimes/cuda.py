"""Device memory, one stream and its clock, for engines that are not PyTorch's own.

They come from PyCUDA where it is installed and gets a context, else from torch. Both use the device's primary
context, so that what one has allocated the other can read, and torch can capture a CUDA graph on PyCUDA's stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch

from hwprune.errors import EngineError

log = logging.getLogger(__name__)
Launch = Callable[[], object]


class Cuda(Protocol):
    """One CUDA device with a stream of its own.

    Attributes:
        index: its CUDA number.
        handle: of the stream, as CUDA's C interface takes it.
    """

    index: int
    handle: int

    def current(self) -> AbstractContextManager[object]:
        """While inside, CUDA calls of this thread go to this device."""

    def allocate(self, nbytes: int) -> int:
        """Address of new device memory, given back by `close`."""

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy to the device and wait."""

    def download(self, address: int, array: np.ndarray) -> None:
        """Copy from the device into ``array`` and wait."""

    def synchronize(self) -> None:
        """Wait until the stream is idle."""

    def clock(self, launch: Launch) -> float:
        """Milliseconds on the stream, from idle, of what ``launch`` enqueues, by events around it."""

    def close(self) -> None:
        """Give back all memory."""


def open_cuda(index: int = 0) -> Cuda:
    """The device ``index`` with a new stream.

    Raises:
        EngineError: no CUDA device answers.
    """
    try:
        return PyCuda(index)
    except ImportError:
        pass
    except RuntimeError as error:
        log.warning("PyCUDA is installed and gets no context (%s): using torch instead", error)
    if not torch.cuda.is_available():
        raise EngineError("no CUDA device answers in this machine", fix="run on a machine with an NVIDIA GPU")
    return TorchCuda(index)


class PyCuda:
    """A device through PyCUDA."""

    def __init__(self, index: int) -> None:
        import pycuda.driver as driver

        # PyCUDA's errors are a class of its own, unknown where it is not installed.
        try:
            driver.init()
            self._context = driver.Device(index).retain_primary_context()
        except driver.Error as error:
            raise RuntimeError(str(error)) from error
        self.index, self._driver = index, driver
        self._memory: list[Any] = []
        with self.current():
            self._stream = driver.Stream()
            self._start, self._end = driver.Event(), driver.Event()
        self.handle = int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, nbytes: int) -> int:
        with self.current(), _out_of_memory(self._driver.MemoryError, nbytes):
            self._memory.append(self._driver.mem_alloc(max(nbytes, 1)))
        return int(self._memory[-1])

    def upload(self, address: int, array: np.ndarray) -> None:
        with self.current():
            self._driver.memcpy_htod(address, _as_bytes(array))

    def download(self, address: int, array: np.ndarray) -> None:
        with self.current():
            self._driver.memcpy_dtoh(_as_bytes(array), address)

    def synchronize(self) -> None:
        with self.current():
            self._stream.synchronize()

    def clock(self, launch: Launch) -> float:
        with self.current(), _torch_stream(self.handle, self.index):
            self._start.record(self._stream)
            launch()
            self._end.record(self._stream)
            self._end.synchronize()
            return float(self._end.time_since(self._start))

    def close(self) -> None:
        with self.current():
            for memory in self._memory:
                memory.free()
        self._memory.clear()


class TorchCuda:
    """A device through torch.cuda."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._start, self._end = _event(), _event()
        self._memory: dict[int, torch.Tensor] = {}
        self.handle = int(self._stream.cuda_stream)

    def current(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device)

    def allocate(self, nbytes: int) -> int:
        with _out_of_memory(torch.cuda.OutOfMemoryError, nbytes):
            memory = torch.empty(max(nbytes, 1), dtype=torch.uint8, device=self._device)
        self._memory[memory.data_ptr()] = memory
        return memory.data_ptr()

    def upload(self, address: int, array: np.ndarray) -> None:
        raw = torch.from_numpy(_as_bytes(array))
        self._memory[address][: raw.numel()].copy_(raw)
        torch.cuda.synchronize(self._device)

    def download(self, address: int, array: np.ndarray) -> None:
        raw = torch.from_numpy(_as_bytes(array))
        raw.copy_(self._memory[address][: raw.numel()])

    def synchronize(self) -> None:
        self._stream.synchronize()

    def clock(self, launch: Launch) -> float:
        with torch.cuda.stream(self._stream):
            self._start.record(self._stream)
            launch()
            self._end.record(self._stream)
            self._end.synchronize()
            return float(self._start.elapsed_time(self._end))

    def close(self) -> None:
        self._memory.clear()


def capture(cuda: Cuda, launch: Launch) -> Launch | None:
    """What replays ``launch`` as one CUDA graph inside `Cuda.clock`; None where it cannot be captured.

    PyCUDA has no graphs, so torch captures on either's stream. ``launch`` must have run before.
    """
    if not torch.cuda.is_available():
        return None
    graph = torch.cuda.CUDAGraph()
    try:
        with cuda.current(), torch.cuda.graph(graph, stream=_external(cuda.handle, cuda.index)):
            launch()
    except (RuntimeError, EngineError) as error:
        log.info("no CUDA graph, launching layer by layer: %s", error)
        return None
    return graph.replay


def _torch_stream(handle: int, index: int) -> AbstractContextManager[object]:
    return torch.cuda.stream(_external(handle, index)) if torch.cuda.is_available() else nullcontext()


def _external(handle: int, index: int) -> torch.cuda.Stream:
    return torch.cuda.ExternalStream(handle, device=index)  # type: ignore[no-untyped-call]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """The same memory as bytes; the array must be contiguous."""
    flat: np.ndarray = array.reshape(-1).view(np.uint8)
    return flat


@contextmanager
def _out_of_memory(kind: type[Exception], nbytes: int) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise EngineError(
            f"the device has no room for {nbytes} bytes", fix="a smaller batch, or stop other work on the device"
        ) from error
