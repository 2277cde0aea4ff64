"""What group Fisher information costs over the forward and backward pass that it rides on: time and peak memory.

    python benchmarks/fisher_cost.py [--model MODEL ...] [--rounds 15] [--out DIR]

Paired in one run: by turns a plain pass in eval mode whose gradients reach every activation but no weight, the same
pass watched for Fisher information, and a plain pass that computes the weights' gradients too, as training does. Ratios
are medians over rounds of neighbours; memory is the allocator's peak of one pass. A network counts as cheap where
Fisher takes at most 1.25 times the time and 1.05 times the memory of the pass that it rides on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from recording import RESULTS, fingerprint, markdown, record
from torch import Tensor, nn

from hwprune import analyze
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.fisher import Fisher
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.runtimes.pytorch_memory import cpu_peak_bytes

MODELS = {"hwprune.models.cifar_resnet:resnet20": 128, "resnet50": 16, "mobilenet_v2": 16}  # with their batch sizes
MOST_TIME, MOST_MEMORY = 1.25, 1.05
HEADS = (
    *("network", "batch", "Fisher / plain, time", "quartiles", "Fisher / training, time"),
    *("Fisher / plain, memory", "Fisher / training, memory", "held to"),
)


def main() -> int:
    """Measure, record, print; exit 1 where Fisher costs more than it may."""
    options = _options()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = [_network(model, batch, options.rounds) for model, batch in MODELS.items() if model in options.model]
    record(options.out / "fisher_cost.json", {"fingerprint": fingerprint(), "networks": found})
    text = markdown(HEADS, [_row(network) for network in found])
    text += "\n\nMade by `benchmarks/fisher_cost.py`."
    (options.out / "fisher_cost.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(not all(_is_cheap(network) for network in found))


def _network(name: str, batch: int, rounds: int) -> dict[str, Any]:
    model = load_model(name)
    inputs = torch.randn(batch, *describe_inputs(name))
    network = analyze(model, (inputs,))
    labels = torch.randint(0, int(model(inputs[:1]).shape[1]), (batch,))

    def fisher() -> None:
        Fisher().scores(model, network, [(inputs, labels)], cross_entropy)

    passes: dict[str, Callable[[], None]] = {
        "plain": lambda: _pass(model, inputs, labels),
        "fisher": fisher,
        "training": lambda: _training(model, inputs, labels),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in passes}
    for number in range(rounds + 1):
        for kind, run in passes.items():
            started = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[kind].append(time.perf_counter() - started)
    memory = {kind: cpu_peak_bytes(run) for kind, run in passes.items()}
    return {"network": name, "batch": batch, "seconds": seconds, "peak_bytes": memory}


def _pass(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    with _frozen(model):
        cross_entropy(model(inputs.detach().requires_grad_()), labels).backward()


def _training(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    cross_entropy(model(inputs.detach().requires_grad_()), labels).backward()
    model.zero_grad(set_to_none=True)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    model.requires_grad_(False)
    yield
    model.requires_grad_(True)


def _ratios(network: dict[str, Any], over: str) -> list[float]:
    pairs = zip(network["seconds"]["fisher"], network["seconds"][over], strict=True)
    return [own / other for own, other in pairs]


def _is_cheap(network: dict[str, Any]) -> bool:
    memory = network["peak_bytes"]["fisher"] / network["peak_bytes"]["plain"]
    return median(_ratios(network, "plain")) <= MOST_TIME and memory <= MOST_MEMORY


def _row(network: dict[str, Any]) -> tuple[str, ...]:
    low, _, high = quantiles(_ratios(network, "plain"), n=4)
    memory = network["peak_bytes"]
    return (
        network["network"].rpartition(":")[2],
        str(network["batch"]),
        f"{median(_ratios(network, 'plain')):.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{median(_ratios(network, 'training')):.3f}",
        f"{memory['fisher'] / memory['plain']:.3f}",
        f"{memory['fisher'] / memory['training']:.3f}",
        "yes" if _is_cheap(network) else "no",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", choices=list(MODELS), help="repeatable; default: all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.model = options.model or list(MODELS)
    return options


if __name__ == "__main__":
    sys.exit(main())
