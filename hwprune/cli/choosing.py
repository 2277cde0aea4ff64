"""Options about coupling and widths that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from hwprune.errors import HwpruneError
from hwprune.graph.choices import Choices

# Titles of panels in --help.
RARE = "Rarely needed"
CHANNELS = "Which channels go"
PRECISIONS = "fp32, tf32, fp16, bf16, int8, fp8: what the runtime has"

ConvGroupsOption = Annotated[
    Literal["whole", "offsets"],
    typer.Option(
        help="grouped convolutions lose whole groups, or the same offset in every group", rich_help_panel=CHANNELS
    ),
]
AttentionOption = Annotated[
    Literal["heads", "head-dims"],
    typer.Option(help="attention loses whole heads, or the same dimension of every head", rich_help_panel=CHANNELS),
]
MultipleOfOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN=N",
        help="multiple of the groups whose names match, such as 'layer1.*=8'; repeatable",
        rich_help_panel=CHANNELS,
    ),
]


def chosen(
    conv_groups: Literal["whole", "offsets"], attention: Literal["heads", "head-dims"], *, free_inputs: bool = False
) -> Choices:
    """The options as `Choices`."""
    return Choices(conv_groups, "heads" if attention == "heads" else "head_dims", free_inputs)


def multiples(texts: Sequence[str] | None) -> dict[str, int]:
    """Pattern of group names -> multiple.

    Raises `HwpruneError` for a text of another form.

    >>> multiples(["layer1.*=8", "fc=16"])
    {'layer1.*': 8, 'fc': 16}
    """
    found = {}
    for text in texts or ():
        pattern, _, number = text.rpartition("=")
        if not pattern or not number.isdecimal():
            raise HwpruneError(
                f"cannot read --multiple-of {text!r}", fix="write it as 'PATTERN=N', such as 'layer1.*=8'"
            )
        found[pattern] = int(number)
    return found
