"""The law for attention, fused and by hand, for embeddings, and for sampling at positions."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from tests.graph.laws import TOKENS, Case, Net, check, keeps, linear, pins, weight


def heads(t: Tensor, dim: int) -> Tensor:
    """(batch, tokens, heads * dim) -> (batch, heads, tokens, dim)"""
    return t.view(t.shape[0], t.shape[1], -1, dim).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention as vision transformers write it."""

    def __init__(self, *, fused: bool, packed: bool, mask: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.fused, self.packed, self.mask = 4, 2, fused, packed, mask
        self.qkv = nn.Linear(6, 24) if packed else nn.ModuleList(nn.Linear(6, 8) for _ in range(3))
        self.proj = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        if self.packed:
            q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (layer(x).view(n, t, self.num_heads, self.head_dim).transpose(1, 2) for layer in self.qkv)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.mask)
        else:
            logits = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            if self.mask:
                logits = logits.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
            y = logits.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(n, t, self.num_heads * self.head_dim))


def attention(**options) -> Case:
    """Tokens of width 6, attention over them, a residual, a reader."""
    return Case(
        lambda: Net(
            lambda n, x: n.b(n.a(x) + n.m(n.a(x))), a=nn.Linear(3, 6), m=Attention(**options), b=nn.Linear(6, 2)
        ),
        free="a:6 " + ("m.qkv:4" if options["packed"] else "m.qkv.0:4"),
        inputs=(TOKENS,),
    )


ATTENTION = {
    **{
        f"{kind}_{parts}_{sight}": attention(fused=kind == "fused", packed=parts == "packed", mask=sight == "causal")
        for kind in ("fused", "unfused")
        for parts in ("packed", "separate")
        for sight in ("full", "causal")
    },
    "chunked": linear(
        lambda n, t: (
            functional.scaled_dot_product_attention(*(heads(u, 2) for u in n.w(t).chunk(3, -1)))
            .transpose(1, 2)
            .flatten(2)
        ),
        TOKENS,
        free="a:8 w:4",
        w=nn.Linear(8, 24),
        b=nn.Linear(8, 2),
    ),
    "one_head": linear(
        lambda n, t: functional.scaled_dot_product_attention(n.q(t), n.k(t), n.v(t)),
        TOKENS,
        free="a:8 v:5",
        q=nn.Linear(8, 6),
        k=nn.Linear(8, 6),
        v=nn.Linear(8, 5),
        b=nn.Linear(5, 2),
    ),
    "cross": linear(
        lambda n, t: (
            functional.scaled_dot_product_attention(
                *(heads(u, 4) for u in (n.q(n.query.expand(2, -1, -1)), n.k(t), n.v(t)))
            )
            .transpose(1, 2)
            .flatten(2)
        ),
        TOKENS,
        free="a:8",
        query=weight(1, 3, 8),
        q=nn.Linear(8, 8),
        k=nn.Linear(8, 8),
        v=nn.Linear(8, 8),
        b=nn.Linear(8, 2),
    ),
    "over_channels": linear(
        lambda n, t: functional.scaled_dot_product_attention(t.mT, t.mT, t.mT).mT, TOKENS, b=nn.Linear(8, 2)
    ),
    "linear_attention": linear(
        lambda n, t: n.q(t).softmax(-1) @ (n.k(t).softmax(1).transpose(1, 2) @ n.v(t)),
        TOKENS,
        free="a:8 v:5",
        q=nn.Linear(8, 6),
        k=nn.Linear(8, 6),
        v=nn.Linear(8, 5),
        b=nn.Linear(5, 2),
    ),
    "with_a_bias_table": linear(
        lambda n, t: (
            lambda q: (
                ((q @ q.mT + n.table[:, n.index.view(-1)].view(-1, 5, 5)).softmax(-1) @ q).transpose(1, 2).flatten(2)
            )
        )(heads(t, 2)),
        TOKENS,
        free="table:4",
        table=weight(4, 9),
        index=torch.arange(25).view(5, 5) % 9,
        b=nn.Linear(8, 2),
    ),
    "multihead_module": Case(
        lambda: Net(
            lambda n, x: n.b((y := n.a(x)) + n.m(y, y, y, need_weights=False)[0]),
            a=nn.Linear(3, 8),
            m=nn.MultiheadAttention(8, 2, batch_first=True),
            b=nn.Linear(8, 2),
        ),
        inputs=(TOKENS,),
    ),
    "multihead_module_with_weights": Case(
        lambda: Net(
            lambda n, x: n.b(n.m(n.a(x), n.a(x), n.a(x))[0]),
            a=nn.Linear(3, 6),
            m=nn.MultiheadAttention(6, 2),
            b=nn.Linear(6, 2),
        ),
        inputs=(TOKENS,),
    ),
    "transformer_layer": Case(
        lambda: Net(
            lambda n, x: n.b(n.m(n.a(x))),
            a=nn.Linear(3, 8),
            m=nn.TransformerEncoderLayer(8, 2, 12, batch_first=True),
            b=nn.Linear(8, 2),
        ),
        inputs=(TOKENS,),
    ),
}


