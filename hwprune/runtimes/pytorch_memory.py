"""How much memory a run of PyTorch takes on the CPU, by the allocations and frees that its profiler sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import accumulate

EVENT = "[memory]"  # how the profiler calls one allocation or one free


def cpu_peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that PyTorch's CPU allocator held at once during ``run``, less what it held before.

    Outputs, intermediate tensors and the scratch that kernels take from the allocator (a convolution's reordered
    input) are in it; the inputs and weights, which were there before, are not. The second run counts: the first one
    also prepares what later ones keep.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes its start and stop to the streams
    from torch.profiler import ProfilerActivity, profile

    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    found = profiled.profiler
    changes = [event for event in found.kineto_results.events() if event.name() == EVENT]
    sizes = [event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())]
    return max(accumulate(sizes), default=0)
