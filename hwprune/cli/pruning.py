"""``hwprune prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hwprune.cli.choosing import (
    CHANNELS,
    PRECISIONS,
    AttentionOption,
    ConvGroupsOption,
    MultipleOfOption,
    chosen,
    multiples,
)
from hwprune.cli.opening import Origin
from hwprune.cli.starting import resumed, started
from hwprune.cli.summary import show_results
from hwprune.cost.normalisation import Normalisation
from hwprune.errors import HwpruneError
from hwprune.latency.choosing import Method
from hwprune.loop.deployment import Further
from hwprune.loop.group_fisher import GroupFisher
from hwprune.loop.settings import Search, Settings, Spacing, Way
from hwprune.recovery.recipe import Recipe
from hwprune.search.objective import Objective
from hwprune.target import Target

Text = typer.Option
ENGINES, TUNING = "The engines", "Accuracy got back"
FIELD = "The methods (`hwprune methods` lists them)"


def prune(
    model: Annotated[str, typer.Argument(help="resnet50, torchvision:NAME, timm:NAME or package.module:factory")] = "",
    target: Annotated[
        str,
        Text(help="60%, 1.5ms, macs:2G, params:50%, memory:4M (counted elements); several make a curve: 90%,75%,60%"),
    ] = "",
    max_memory: Annotated[
        str, Text(help="second bound, on what the engine is measured to take for activations: 60%, 12MiB")
    ] = "",
    data: Annotated[str, Text(help="npz:PATH, cifar10:PATH, imagefolder:PATH, digits, package.module:factory")] = "",
    weights: Annotated[str, Text(help="safetensors file, or DEFAULT for the published weights")] = "",
    device: Annotated[
        list[str] | None,
        Text(help="cpu, cuda, rtx3090; again for a further one: cpu,runtime=openvino,batch=8,target=70%"),
    ] = None,
    out: Annotated[Path | None, Text(help="run directory; default runs/MODEL-DEVICE")] = None,
    resume: Annotated[Path | None, Text(help="go on with this run; nothing else is needed")] = None,
    force: Annotated[bool, Text("--force", help="replace a run in the same directory")] = False,
    as_json: Annotated[bool, Text("--json", help="print one JSON document")] = False,
    runtime: Annotated[
        str | None, Text(help="onnxruntime, pytorch, openvino, tensorrt, tensorrt_rtx", rich_help_panel=ENGINES)
    ] = None,
    precision: Annotated[str | None, Text(help=PRECISIONS, rich_help_panel=ENGINES)] = None,
    batch: Annotated[int, Text(help="images at once in deployment", rich_help_panel=ENGINES)] = 1,
    threads: Annotated[int, Text(help="of a runtime on the CPU", rich_help_panel=ENGINES)] = 1,
    table: Annotated[
        str, Text(help="latency table; default: the user's own, else one that ships", rich_help_panel=ENGINES)
    ] = "",
    method: Annotated[
        Method | None,
        Text(
            help="of what the table lacks; default: in-context on TensorRT and ONNX Runtime, else isolated",
            rich_help_panel=ENGINES,
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        Text(help="further device to build every engine for; repeatable", rich_help_panel=ENGINES),
    ] = None,
    engine_timeout: Annotated[
        float, Text(help="seconds after which a builder is stopped", rich_help_panel=ENGINES)
    ] = 600.0,
    importance: Annotated[
        str,
        Text(
            help="obs (default), fisher, hessian,probes=4, or your own: package.module:factory", rich_help_panel=FIELD
        ),
    ] = "",
    compensate: Annotated[
        bool,
        Text(
            "--compensate/--no-compensate",
            help="let layers take over what removed channels told them",
            rich_help_panel=CHANNELS,
        ),
    ] = True,
    normalisation: Annotated[
        Normalisation | None,
        Text(
            help="what importance is divided by; default: latency, memory with group-fisher", rich_help_panel=CHANNELS
        ),
    ] = None,
    way: Annotated[
        Way,
        Text(
            "--recipe",
            help="milestones, or group-fisher: channel by channel while the weights train, as its paper does it",
            rich_help_panel=CHANNELS,
        ),
    ] = "milestones",
    fisher_interval: Annotated[
        int, Text(help="training steps from one removal to the next, of group-fisher", rich_help_panel=CHANNELS)
    ] = 25,
    fisher_channels: Annotated[
        int, Text(help="coupled channels that go at once, of group-fisher", rich_help_panel=CHANNELS)
    ] = 1,
    fisher_lr: Annotated[
        float, Text(help="learning rate on the way down, of group-fisher", rich_help_panel=CHANNELS)
    ] = 0.004,
    search: Annotated[
        Search, Text(help="exact proves how near to the best the widths are", rich_help_panel=CHANNELS)
    ] = "greedy",
    objective: Annotated[
        Objective,
        Text(help="the search's: loss at once, over what groups keep, or shares of layers", rich_help_panel=CHANNELS),
    ] = "loss",
    multiple: Annotated[
        int, Text(help="widths are multiples of this; 0 chooses by the device", rich_help_panel=CHANNELS)
    ] = 0,
    multiple_of: MultipleOfOption = None,
    min_width: Annotated[int, Text(help="no group keeps fewer channels", rich_help_panel=CHANNELS)] = 1,
    exclude: Annotated[
        list[str] | None,
        Text(help="pattern of module names whose channels stay; repeatable", rich_help_panel=CHANNELS),
    ] = None,
    conv_groups: ConvGroupsOption = "whole",
    attention: AttentionOption = "heads",
    milestones: Annotated[
        int, Text(help="steps down to the target; 0 chooses by the distance", rich_help_panel=CHANNELS)
    ] = 0,
    spacing: Annotated[
        Spacing,
        Text(help="of those steps: equal shares, equal amounts, or most at first", rich_help_panel=CHANNELS),
    ] = "proportion",
    milestone_steps: Annotated[int, Text(help="of training after each step down", rich_help_panel=CHANNELS)] = 0,
    damping_steps: Annotated[
        int, Text(help="of training in which what goes fades, instead of a cut at once", rich_help_panel=CHANNELS)
    ] = 0,
    allocation: Annotated[
        str, Text(help="widths by epruner, genetic, ... in place of the search", rich_help_panel=FIELD)
    ] = "",
    inheritance: Annotated[
        str, Text(help="channels of the found widths chosen anew: adaptive, exemplar", rich_help_panel=FIELD)
    ] = "",
    transform: Annotated[
        str,
        Text(help="filter-group-approximation, of layers that are measured to be faster so", rich_help_panel=FIELD),
    ] = "",
    regularizer: Annotated[
        str, Text(help="training under orthoreg, slimming, greg1, increg, sfp, ...", rich_help_panel=FIELD)
    ] = "",
    regularizer_steps: Annotated[
        int, Text(help="of that training; 0 takes one pass over the images", rich_help_panel=FIELD)
    ] = 0,
    tries: Annotated[
        int, Text(help="candidates at the target until one is measured to meet it", rich_help_panel=CHANNELS)
    ] = 6,
    proposals: Annotated[
        int, Text(help="networks at the target, each trained a little; the best goes on", rich_help_panel=CHANNELS)
    ] = 1,
    proposal_steps: Annotated[int, Text(help="of training of each", rich_help_panel=CHANNELS)] = 100,
    epochs: Annotated[int, Text(help="of fine-tuning; 0 leaves it out", rich_help_panel=TUNING)] = 20,
    max_steps: Annotated[int | None, Text(help="of fine-tuning at most", rich_help_panel=TUNING)] = None,
    lr: Annotated[float, Text(help="highest learning rate; 1e-3 suits adamw", rich_help_panel=TUNING)] = 0.02,
    optimizer: Annotated[Literal["sgd", "adamw"], Text(help="of fine-tuning", rich_help_panel=TUNING)] = "sgd",
    distill: Annotated[
        float, Text(help="share of the loss that is the distance to the dense network", rich_help_panel=TUNING)
    ] = 0.0,
    batch_size: Annotated[int, Text(help="of training and validation", rich_help_panel=TUNING)] = 128,
    num_classes: Annotated[int, Text(help="outputs of the network; 0 keeps its own", rich_help_panel=TUNING)] = 0,
    workers: Annotated[int, Text(help="processes that read image files", rich_help_panel=TUNING)] = 0,
    seed: Annotated[int, Text(help="of everything random", rich_help_panel=TUNING)] = 0,
) -> None:
    """Prune MODEL until it meets the target on the device, fine-tune it and certify the speed-up."""
    if resume is not None:
        show_results(resumed(resume), as_json=as_json)
        return
    for name, value in (("MODEL", model), ("--target", target), ("--data", data)):
        if not value:
            raise HwpruneError(f"{name} is missing", fix="hwprune prune MODEL --target 60% --data cifar10:PATH")
    Target.parse_all(target)
    recipe = Recipe(epochs=epochs, max_steps=max_steps, lr=lr, optimizer=optimizer, distill=distill, seed=seed)
    first, *others = device or ["cpu"]
    settings = Settings(
        target=target,
        device=first,
        runtime=runtime,
        precision=precision,
        threads=threads,
        batch=batch,
        importance=importance,
        compensate=compensate,
        normalisation=normalisation or ("memory" if way == "group-fisher" else "latency"),
        way=way,
        group_fisher=GroupFisher(fisher_interval, fisher_channels, fisher_lr),
        search=search,
        objective=objective,
        multiple=multiple,
        multiples=multiples(multiple_of),
        min_width=min_width,
        exclude=tuple(exclude or ()),
        choices=chosen(conv_groups, attention),
        milestones=milestones,
        spacing=spacing,
        milestone_steps=milestone_steps,
        damping_steps=damping_steps,
        allocation=allocation,
        inheritance=inheritance,
        transform=transform,
        regularizer=regularizer,
        regularizer_steps=regularizer_steps,
        tries=tries,
        proposals=proposals,
        proposal_steps=proposal_steps,
        engines=tuple(engine or ()),
        engine_timeout_s=engine_timeout,
        recipe=recipe,
        seed=seed,
        max_memory=max_memory,
        method=method or "",
        further=tuple(Further.parse(other, Further(first, threads=threads, batch=batch)) for other in others),
    )
    origin = Origin(model, weights, data, batch_size, workers, seed, num_classes, table)
    name = model.rpartition(":")[2]
    show_results(started(origin, settings, out or Path("runs") / f"{name}-{first}", force=force), as_json=as_json)
