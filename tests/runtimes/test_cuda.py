"""Device memory, stream and clock."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwprune.errors import EngineError
from hwprune.runtimes.cuda import _as_bytes, capture, open_cuda


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_device_it_says_so() -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        open_cuda()


def test_bytes_are_the_arrays_own_memory() -> None:
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    _as_bytes(array)[:2] = np.array([7], dtype=np.float16).view(np.uint8)

    assert array[0, 0] == 7
    assert _as_bytes(array).nbytes == 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_is_uploaded_comes_back_and_a_captured_graph_replays() -> None:
    cuda = open_cuda()
    sent, got = np.arange(100, dtype=np.float32), np.zeros(100, dtype=np.float32)
    address = cuda.allocate(sent.nbytes)
    cuda.upload(address, sent)
    cuda.download(address, got)
    counter = torch.zeros(1, device="cuda")
    replay = capture(cuda, lambda: counter.add_(1))

    assert (got == sent).all()
    assert replay is not None
    assert cuda.clock(replay) > 0 and cuda.clock(replay) > 0
    assert counter.item() == 2
    cuda.close()
