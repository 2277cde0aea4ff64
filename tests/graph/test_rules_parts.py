"""The law for parts of the channel dimension: splits, slices, indices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.graph.laws import Case, Net, check, keeps, pins

FLOPPED = torch.tensor([7, 6, 5, 4, 3, 2, 1, 0])


def halves(t: Tensor) -> tuple[Tensor, Tensor]:
    half = t.shape[1] // 2
    return t[:, :half], t[:, half:]


SPLITS = {
    "chunk": keeps(lambda t: torch.mul(*t.chunk(2, 1)), free="a:4"),
    "chunk_in_four": keeps(lambda t: torch.cat(t.chunk(4, 1)[::-1], 1)),
    "chunk_one_used": keeps(lambda t: t.chunk(2, 1)[1]),
    "chunk_uneven": Case(
        lambda: Net(
            lambda n, x: sum(f(t) for f, t in zip((n.b, n.c, n.d), n.a(x).chunk(3, 1), strict=True)),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(3, 2, 1),
            c=nn.Conv2d(3, 2, 1),
            d=nn.Conv2d(2, 2, 1),
        )
    ),
    "split_equal": keeps(lambda t: torch.add(*t.split(t.shape[1] // 2, 1)), free="a:4"),
    "split_unequal_by_attribute": Case(
        lambda: Net(
            lambda n, x: n.b(n.a(x).split(n.sizes, 1)[0]) + n.c(n.a(x).split(n.sizes, 1)[1]),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(3, 2, 1),
            c=nn.Conv2d(5, 2, 1),
            sizes=[3, 5],
        ),
        free="a:3 a#2:5",
    ),
    "split_unequal_by_literals": Case(
        lambda: Net(lambda n, x: n.b(n.a(x).split([3, 5], 1)[0]), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(3, 2, 1)),
        stays="a",
    ),
    "split_of_space": keeps(lambda t: torch.add(*t.split(2, 3))),
    "tensor_split": keeps(lambda t: torch.cat(t.tensor_split(3, 2), 3 - 1)),
    "unbind_of_space": keeps(lambda t: t.unbind(2)[1]),
    "unbind_of_channels": pins(lambda t: torch.stack(t.unbind(1)[::-1], 1), "taken apart index by index"),
    "unbind_of_stacked": keeps(lambda t: torch.mul(*t.unflatten(1, (2, -1)).unbind(1)), free="a:4"),
    "glu": keeps(lambda t: functional.glu(t, 1), free="a:4"),
    "glu_module": Case(
        lambda: nn.Sequential(nn.Conv1d(3, 10, 1), nn.GLU(1), nn.Conv1d(5, 2, 1)),
        free="0:5",
        inputs=(torch.zeros(2, 3, 4),),
    ),
}


SLICES = {
    "halves": keeps(lambda t: torch.mul(*halves(t))),
    "one_half": keeps(lambda t: halves(t)[0], free=""),
    "swapped_halves": keeps(lambda t: torch.cat(halves(t)[::-1], 1), free=""),
    "evened": keeps(lambda t: t[:, : t.shape[1] - t.shape[1] % 2], free=""),
    "literal_half": pins(lambda t: t[:, :4], ""),
    "literal_part": pins(lambda t: t[:, 2:5], ""),
    "literal_parts_that_meet": pins(lambda t: t[:, :4] + t[:, 4:], ""),
    "literal_negative": pins(lambda t: t[:, -3:], ""),
    "strided": pins(lambda t: t[:, ::2], "slice with a step"),
    "strided_from_one": pins(lambda t: t[:, 1::2] * 2, "slice with a step"),
    "in_space": keeps(lambda t: t[:, :, 1:3, ::2]),
    "narrow": pins(lambda t: t.narrow(1, 1, 3), ""),
    "part_by_attribute": Case(
        lambda: Net(
            lambda n, x: torch.cat([n.b(n.a(x)[:, : n.part]), n.a(x)[:, n.part :]], 1).relu(),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(3, 3, 3, padding=1),
            part=3,
        ),
        free="a:3",
    ),
    "part_by_attribute_and_on": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.b(n.a(x)[:, : n.part]), n.a(x)[:, n.part :]], 1)),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(3, 3, 3, padding=1),
            c=nn.Conv2d(8, 2, 1),
            part=3,
        ),
        free="a a#2",
    ),
    "ghost": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(n.a(x))], 1)[:, : n.out]),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(4, 4, 3, padding=1, groups=4),
            c=nn.Conv2d(8, 2, 1),
            out=8,
        ),
        free="a",
    ),
    "ghost_that_drops": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(n.a(x))], 1)[:, : n.out]),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(4, 4, 3, padding=1, groups=4),
            c=nn.Conv2d(7, 2, 1),
            out=7,
        )
    ),
}


PICKS = {
    "select": pins(lambda t: torch.stack([t[:, 2], t[:, 0]], 1), "indexed by number"),
    "select_in_space": keeps(lambda t: t[:, :, 1]),
    "index_permutation": pins(lambda t: t[:, FLOPPED], "indexed by a tensor"),
    "index_list": pins(lambda t: t[:, [0, 2, 5]], "indexed by a tensor"),
    "index_in_space": keeps(lambda t: t[:, :, FLOPPED[4:]]),
    "index_both_sides_of_space": keeps(lambda t: t[..., FLOPPED[4:], FLOPPED[4:]]),
    "index_around_the_channels": keeps(lambda t: t[FLOPPED[6:], :, FLOPPED[6:]]),
    "index_by_a_table": keeps(lambda t: t.flatten(2)[:, :, FLOPPED.view(2, 4)]),
    "index_by_a_mask": pins(lambda t: t[:, FLOPPED > 3], "indexed by a tensor"),
    "index_by_a_mask_of_space": keeps(lambda t: t[:, :, FLOPPED[:4] > 4]),
    "index_by_a_mask_over_space": pins(lambda t: t[:, :, FLOPPED.view(2, 4).repeat(2, 1) > 4], "picked from by a mask"),
    "index_of_the_batch": keeps(lambda t: t[torch.tensor([1, 0, 1])]),
    "index_of_a_parameter": Case(
        lambda: Net(
            lambda n, x: n.b(n.a(x) + n.table[n.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)),
            a=nn.Conv2d(3, 8, 1),
            b=nn.Conv2d(8, 2, 1),
            table=nn.Parameter(torch.randn(5, 8)),
            index=torch.arange(16).view(4, 4) % 5,
        ),
        free="table:8",  # the first of those that make them gives the name
    ),
    "index_select": pins(lambda t: t.index_select(1, FLOPPED), "indexed by a tensor"),
    "index_select_in_space": keeps(lambda t: t.index_select(-1, FLOPPED[4:])),
    "gather": pins(lambda t: t.gather(1, FLOPPED.view(1, 8, 1, 1).expand(t.shape)), "indexed by a tensor"),
    "gather_in_space": keeps(lambda t: t.gather(3, t.argsort(3))),
    "take_along_dim": keeps(lambda t: t.take_along_dim(t.argsort(2), 2)),
    "scatter_in_space": keeps(lambda t: torch.zeros_like(t).scatter(3, t.argsort(3), t)),
    "scatter_add_of_channels": pins(
        lambda t: t.scatter_add(1, FLOPPED.view(1, 8, 1, 1).expand(t.shape), t), "written to by number"
    ),
    "index_add": pins(lambda t: t.index_add(1, FLOPPED, t), "written to by number"),
    "index_add_in_space": keeps(lambda t: t.index_add(2, FLOPPED[4:], t)),
    "index_fill": pins(lambda t: t.index_fill(1, FLOPPED[:2], 0.0), "written to by number"),
    "masked_fill": keeps(lambda t: t.masked_fill(t > 0.1, -1.0)),
    "masked_fill_of_space": keeps(lambda t: t.masked_fill(torch.eye(4, dtype=torch.bool), 0.0)),
    "where": keeps(lambda t: torch.where(t > 0, t, t * 0.1)),
    "topk_in_space": keeps(lambda t: t.flatten(2).topk(3, -1)[0]),
    "topk_of_channels": pins(lambda t: t.topk(3, 1)[0], "ordered or compared"),
    "sort_of_channels": pins(lambda t: t.sort(dim=1, stable=True)[0], "ordered or compared"),
    "sort_in_space": keeps(lambda t: t.sort(dim=2, stable=True)[0].sort(-1, descending=True)[0]),
    "max_over_channels": pins(lambda t: t * t.max(1, keepdim=True)[0], "ordered or compared"),
    "max_over_space": keeps(lambda t: t.max(-1)[0].max(-1, keepdim=True)[0]),
    "argmax_as_one_hot": pins(
        lambda t: functional.one_hot(t.argmax(1), 8).permute(0, 3, 1, 2).to(t.dtype), "ordered or compared"
    ),
    "bucketize": keeps(lambda t: torch.bucketize(t, torch.tensor([0.0, 0.5])).to(t.dtype)),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_keep_the_law(name: str) -> None:
    check(SPLITS[name])


@pytest.mark.parametrize("name", SLICES)
def test_slices_keep_the_law(name: str) -> None:
    check(SLICES[name])


@pytest.mark.parametrize("name", PICKS)
def test_picking_by_number_keeps_the_law(name: str) -> None:
    check(PICKS[name])
