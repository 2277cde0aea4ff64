"""How much faster networks train and are evaluated when channels are the last dimension in memory, as
`hwprune.recovery.layout` has it.

    python benchmarks/channels_last.py [--threads 2]      two minutes; writes results/channels_last.{json,md}

Both layouts by turns, on random images: steps of training (forward, backward and SGD), and forward passes in eval mode
without gradients.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from recording import RESULTS, fingerprint, markdown, record
from torch import nn
from torch.nn import functional

from hwprune.models.resolve import load_model

CASES = {  # (images, side)
    "hwprune.models.cifar_resnet:resnet20": (128, 32),
    "hwprune.models.cifar_resnet:resnet56": (128, 32),
    "mobilenet_v2": (32, 160),
    "resnet18": (32, 160),
    "regnet_x_400mf": (32, 160),
}
STEPS = 7
Timed = Callable[[nn.Module, torch.Tensor, torch.Tensor], float]


def step_s(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds of one training step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    started = time.perf_counter()
    functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    return time.perf_counter() - started


def pass_s(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds of one forward pass as evaluation has it; it needs no labels."""
    started = time.perf_counter()
    with torch.no_grad():
        model(inputs)
    return time.perf_counter() - started


TIMED: Mapping[str, Timed] = {"training": step_s, "evaluation": pass_s}


def measured(name: str, kind: str) -> dict[str, object]:
    """Median seconds of a step or pass in both layouts, and the quartiles of their ratio."""
    count, side = CASES[name]
    inputs, labels = torch.randn(count, 3, side, side), torch.randint(0, 10, (count,))
    usual = load_model(name).train(kind == "training")
    last = copy.deepcopy(usual).to(memory_format=torch.channels_last)
    timed = TIMED[kind]
    for model in (usual, last):
        timed(model, inputs, labels)
    times = np.array([[timed(model, inputs, labels) for model in (usual, last)] for _ in range(STEPS)])
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75)).tolist()
    medians = np.median(times, 0).tolist()
    return {"network": name, "kind": kind, "step_s": medians, "ratio": middle, "quartiles": [low, high]}


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [measured(name, kind) for kind in TIMED for name in CASES]
    heads = ("network", "images", "kind", "time, channels last over usual", "quartiles")
    rows = [
        (
            str(one["network"]).rpartition(":")[2],
            "{0} of {1} x {1}".format(*CASES[str(one["network"])]),
            str(one["kind"]),
            f"{one['ratio']:.2f}",
            "{:.2f} to {:.2f}".format(*one["quartiles"]),  # type: ignore[misc]
        )
        for one in found
    ]
    text = markdown(heads, rows) + "\n\nMade by `benchmarks/channels_last.py`."
    record(RESULTS / "channels_last.json", {"fingerprint": fingerprint(), "threads": options.threads, "runs": found})
    (RESULTS / "channels_last.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
