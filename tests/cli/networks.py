"""Small networks that the commands load by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Four heads of eight dimensions behind a layer norm over channels that may go."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_dim = 4, 8
        self.stem, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 96), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / self.head_dim**0.5).softmax(-1)
        out: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2)).mean(1)
        return out


def attention() -> nn.Module:
    """One attention layer on patches."""
    torch.manual_seed(0)
    return Attention().eval()


def grouped() -> nn.Module:
    """Four convolution groups of several channels between two convolutions."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, groups=4), nn.Conv2d(24, 5, 1)).eval()


attention.input_shape = grouped.input_shape = (3, 16, 16)  # type: ignore[attr-defined]
