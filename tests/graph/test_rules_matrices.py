"""The law for matrix products in all ranks, and einsum in the forms that it arrives in."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.graph.laws import TOKENS, VECTOR, Case, Net, check, linear, weight

MATRICES = {
    "linear_of_vectors": linear(lambda n, t: n.w(t), VECTOR, free="a:8 w:6", w=nn.Linear(8, 6), b=nn.Linear(6, 2)),
    "linear_of_tokens": linear(lambda n, t: n.w(t), TOKENS, free="a:8 w:6", w=nn.Linear(8, 6), b=nn.Linear(6, 2)),
    "linear_of_maps": linear(
        lambda n, t: n.w(t), torch.zeros(2, 4, 4, 3), free="a:8 w:6", w=nn.Linear(8, 6, bias=False), b=nn.Linear(6, 2)
    ),
    "linear_over_tokens": linear(
        lambda n, t: n.w(t.transpose(1, 2)).transpose(1, 2), TOKENS, free="a:8", w=nn.Linear(5, 5), b=nn.Linear(8, 2)
    ),
    "functional_linear": linear(
        lambda n, t: functional.linear(t, n.w, n.c),
        TOKENS,
        free="a:8 w:6",
        w=weight(6, 8),
        c=weight(6),
        b=nn.Linear(6, 2),
    ),
    "mm": linear(lambda n, t: t @ n.w, VECTOR, free="a:8 w:6", w=weight(8, 6), b=nn.Linear(6, 2)),
    "mm_of_the_transposed": linear(
        lambda n, t: (n.w.t() @ t.t()).t(), VECTOR, free="a:8 w:6", w=weight(8, 6), b=nn.Linear(6, 2)
    ),
    "addmm": linear(
        lambda n, t: torch.addmm(n.c, t, n.w), VECTOR, free="a:8 c:6", c=weight(6), w=weight(8, 6), b=nn.Linear(6, 2)
    ),
    "matmul_of_tokens": linear(lambda n, t: t @ n.w, TOKENS, free="a:8 w:6", w=weight(8, 6), b=nn.Linear(6, 2)),
    "matmul_of_heads": linear(
        lambda n, t: (t.view(2, 5, 2, -1).transpose(1, 2) @ n.w).transpose(1, 2).flatten(2),
        TOKENS,
        free="a:4 w:3",
        w=weight(4, 3),
        b=nn.Linear(6, 2),
    ),
    "bmm": linear(lambda n, t: torch.bmm(t, n.w), TOKENS, free="a:8", w=weight(2, 8, 6), b=nn.Linear(6, 2)),
    "baddbmm": linear(
        lambda n, t: torch.baddbmm(n.c, t, n.w),
        TOKENS,
        free="a:8 c:6",
        c=weight(2, 1, 6),
        w=weight(2, 8, 6),
        b=nn.Linear(6, 2),
    ),
    "baddbmm_over_tokens": linear(
        lambda n, t: torch.baddbmm(n.c, n.w.expand(2, -1, -1), t),
        TOKENS,
        free="c:8",
        c=weight(1, 1, 8),
        w=weight(4, 5),
        b=nn.Linear(8, 2),
    ),
    "mv": linear(lambda n, t: t * (n.w @ n.v), VECTOR, free="w:8", w=weight(8, 6), v=weight(6), b=nn.Linear(8, 2)),
    "vector_product": linear(lambda n, t: t @ n.v, TOKENS, free="a:8", v=weight(8), b=nn.Linear(5, 2)),
    "outer_of_a_vector": linear(
        lambda n, t: t.unsqueeze(2) @ n.v.unsqueeze(0), VECTOR, free="a:8", v=weight(6), b=nn.Conv1d(8, 2, 1)
    ),
    "gram": linear(lambda n, t: (t @ t.transpose(1, 2)).relu(), TOKENS, free="a:8", b=nn.Linear(5, 2)),
    "gram_of_channels": linear(lambda n, t: (t.transpose(1, 2) @ t).flatten(1), TOKENS, b=nn.Linear(64, 2)),
    "bilinear": linear(lambda n, t: n.w(t, t), VECTOR, w=nn.Bilinear(8, 8, 6), b=nn.Linear(6, 2)),
    "low_rank": linear(
        lambda n, t: t @ n.u @ n.v, TOKENS, free="a:8 u:3 v:6", u=weight(8, 3), v=weight(3, 6), b=nn.Linear(6, 2)
    ),
}


def einsum(equation: str, *operands: int, last: int, free: str = "a:8", linear: bool = False) -> Case:
    """Channels of "a" (b, c, h, w) against parameter "w", read by "b"."""
    reader = nn.Linear(last, 2) if linear else nn.Conv2d(last, 2, 1)
    return Case(
        lambda: Net(
            lambda n, x: n.b(torch.einsum(equation, n.a(x), n.w)), a=nn.Conv2d(3, 8, 1), b=reader, w=weight(*operands)
        ),
        free=free,
    )


EINSUMS = {
    "bchw,co->bohw": einsum("bchw,co->bohw", 8, 6, last=6, free="a:8 w:6"),
    "bchw,oc->bohw": einsum("bchw,oc->bohw", 6, 8, last=6, free="a:8 w:6"),
    "bchw,c->bchw": einsum("bchw,c->bchw", 8, last=8, free="w:8"),
    "bchw,chw->bchw": einsum("bchw,chw->bchw", 8, 4, 4, last=8, free="w:8"),
    "bchw,chw->bc": einsum("bchw,chw->bc", 8, 4, 4, last=8, free="w:8", linear=True),
    "bchw,cohw->bo": einsum("bchw,cohw->bo", 8, 6, 4, 4, last=6, free="w:6", linear=True),
    "bchw,wv->bchv": einsum("bchw,wv->bchv", 4, 5, last=8, free="a:8"),
    "...c,co->...o": linear(
        lambda n, t: torch.einsum("...c,co->...o", t, n.w), TOKENS, free="a:8 w:6", w=weight(8, 6), b=nn.Linear(6, 2)
    ),
    "bnc,bmc->bnm": linear(
        lambda n, t: torch.einsum("bnc,bmc->bnm", t, n.k(t)), TOKENS, free="a:8", k=nn.Linear(8, 8), b=nn.Linear(5, 2)
    ),
    "bnhd,bmhd->bhnm": linear(
        lambda n, t: torch.einsum("bnhd,bmhd->bhnm", t.unflatten(2, (n.heads, -1)), t.unflatten(2, (n.heads, -1))).sum(
            1
        ),
        TOKENS,
        free="a",
        heads=4,
        b=nn.Linear(5, 2),
    ),
    "bnc,bnd->bcd": linear(
        lambda n, t: torch.einsum("bnc,bnd->bcd", t.softmax(1), n.v(t)),
        TOKENS,
        free="v:6",
        v=nn.Linear(8, 6),
        b=nn.Linear(6, 2),
    ),
    "bc,bd->bcd": linear(
        lambda n, t: torch.einsum("bc,bd->bcd", t, n.v(t)), VECTOR, free="v:6", v=nn.Linear(8, 6), b=nn.Linear(6, 2)
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_products_keep_the_law(name: str) -> None:
    check(MATRICES[name])


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsums_keep_the_law(equation: str) -> None:
    check(EINSUMS[equation])
