"""``hwprune inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hwprune.cli import drawing, show
from hwprune.cli.choosing import AttentionOption, ConvGroupsOption, chosen
from hwprune.cli.coupled import PINNED_COLUMNS, free_table, pinned_rows, split_reason
from hwprune.cost.shares import Share, free_share, shares
from hwprune.cost.work import Work, parameter_names, work
from hwprune.errors import HwpruneError
from hwprune.files import write_atomically
from hwprune.graph.coupling import analyze
from hwprune.graph.drawing import dot as picture
from hwprune.graph.network import ChannelGroup, Network
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.units import format_count, format_percent

CAPTION = (
    "MACs, activations: the share of the network's that goes when this group alone is cut to one channel "
    "(activations: the outputs of convolutions). A layer between two groups counts for both."
)


def inspect(
    model: Annotated[str, typer.Argument(help="resnet50, torchvision:NAME, timm:NAME or package.module:factory")],
    input_shape: Annotated[str, typer.Option("--input", help="such as 1x3x224x224; default: the model's own")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="pattern of module names whose channels stay")] = None,
    conv_groups: ConvGroupsOption = "whole",
    attention: AttentionOption = "heads",
    free_inputs: Annotated[
        bool, typer.Option("--free-inputs", help="channels of the network's own inputs may go too")
    ] = False,
    dot: Annotated[Path | None, typer.Option(help="draw the coupling into this file, as Graphviz text")] = None,
    svg: Annotated[Path | None, typer.Option(help="draw the coupling into this file; needs Graphviz")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Show MODEL's channel groups, their widths, what is pinned and why, and the network's work.

    The shares of MACs and activations beside a group are what goes when that group alone is cut to one channel.
    """
    if svg is not None:
        drawing.layout_program()  # before anything takes time
    network_module = load_model(model)
    shape = _shape(input_shape) if input_shape else (1, *describe_inputs(model))
    network = analyze(
        network_module,
        torch.zeros(shape),
        exclude=tuple(exclude or ()),
        choices=chosen(conv_groups, attention, free_inputs=free_inputs),
        model_reference=model,
    )
    parameters = parameter_names(network_module)
    total, held = work(network, parameters), shares(network, parameters)
    free = free_share(network, parameters)
    if dot is not None:
        write_atomically(dot, picture(network).encode())
    if svg is not None:
        drawing.write_svg(picture(network), svg)
    if as_json:
        show.as_json(_document(model, network, total, held, free))
        return
    columns, rows = free_table(network, held, show.OUT.width)
    show.table(f"{model}: groups whose channels may go", columns, rows, caption=CAPTION)
    show.table("pinned", PINNED_COLUMNS, pinned_rows(network))
    show.prose(_totals(network, total, free, shape))
    for file in filter(None, (dot, svg)):
        show.line(f"picture: {file}")


def _totals(network: Network, total: Work, free: float, shape: tuple[int, ...]) -> str:
    facts = [
        f"{format_count(total.macs)} MACs, {format_count(total.parameters)} parameters, "
        f"{format_count(total.activation_elements)} activation elements (convolution outputs) at input {shape}",
        f"{len(network.free)} groups may go, {format_percent(free)} of the parameters with them",
    ]
    if count := len(network.spanning):
        one = "1 call spans channels (a norm, a mean) and runs"
        calls = one if count == 1 else f"{count} calls span channels (norms, means) and run"
        facts.append(f"{calls} over those that stay")
    if count := len(network.attributes):
        repaired = "1 integer attribute is" if count == 1 else f"{count} integer attributes are"
        facts.append(f"{repaired} repaired in the cut (--json lists them)")
    return "; ".join(facts)


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise HwpruneError(f"cannot read the input shape {text!r}", fix="write it as 1x3x224x224, batch first")
    return sizes


def _document(model: str, network: Network, total: Work, held: dict[str, Share], free: float) -> dict[str, Any]:
    return {
        "model": model,
        "input_shapes": network.input_shapes,
        "choices": {name: getattr(network.choices, name) for name in ("conv_groups", "attention", "free_inputs")},
        "macs": total.macs,
        "parameters": total.parameters,
        "activation_elements": total.activation_elements,
        "free_parameters_share": free,
        "traced_on": network.trace.method,
        "groups": [_group(group, held.get(group.name)) for group in network.groups],
        "spanning": [{"module": span.module, "why": span.why} for span in network.spanning],
        "repaired": [
            {"module": a.module, "attribute": a.name, "item": a.item, "value": a.dense} for a in network.attributes
        ],
        "unwatched": network.unwatched,
    }


def _group(group: ChannelGroup, share: Share | None) -> dict[str, Any]:
    return {
        "name": group.name,
        "width": group.width,
        "pinned": group.pinned,
        "operator": split_reason(group.pinned)[1] if group.pinned else None,
        "members": group.members,
        "consumers": group.consumers,
        "macs_share": None if share is None else share.macs,
        "parameters_share": None if share is None else share.parameters,
        "activation_share": None if share is None else share.activation_elements,
        "slots": [{"parameter": s.parameter, "dim": s.dim, "per_channel": s.indices.shape[1]} for s in group.slots],
    }
