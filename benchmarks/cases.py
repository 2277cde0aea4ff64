"""Trained networks and their data, for the scripts that compare accuracy; neither is in the repository.

ResNet-20 and -56 classify CIFAR-10. MobileNetV2 classifies ten classes of ImageNet at 160 pixels with ten rows of its
own classifier; its published weights were trained on pictures turned by 180 degrees, so all pictures are turned.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

import hwprune
from hwprune.data.batches import Batch, Batches, Data
from hwprune.models.resolve import load_model

PADDED = ("resnet20", "resnet56")  # whose shortcuts add channels of zeros


@dataclass(frozen=True)
class Case:
    """A trained network, its data, and a recipe for the size of its batches."""

    name: str
    model: nn.Module
    data: Data
    batches: int
    lr: float


@dataclass(frozen=True)
class Turned:
    """Batches with every picture turned by 180 degrees."""

    upright: Batches

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        for pictures, labels in self.upright.epoch(number):
            yield pictures.flip(-1, -2), labels

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return len(self.upright)


@dataclass(frozen=True)
class First:
    """The first batch alone: pruning and fine-tuning validate on their way, which takes longer than they do where they
    are short.
    """

    all_of: Batches

    def epoch(self, number: int) -> Iterator[Batch]:
        """That batch."""
        yield next(self.all_of.epoch(number))

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __len__(self) -> int:
        return 1


def add_files(parser: argparse.ArgumentParser) -> None:
    """Options that say where the files are; a network whose files are not given is left out."""
    parser.add_argument("--cifar", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--resnet20", type=Path, help="safetensors file of the dense ResNet-20")
    parser.add_argument("--resnet56", type=Path, help="safetensors file of the dense ResNet-56")
    parser.add_argument("--imagenette", type=Path, help="folder with train/, val/ and index.csv (wnid, class_index)")
    parser.add_argument("--mobilenet-v2", type=Path, help="safetensors file of torchvision's MobileNetV2")


def given(options: argparse.Namespace) -> list[str]:
    """Networks whose files are given."""
    needed = {
        "resnet20": (options.cifar, options.resnet20),
        "resnet56": (options.cifar, options.resnet56),
        "mobilenet_v2": (options.imagenette, options.mobilenet_v2),
    }
    return [name for name, files in needed.items() if all(files)]


def opened(name: str, options: argparse.Namespace, seed: int) -> Case:
    """The network of that name with its data, whose order the seed decides."""
    if name == "mobilenet_v2":
        return _mobilenet_v2(options, seed)
    model = load_model(f"hwprune.models.cifar_resnet:{name}", weights=getattr(options, name))
    return Case(name, model, hwprune.load_data(f"cifar10:{options.cifar}", seed=seed), batches=8, lr=0.02)


def _mobilenet_v2(options: argparse.Namespace, seed: int) -> Case:
    """MobileNetV2 with the ten rows of its classifier that the pictures' classes have."""
    model = load_model("mobilenet_v2", weights=options.mobilenet_v2)
    folder = Path(options.imagenette)
    lines = (folder / "index.csv").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    numbers = {row["wnid"]: int(row["class_index"]) for row in rows}
    chosen = [number for _, number in sorted(numbers.items())]  # folders are classes in the order of their names
    known = model.classifier[1]
    model.classifier[1] = nn.Linear(known.in_features, len(chosen))
    model.classifier[1].load_state_dict({"weight": known.weight[chosen], "bias": known.bias[chosen]})
    halves = (0.5, 0.5, 0.5)
    data = hwprune.load_data(
        f"imagefolder:{folder}", batch_size=32, input_shape=(3, 160, 160), seed=seed, mean=halves, std=halves
    )
    turned = {part: Turned(getattr(data, part)) for part in ("train", "validation", "calibration")}
    return Case("mobilenet_v2", model.eval(), replace(data, **turned), batches=16, lr=0.005)
