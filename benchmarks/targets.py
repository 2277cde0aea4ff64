"""How near the latency that a run certifies is to the one that was asked for, over networks and targets.

    python benchmarks/targets.py --table FILE [--model MODEL ...] [--target 70% ...] [--runs DIR] [--out DIR]

Whole runs of `hwprune.prune` without fine-tuning: initial weights and random images do, since neither changes what a
width takes. The table is an in-context one that holds the networks, as `benchmarks/prediction_error.py` leaves it. A
run is near where its certified latency is between 97 % and 100 % of the target. Finished runs are only read.

ONNX Runtime on one thread, batch 1, fp32; keep the machine idle.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from recording import RESULTS, fingerprint, markdown, record

import hwprune
from hwprune.cli import show
from hwprune.data.batches import Batch, Data
from hwprune.loop.settings import Settings
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.recovery.recipe import Recipe

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121")
TARGETS = ("70%", "45%")
NEAR, SHARE = (0.97, 1.0), 0.9
IMAGES, BATCHES = 4, 2
HEADS = ("network", "target", "certified", "interval", "of the target", "candidates at it", "MACs", "seconds")


@dataclass(frozen=True)
class Noise:
    """Batches of random images with random labels."""

    shape: tuple[int, ...]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        generator = torch.Generator().manual_seed(number)
        for _ in range(BATCHES):
            yield (
                torch.randn(IMAGES, *self.shape, generator=generator),
                torch.randint(0, 1000, (IMAGES,), generator=generator),
            )

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return BATCHES


def main() -> int:
    """Run what is missing, record all; exit 1 where too few runs end near their target."""
    options = _options()
    torch.set_num_threads(1)
    for model in options.model:
        for target in options.target:
            _one(model, target, options)
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(options.runs.glob("*.json"))]
    near = sum(_is_near(run) for run in runs)
    record(options.out / "targets.json", {"fingerprint": fingerprint(), "near": near, "runs": runs})
    text = markdown(HEADS, [_row(run) for run in runs])
    told = f"{near} of {len(runs)} runs end between 97 % and 100 % of their target."
    text += f"\n\n{told}\n\nMade by `benchmarks/targets.py`."
    (options.out / "targets.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(near < SHARE * len(runs))


def _one(model: str, target: str, options: argparse.Namespace) -> None:
    file = options.runs / f"{model}-{target.rstrip('%')}.json"
    if file.exists():
        return
    started, noise = time.monotonic(), Noise(describe_inputs(model))
    torch.manual_seed(0)
    data = Data(noise, noise, noise, 1000, noise.shape, "random images")
    settings = Settings(target, runtime="onnxruntime", recipe=Recipe(epochs=0), importance_batches=BATCHES)
    with show.progress() as bars:
        bars.note(f"{model} to {target}")
        found = hwprune.prune(
            load_model(model),
            data=data,
            target=target,
            out=file.with_suffix(""),
            table=options.table,
            settings=settings,
            reporter=bars,
            force=True,
        )
    if found.certificate is None:
        raise SystemExit("the processor of this machine cannot be timed")
    record(
        file,
        {
            "network": model,
            "target": target,
            "certified": asdict(found.certificate.comparison),
            "tries": sum(one.id.startswith("target-") for one in found.candidates),
            "macs": found.pruned.macs / found.dense.macs,
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def _share(run: Mapping[str, Any]) -> float:
    share: float = run["certified"]["ratio"] / (float(run["target"].rstrip("%")) / 100)
    return share


def _is_near(run: Mapping[str, Any]) -> bool:
    return NEAR[0] <= _share(run) <= NEAR[1]


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    found = run["certified"]
    return (
        run["network"],
        run["target"],
        f"{100 * found['ratio']:.1f} %",
        f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %",
        f"{100 * _share(run):.1f} %",
        str(run["tries"]),
        f"{100 * run['macs']:.1f} %",
        f"{run['seconds']:.0f}",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, required=True, help="in-context latency table")
    parser.add_argument("--model", action="append", help="repeatable; default: five networks")
    parser.add_argument("--target", action="append", help="repeatable; default: 70%% and 45%%")
    parser.add_argument("--runs", type=Path, default=Path("runs/targets"), help="run directories")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.model, options.target = options.model or list(MODELS), options.target or list(TARGETS)
    return options


if __name__ == "__main__":
    sys.exit(main())
