"""``hwprune inspect``."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import typer

from hwprune.cli import show
from hwprune.cost.work import parameter_names, work
from hwprune.errors import HwpruneError, listed
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.units import format_count

MOST_MODULES = 3  # named per cell; --json has them all


def inspect(
    model: Annotated[str, typer.Argument(help="resnet50, torchvision:NAME, timm:NAME or package.module:factory")],
    input_shape: Annotated[str, typer.Option("--input", help="such as 1x3x224x224; default: the model's own")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="pattern of module names whose channels stay")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Show MODEL's channel groups, their widths, what is pinned and why, and the network's work."""
    network_module = load_model(model)
    shape = _shape(input_shape) if input_shape else (1, *describe_inputs(model))
    network = analyze(network_module, torch.zeros(shape), exclude=tuple(exclude or ()), model_reference=model)
    total = work(network, parameter_names(network_module))
    if as_json:
        show.as_json(
            {
                "model": model,
                "input_shapes": network.input_shapes,
                "macs": total.macs,
                "parameters": total.parameters,
                "activation_elements": total.activation_elements,
                "traced_on": network.trace.method,
                "groups": [_document(network, group.name) for group in network.groups],
            }
        )
        return
    free = [(g.name, str(g.width), _short(g.members), _short(g.consumers)) for g in network.free]
    show.table(f"{model}: groups whose channels may go", ("group", "width", "made or scaled by", "read by"), free)
    pinned = [(g.name, str(g.width), _short(g.members), g.pinned or "") for g in network.groups if g.pinned]
    show.table("pinned", ("group", "width", "modules", "why it stays"), pinned)
    show.line(
        f"{format_count(total.macs)} MACs, {format_count(total.parameters)} parameters, "
        f"{format_count(total.activation_elements)} activation elements (convolution outputs) at input {shape}"
    )


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise HwpruneError(f"cannot read the input shape {text!r}", fix="write it as 1x3x224x224, batch first")
    return sizes


def _short(names: tuple[str, ...]) -> str:
    return listed(names, most=MOST_MODULES)


def _document(network: Network, name: str) -> dict[str, Any]:
    group = network.group(name)
    return {
        "name": group.name,
        "width": group.width,
        "pinned": group.pinned,
        "members": group.members,
        "consumers": group.consumers,
        "slots": [{"parameter": s.parameter, "dim": s.dim, "per_channel": s.indices.shape[1]} for s in group.slots],
    }
