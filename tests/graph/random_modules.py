"""Modules of random networks, written as model libraries write them: sizes in attributes, views, shared weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcite(nn.Module):
    """Gates every channel by the pooled map."""

    def __init__(self, width: int, squeezed: int, gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.gate = nn.Sigmoid() if gate == "sigmoid" else nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class ChannelShuffle(nn.Module):
    """ShuffleNet's interleaving, with the number of groups in an attribute."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class SplitSizes(nn.Module):
    """Splits into the sizes of an attribute, activates the parts differently and joins them the other way round."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = torch.split(x, self.sizes, dim=1)
        return torch.cat([*others, first.relu()], 1)


class Res2(nn.Module):
    """Res2Net's chain: every part is convolved and added to the next."""

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.width, self.scale = width // scale, scale
        self.convs = nn.ModuleList(nn.Conv2d(self.width, self.width, 3, padding=1) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.width, 1)
        done = [parts[0]]
        for part, conv in zip(parts[1:], self.convs, strict=True):
            done.append(conv(part + done[-1]).relu())
        return torch.cat(done, 1)


class CrossStage(nn.Module):
    """A part of the channels, counted by an attribute, goes through a convolution and the rest goes by."""

    def __init__(self, width: int, part: int) -> None:
        super().__init__()
        self.part = part
        self.conv = nn.Conv2d(part, part, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x[:, : self.part]), x[:, self.part :]], 1)


class Ghost(nn.Module):
    """Half of the maps are made from the other half by a depthwise convolution; the surplus is sliced off."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.out, made = out, (out + 1) // 2
        self.primary = nn.Conv2d(width, made, 1)
        self.cheap = nn.Conv2d(made, made, 3, padding=1, groups=made)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)[:, : self.out]


class SelectiveKernel(nn.Module):
    """Two branches, stacked and summed under a softmax over the branches."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, bias=False) for k in (1, 3))
        self.squeeze, self.select = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        stacked = torch.stack([branch(x) for branch in self.branches], 1)
        weights = self.select(self.squeeze(stacked.sum(1).mean((2, 3), keepdim=True)).relu())
        weights = weights.view(x.shape[0], 2, -1, 1, 1).softmax(1)
        return (stacked * weights).sum(1)


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights are normalised over their inputs."""

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, eps=1e-5
        ).reshape_as(self.weight)
        return self._conv_forward(x, weight, self.bias)


class GainConv2d(nn.Conv2d):
    """A convolution whose weights are scaled by a learned gain per output."""

    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.gain, self.bias)


class FrozenBatchNorm2d(nn.Module):
    """torchvision's: statistics and affine are buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        bias = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


class LayerNorm2d(nn.LayerNorm):
    """ConvNeXt's layer norm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """LayerScale: a learned gain per channel, of the shape given."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Positioned(nn.Module):
    """Adds a learned position to every place."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class EmbeddedPositions(nn.Module):
    """Adds an embedding of the place to every token."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(x.shape[1], device=x.device))


class ClassToken(nn.Module):
    """Puts a learned token in front."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)


class EinsumLinear(nn.Module):
    """A 1x1 convolution in einsum notation."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nc...,oc->no...", x, self.weight)


def spread(x: Tensor) -> Tensor:
    """A 4 x 4 map from a vector; not constant over space, or an instance norm behind it would see rounding alone."""
    ramp = torch.linspace(0.5, 1.5, 16, dtype=x.dtype, device=x.device).view(4, 4)
    return x[:, :, None, None].expand(-1, -1, 4, 4) * ramp


def awaken(model: nn.Module, seed: int) -> nn.Module:
    """Random weights, gains and statistics that keep signals of order one; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in state.items():
            kind = name.rpartition(".")[2]
            if not tensor.is_floating_point():
                continue
            if tensor.dim() > 1 and kind in ("weight", "in_proj_weight"):
                tensor.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5, generator=generator)
            elif kind in ("weight", "running_var", "gamma", "gain"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0.0, 0.4, generator=generator)
    return model.eval()
