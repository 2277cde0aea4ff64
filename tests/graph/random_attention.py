"""Attention of random networks, as model libraries write it: heads and head sizes in attributes, or left to views."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(nn.Module):
    """timm's attention: one projection makes queries, keys and values; the head size follows from the input."""

    def __init__(self, dim: int, num_heads: int, kernel: str = "matmul", split: str = "unbind") -> None:
        super().__init__()
        self.num_heads, self.kernel, self.split = num_heads, kernel, split
        self.scale = (dim // num_heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        if self.split == "unbind":
            q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (
                y.view(n, t, self.num_heads, c // self.num_heads).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)
            )
        y = attend(q, k, v, self.scale, self.kernel)
        return self.proj(y.transpose(1, 2).reshape(n, t, c))


class HeadSizeAttention(nn.Module):
    """timm's attention since 1.0: head size and inner width are attributes too."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, kernel: str = "matmul") -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.kernel = num_heads, head_dim, kernel
        self.attn_dim, self.scale = num_heads * head_dim, head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, self.attn_dim * 3, bias=False), nn.Linear(self.attn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = attend(q, k, v, self.scale, self.kernel)
        return self.proj(y.transpose(1, 2).reshape(n, t, self.attn_dim))


class SeparateAttention(nn.Module):
    """Queries, keys and values from three projections; the number of heads from an attribute, the rest from -1."""

    def __init__(self, dim: int, inner: int, heads: int, kernel: str = "matmul", memory: int = 0) -> None:
        super().__init__()
        self.heads, self.kernel, self.scale = heads, kernel, (inner // heads) ** -0.5
        self.q, self.k, self.v = nn.Linear(dim, inner), *(nn.Linear(memory or dim, inner) for _ in range(2))
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        q, k, v = (
            f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, y in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        return self.proj(attend(q, k, v, self.scale, self.kernel).transpose(1, 2).flatten(2))


class MapAttention(nn.Module):
    """Attention of YOLO networks: queries and keys are shorter than values; all are split off one convolution."""

    def __init__(self, dim: int, num_heads: int, key_dim: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.head_dim = num_heads, key_dim, dim // num_heads
        self.scale = key_dim**-0.5
        self.qkv = nn.Conv2d(dim, dim + 2 * key_dim * num_heads, 1)
        self.pe, self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(x).view(n, self.num_heads, self.key_dim * 2 + self.head_dim, h * w)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        weights = ((q.transpose(-2, -1) @ k) * self.scale).softmax(-1)
        return self.proj((v @ weights.transpose(-2, -1)).view(n, c, h, w) + self.pe(v.reshape(n, c, h, w)))


class LinearAttention(nn.Module):
    """Attention without a softmax over pairs, in einsum notation."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        context = torch.einsum("nthd,nthe->nhde", k.softmax(1), v)
        return self.proj(torch.einsum("nthd,nhde->nthe", q, context).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, kernel: str) -> Tensor:
    """Scaled dot-product attention on (n, heads, tokens, head size): written out, or in one call."""
    if kernel == "sdpa":
        return functional.scaled_dot_product_attention(q, k, v, scale=scale)
    return ((q * scale) @ k.transpose(-2, -1)).softmax(-1) @ v