WORDS = torch.zeros(2, 5, dtype=torch.long)


TABLES = {
    "embedding": Case(
        lambda: nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)),
        free="0:8 1:6",
        why="vocabulary",
        inputs=(WORDS,),
    ),
    "embedding_with_positions": Case(
        lambda: Net(
            lambda n, x: n.b(n.words(x) + n.places(torch.arange(5))),
            words=nn.Embedding(10, 8),
            places=nn.Embedding(5, 8),
            b=nn.Linear(8, 2),
        ),
        free="words:8",
        inputs=(WORDS,),
    ),
    "tied_to_the_output": Case(
        lambda: Net(
            lambda n, x: functional.linear(n.m(n.words(x)), n.words.weight),
            words=nn.Embedding(10, 8),
            m=nn.Linear(8, 8),
        ),
        free="m:8",
        inputs=(WORDS,),
    ),
    "position_parameter": Case(
        lambda: Net(lambda n, x: n.b(n.a(x) + n.place), a=nn.Linear(3, 8), place=weight(1, 5, 8), b=nn.Linear(8, 2)),
        free="place:8",
        inputs=(TOKENS,),
    ),
}


VISION = {
    "grid_sample": keeps(lambda t: functional.grid_sample(t, torch.zeros(2, 3, 3, 2).to(t), align_corners=False)),
    "grid_sample_3d": keeps(
        lambda t: functional.grid_sample(t, torch.zeros(2, 3, 3, 3, 3).to(t), align_corners=True), rank=5
    ),
    "learned_grid": Case(
        lambda: Net(
            lambda n, x: n.b(
                functional.grid_sample(
                    n.a(x),
                    functional.affine_grid(n.where(x.flatten(1)).view(-1, 2, 3), [2, 1, 4, 4], align_corners=False),
                    align_corners=False,
                )
            ),
            a=nn.Conv2d(3, 8, 1),
            where=nn.Linear(48, 6),
            b=nn.Conv2d(8, 2, 1),
        ),
        free="a:8",
        stays="where",
        why="for geometry",
    ),
    "roi_align": keeps(
        lambda t: torchvision.ops.roi_align(t, torch.tensor([[0.0, 0, 0, 3, 3], [1, 1, 1, 3, 2]]).to(t), (2, 2))
    ),
    "roi_pool": keeps(lambda t: torchvision.ops.roi_pool(t, torch.tensor([[0.0, 0, 0, 3, 3]]).to(t), 2).flatten(1)),
    "roi_align_by_position": pins(
        lambda t: torchvision.ops.ps_roi_align(t, torch.tensor([[0.0, 0, 0, 3, 3]]).to(t), 2), "no channel rule"
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_keeps_the_law(name: str) -> None:
    check(ATTENTION[name])


@pytest.mark.parametrize("name", TABLES)
def test_embeddings_keep_the_law(name: str) -> None:
    check(TABLES[name])


@pytest.mark.parametrize("name", VISION)
def test_sampling_keeps_the_law(name: str) -> None:
    check(VISION[name])
