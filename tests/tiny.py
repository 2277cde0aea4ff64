"""A network and images so small that a whole run takes seconds, in this process and in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
CLASSES = 4
SIDE = 24
REFERENCE = "tests.tiny:network"


def network(num_classes: int = CLASSES) -> nn.Module:
    """Three convolutions, the last two of them worth pruning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 48), (48, 48)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, num_classes)).eval()


network.input_shape = (3, SIDE, SIDE)  # type: ignore[attr-defined]


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, side, side, 3), every class of another brightness, and labels (n,)."""
    labels = np.arange(count) % CLASSES
    noise = np.random.default_rng(0).integers(0, 60, (count, SIDE, SIDE, 3))
    return (noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels


def save_pictures(path: Path, count: int = 48) -> str:
    """Write them as an npz file; returns what --data takes."""
    images, labels = pictures(count)
    np.savez(path, images=images, labels=labels)
    return f"npz:{path}"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, locks aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def heed_ctrl_c() -> None:
    """For a child process: shells start what runs in their background deaf to Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object) -> subprocess.Popen[str]:
    """``hwprune ARGUMENTS`` in a process of its own that finds this module, with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "hwprune.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        preexec_fn=heed_ctrl_c,  # nothing else runs in this process's threads between fork and exec
    )
