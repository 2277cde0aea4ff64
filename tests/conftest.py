"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from hwprune import contention
from hwprune.validation import certify

# A deadline is a timed assertion: on a shared machine it fails whatever the code does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The processes that share the tests have a thread each, and so have those that they start."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            torch.set_num_threads(1)
            patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def impatient() -> Iterator[None]:
    """Tests ask for no true latency: they and the processes that they start hardly wait, and few rebuilds do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(contention.TIMES, "0.01")
        patch.setattr(certify, "NARROW", 0.1)
        yield
