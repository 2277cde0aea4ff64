"""A layer as the hardware sees it: its operator and sizes, no weights and no name."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import Literal, get_args

Kind = Literal["conv", "linear", "norm", "activation", "add", "mul", "cat", "pool"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One operator with its geometry and widths: the key of every latency table.

    Equal layers cost the same wherever they stand in a network. ``conv`` and ``linear`` have both widths;
    the other kinds work channel by channel and have ``c_in == c_out``.

    Attributes:
        kind: the operator family.
        c_in: input channels (linear: input features).
        c_out: output channels.
        batch: images at once.
        size: spatial size of the input, () for a linear layer on (batch, features); a linear layer on
            (batch, tokens, features) has size (tokens,).
        kernel, stride, padding, dilation: one entry per spatial dimension, () where there is none.
        group_width: input channels per convolution group; 0 means one group. Depthwise is 1.
        variant: which function of the family: "relu", "hardswish", "max", "avg", "adaptive_avg", "batch_norm";
            for "conv" and "linear" "" or "bias".
        out_size: spatial size of the output.
    """

    kind: Kind
    c_in: int
    c_out: int
    batch: int = 1
    size: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    group_width: int = 0
    variant: str = ""
    out_size: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Convolution groups at the present width.

        >>> Layer("conv", 128, 128, group_width=4).groups, Layer("conv", 128, 64).groups
        (32, 1)
        """
        return self.c_in // self.group_width if self.group_width else 1

    @property
    def geometry(self) -> Layer:
        """The same layer with its widths struck out: what two widths of one layer share."""
        return replace(self, c_in=0, c_out=0)

    def at(self, c_in: int, c_out: int) -> Layer:
        """The same layer at other widths."""
        return replace(self, c_in=c_in, c_out=c_out)

    @property
    def key(self) -> tuple[object, ...]:
        """Plain values in field order, for storage."""
        return astuple(self)

    def __str__(self) -> str:
        """Short, for messages.

        >>> str(Layer("conv", 64, 128, size=(56, 56), kernel=(3, 3), stride=(2, 2)))
        'conv 64→128 3×3/2 on 56×56'
        """
        kernel = f" {'×'.join(map(str, self.kernel))}" if self.kernel else ""
        stride = f"/{self.stride[0]}" if self.stride and self.stride[0] != 1 else ""
        groups = f" groups of {self.group_width}" if self.group_width else ""
        size = f" on {'×'.join(map(str, self.size))}" if self.size else ""
        batch = f" batch {self.batch}" if self.batch != 1 else ""
        variant = f" {self.variant}" if self.variant not in ("", "bias") else ""
        return f"{self.kind}{variant} {self.c_in}→{self.c_out}{kernel}{stride}{groups}{size}{batch}"
