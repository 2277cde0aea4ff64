"""The law for concatenation and stacking, for orders of channels, and for padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.graph.laws import Case, Net, check, keeps, pins


def convs(**widths: int) -> dict[str, nn.Module]:
    """Pointwise convolutions from three channels to the given widths, by name."""
    return {name: nn.Conv2d(3, width, 1) for name, width in widths.items()}


JOINS = {
    "cat_with_itself": keeps(lambda t: torch.cat([t, t * 2], 1)),
    "cat_of_different_maps": Case(
        lambda: Net(
            lambda n, x: n.d(torch.cat([n.a(x), n.b(x), n.c(x)], 1)), d=nn.Conv2d(15, 2, 1), **convs(a=4, b=6, c=5)
        ),
        free="a:4 b:6 c:5",
    ),
    "cat_of_flattened_maps": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x).flatten(1), n.b(x).flatten(1)], 1)),
            c=nn.Linear(160, 2),
            **convs(a=4, b=6),
        ),
        free="a:4 b:6",
    ),
    "flattened_cat": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1).flatten(1)), c=nn.Linear(160, 2), **convs(a=4, b=6)
        ),
        free="a:4 b:6",
    ),
    "cat_in_space": Case(
        lambda: Net(lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 2)), c=nn.Conv2d(6, 2, 1), **convs(a=6, b=6)),
        free="a:6",
    ),
    "cat_with_the_input": Case(
        lambda: Net(lambda n, x: n.c(torch.cat([x, n.a(x)], 1)), c=nn.Conv2d(9, 2, 1), **convs(a=6)), free="a:6"
    ),
    "cat_with_a_constant": keeps(lambda t: torch.cat([t, torch.ones_like(t[:, :1])], 1)),
    "cat_with_a_token": Case(
        lambda: Net(
            lambda n, x: n.b(torch.cat([n.token.expand(2, -1, -1), n.a(x).flatten(2).transpose(1, 2)], 1)),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Linear(8, 2),
            token=nn.Parameter(torch.randn(1, 1, 8)),
        ),
        free="token:8",
    ),
    "cat_and_split_again": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1).chunk(2, 1)[1]), c=nn.Conv2d(6, 2, 1), **convs(a=6, b=6)
        ),
        free="a:6",
    ),
    "stack_and_sum": Case(
        lambda: Net(lambda n, x: n.c(torch.stack([n.a(x), n.b(x)]).sum(0)), c=nn.Conv2d(6, 2, 1), **convs(a=6, b=6)),
        free="a:6",
    ),
    "stack_in_front_of_the_channels": keeps(lambda t: torch.stack([t, t.exp()], 1).flatten(1, 2), free="a:8"),
    "stack_behind_the_channels": keeps(lambda t: torch.stack([t, t.exp()], 2).flatten(1, 2), free="a:8"),
    "stack_at_the_end": keeps(lambda t: torch.stack([t, t.exp()], -1).mean(-1)),
    "c2f": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([*(y := n.a(x).chunk(2, 1)), z := n.m(y[-1]), n.m(z)], 1)),
            a=nn.Conv2d(3, 8, 1),
            m=nn.Conv2d(4, 4, 3, padding=1),
            c=nn.Conv2d(16, 2, 1),
        ),
        free="a:4",
    ),
    "c2f_by_lists": Case(
        lambda: Net(
            c2f_by_lists,
            a=nn.Conv2d(3, 8, 1),
            m=nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2)),
            c=nn.Conv2d(16, 2, 1),
        ),
        free="a:4",
    ),
    "c2f_by_split": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([*(y := n.a(x).split((n.w, n.w), 1)), n.m(y[1])], 1)),
            a=nn.Conv2d(3, 8, 1),
            m=nn.Conv2d(4, 4, 3, padding=1),
            c=nn.Conv2d(12, 2, 1),
            w=4,
        ),
        free="a:4",
    ),
}


ORDERS = {
    "flip": keeps(lambda t: t.flip(1)),
    "flip_of_all": keeps(lambda t: t.flip(1, 2, 3)),
    "add_of_flipped": keeps(lambda t: t + t.flip(1), free="a:4"),
    "roll": pins(lambda t: t.roll(1, 1), "is rolled"),
    "add_of_rolled": pins(lambda t: t + t.roll(1, 1), "is rolled"),
    "roll_in_space": keeps(lambda t: t.roll((1, -1), (2, 3))),
    "roll_of_everything": pins(lambda t: t.roll(1), "is rolled"),
    "softmax_of_channels": pins(lambda t: t.softmax(1), "mixed over all"),
    "softmax_in_space": keeps(lambda t: t.flatten(2).softmax(-1)),
    "cumsum_of_channels": pins(lambda t: t.cumsum(1), "mixed over all"),
    "cumsum_in_space": keeps(lambda t: t.cumsum(2)),
    "cummax_in_space": keeps(lambda t: t.cummax(2)[0]),
}


PADS = {
    **{
        f"{mode}_pad": keeps(lambda t, mode=mode: functional.pad(t, (1, 1, 2, 0), mode=mode))
        for mode in ("constant", "reflect", "replicate", "circular")
    },
    **{
        f"{mode}_convolution": Case(
            lambda mode=mode: nn.Sequential(
                nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 3, padding=1, padding_mode=mode), nn.Conv2d(5, 2, 1)
            ),
            free="0:8 1:5",
        )
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    "crop": keeps(lambda t: functional.pad(t, (-1, 0, -1, -1))),
    "same_padding": Case(lambda: nn.Sequential(nn.Conv2d(3, 8, 4, padding="same"), nn.Conv2d(8, 2, 1)), free="0:8"),
    "signal": keeps(lambda t: functional.pad(t, (1, 2), mode="reflect"), rank=3),
    "volume": keeps(lambda t: functional.pad(t, (1, 0, 1, 0, 2, 1), mode="replicate"), rank=5),
    "channels_by_module": keeps(nn.ConstantPad3d((0, 0, 0, 0, 2, 1), 1.0)),
    "channels_by_literals": keeps(lambda t: functional.pad(t, (0, 0, 0, 0, 2, 1))),
    "channels_cropped": pins(lambda t: functional.pad(t, (0, 0, 0, 0, -2, 0)), "cropped"),
    "channels_by_shape": keeps(lambda t: functional.pad(t, (0, 0, 0, 0, 0, t.shape[1])), free=""),
}


def c2f_by_lists(net: Net, x: Tensor) -> Tensor:
    """YOLOv8's block as it is written there."""
    y = list(net.a(x).chunk(2, 1))
    y.extend(m(y[-1]) for m in net.m)
    return net.c(torch.cat(y, 1))


@pytest.mark.parametrize("name", JOINS)
def test_joins_keep_the_law(name: str) -> None:
    check(JOINS[name])


@pytest.mark.parametrize("name", ORDERS)
def test_orders_keep_the_law(name: str) -> None:
    check(ORDERS[name])


@pytest.mark.parametrize("name", PADS)
def test_padding_keeps_the_law(name: str) -> None:
    check(PADS[name])
