"""``hwprune quickstart``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import typer

import hwprune.models
from hwprune.cli import show
from hwprune.cli.opening import Origin
from hwprune.cli.starting import started
from hwprune.cli.summary import show_results
from hwprune.errors import HwpruneError, MissingPackageError
from hwprune.loop.settings import Settings
from hwprune.recovery.recipe import Recipe

MODEL = "hwprune.models.cifar_resnet:resnet20"
WEIGHTS = Path(hwprune.models.__file__).with_name("resnet20_digits.safetensors")


def quickstart(
    data: Annotated[str, typer.Option(help="digits, or cifar10:PATH with --weights")] = "digits",
    weights: Annotated[str, typer.Option(help="of a CIFAR ResNet; default: the digits' own")] = "",
    model: Annotated[str, typer.Option(help="a network for 32 x 32 images")] = MODEL,
    target: Annotated[str, typer.Option(help="share of the dense latency")] = "60%",
    epochs: Annotated[int, typer.Option(help="of fine-tuning")] = 12,
    out: Annotated[Path, typer.Option(help="run directory")] = Path("runs/quickstart"),
    force: Annotated[bool, typer.Option("--force", help="replace a run in the same directory")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Prune a small real network on real images to 60 % of its latency on this machine's CPU; nothing to download.

    Every candidate also gets a TensorRT-RTX engine for an RTX 3090 where tensorrt-rtx is installed; building it needs
    no GPU.
    """
    if data != "digits" and not weights:
        raise HwpruneError("--data needs the weights of a network trained on it", fix="pass --weights FILE.safetensors")
    if find_spec("onnxruntime") is None:
        raise MissingPackageError("onnxruntime", extra="onnxruntime", needed_for="the quickstart measures with it")
    engines = ("rtx3090",) if find_spec("tensorrt_rtx") is not None else ()
    if not engines:
        show.ERR.print("tensorrt-rtx is not installed: engines for the RTX 3090 are left out", style="yellow")
    torch.set_num_threads(max(1, torch.get_num_threads()))
    origin = Origin(model, weights or str(WEIGHTS), data, table=str(out / "table.parquet"))
    recipe = Recipe(epochs=epochs, distill=0.5)
    # Of this network layer by layer takes a quarter of the time, and is off by a percent.
    settings = Settings(target, runtime="onnxruntime", method="isolated", engines=engines, recipe=recipe)
    show_results(started(origin, settings, out, force=force), as_json=as_json)
