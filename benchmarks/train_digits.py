"""Train the quickstart's network: a ResNet-20 on the handwritten digits of scikit-learn, from scratch.

    python benchmarks/train_digits.py [--epochs 40] [--seed 0] [--threads 2] [--out FILE]

Three quarters of the 1797 digits are trained on; the held-back quarter only tells the accuracy, which is stored in
the metadata of the file next to the seed. Some minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from hwprune.data import load_data
from hwprune.models.cifar_resnet import resnet20
from hwprune.models.weights import RESNET20_DIGITS
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.recovery.finetune import finetune
from hwprune.recovery.recipe import Progress, Recipe


def main() -> None:
    """Train, say the accuracy after every epoch, and write the weights."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    data = load_data("digits", batch_size=32, seed=options.seed)
    recipe = Recipe(epochs=options.epochs, lr=0.05, weight_decay=5e-4, seed=options.seed)
    network = resnet20(num_classes=10)
    final = finetune(network, data, recipe, on_progress=_tell).final
    if final is None:
        raise SystemExit("nothing was trained: --epochs is 0")
    facts = {
        "made_by": "benchmarks/train_digits.py",
        "data": "scikit-learn load_digits, 32 × 32, every fourth image of each digit held back",
        "top1": f"{final.top1:.4f}",
        "images": str(final.count),
        "seed": str(options.seed),
        "epochs": str(options.epochs),
        "threads": str(options.threads),
        "torch": torch.__version__,
        "processor": platform.machine(),
    }
    write_safetensors(options.out, network.state_dict(), facts)
    print(f"{100 * final.top1:.2f} % of {final.count} held-back images -> {options.out}")


def _tell(progress: Progress) -> None:
    if progress.finished is not None:
        epoch = progress.finished
        top1 = 100 * epoch.validation.top1
        print(f"epoch {epoch.number:3}/{progress.epochs}  loss {epoch.loss:.4f}  held back {top1:.2f} %", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESNET20_DIGITS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
