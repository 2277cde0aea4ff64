"""What random networks are made of: one literal table, name -> how the block is written in PyTorch.

Fields in braces are filled in when a block is drawn: ``x`` the tensor it reads, ``y`` another of the same shape, ``z``
another of the same size with any number of channels, ``m`` and ``k`` its modules; ``c`` the channels of ``x``, ``cz``
those of ``z``, ``o`` a drawn width, ``g`` a drawn divisor of ``c``, ``d`` the quotient, ``half``, ``double`` and
``quarter`` of ``c``, ``part`` a drawn number below ``c`` and ``rest`` what it leaves, ``h`` and ``w`` height and width,
``t`` the number of tokens, ``bit`` True or False.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Block:
    """One building block.

    Attributes:
        code: the expression that it adds to the forward.
        m, k: modules that it makes first, "" for none.
        tie: a statement of ``__init__`` behind them.
        layout: which kind of tensor it reads: a "map" (n, c, h, w), "last" (n, h, w, c), "tokens" (n, t, c),
            "vector" (n, c), "signal" (n, c, l) or "volume" (n, c, d, h, w); others are converted.
        gives: the kind of tensor that it makes, "" for the same.
        least, most: heights of the maps that it can read.
        spans: whether values depend on all channels at once, so that removing a channel changes the others.
        literal: whether a number of channels stands in the forward, where no repair can reach it.
    """

    code: str = "{m}({x})"
    m: str = ""
    k: str = ""
    tie: str = ""
    layout: str = "map"
    gives: str = ""
    least: int = 1
    most: int = 16
    spans: bool = False
    literal: bool = False


_RESIDUAL: Final = "{x} + {m}({x})"

CONVOLUTIONS: Final = {
    "conv1x1": Block(m="nn.Conv2d({c}, {o}, 1, bias={bit})"),
    "conv3x3": Block(m="nn.Conv2d({c}, {o}, 3, padding=1)"),
    "conv_strided": Block(m="nn.Conv2d({c}, {o}, 3, stride=2, padding=1, bias={bit})", least=2),
    "conv_dilated": Block(m="nn.Conv2d({c}, {o}, 3, padding=2, dilation=2)"),
    "conv_transposed": Block(m="nn.ConvTranspose2d({c}, {o}, 2, stride=2, bias={bit})", most=8),
    "conv_transposed_grouped": Block(m="nn.ConvTranspose2d({c}, {double}, 2, stride=2, groups={g})", most=8),
    "conv_grouped": Block(m="nn.Conv2d({c}, {c}, 3, padding=1, groups={g})"),
    "conv_grouped_wider": Block(m="nn.Conv2d({c}, {double}, 1, groups={g}, bias={bit})"),
    "depthwise": Block(m="nn.Conv2d({c}, {c}, 3, padding=1, groups={c}, bias={bit})"),
    "depthwise_multiplied": Block(m="nn.Conv2d({c}, {double}, 3, padding=1, groups={c})"),
    "conv_standardised": Block(m="StandardisedConv2d({c}, {o}, 3, padding=1)", spans=True),
    "conv_with_gain": Block(m="GainConv2d({c}, {o}, 3, padding=1)"),
    "conv_weight_norm": Block(m="nn.utils.parametrizations.weight_norm(nn.Conv2d({c}, {o}, 1))", spans=True),
    "conv1d": Block(m="nn.Conv1d({c}, {o}, 3, padding=1)", layout="signal"),
    "conv1d_grouped": Block(m="nn.Conv1d({c}, {c}, 3, padding=1, groups={g})", layout="signal"),
    "conv3d": Block(m="nn.Conv3d({c}, {o}, (1, 3, 3), padding=(0, 1, 1))", layout="volume"),
    "shared_module": Block("{m}({m}({x}).relu())", m="nn.Conv2d({c}, {c}, 1)"),
    "tied_weights": Block(
        "{k}({m}({x}).relu())", m="nn.Conv2d({c}, {c}, 1)", k="nn.Conv2d({c}, {c}, 1)", tie="{k}.weight = {m}.weight"
    ),
    "shared_by_two": Block("{m}({x}) + {m}({y})", m="nn.Conv2d({c}, {o}, 1)"),
    "bottleneck": Block(
        "{x} + {k}({m}({x}).relu())", m="nn.Conv2d({c}, {o}, 1)", k="nn.Conv2d({o}, {c}, 3, padding=1)"
    ),
    "einsum_conv": Block(m="EinsumLinear({c}, {o})"),
    "linear": Block(m="nn.Linear({c}, {o}, bias={bit})", layout="vector"),
    "linear_tokens": Block(m="nn.Linear({c}, {o})", layout="tokens"),
    "linear_last": Block(m="nn.Linear({c}, {o})", layout="last"),
    "mlp": Block("{x} + {k}({m}({x}).relu())", m="nn.Linear({c}, {o})", k="nn.Linear({o}, {c})", layout="tokens"),
    "token_mixer": Block("{x} + {m}({x}.transpose(1, 2)).transpose(1, 2)", m="nn.Linear({t}, {t})", layout="tokens"),
    "flat_linear": Block("{m}({x}.flatten(1))", m="nn.Linear({c} * {h} * {w}, {o})", gives="vector", most=8),
    "linear_to_map": Block(
        "{m}({x}).unflatten(1, (-1, 2, 2))", m="nn.Linear({c}, {o} * 4)", layout="vector", gives="map"
    ),
}

NORMS_AND_ACTIVATIONS: Final = {
    "batch_norm": Block(m="nn.BatchNorm2d({c})"),
    "batch_norm_plain": Block(m="nn.BatchNorm2d({c}, affine=False)"),
    "batch_norm_1d": Block(m="nn.BatchNorm1d({c})", layout="vector"),
    "batch_norm_signal": Block(m="nn.BatchNorm1d({c})", layout="signal"),
    "frozen_batch_norm": Block(m="FrozenBatchNorm2d({c})"),
    "instance_norm": Block(m="nn.InstanceNorm2d({c}, affine={bit})", least=2),
    "group_norm_one": Block(m="nn.GroupNorm(1, {c})", spans=True),
    "group_norm": Block(m="nn.GroupNorm({g}, {c})", spans=True),
    "layer_norm": Block(m="nn.LayerNorm({c})", layout="tokens", spans=True),
    "layer_norm_2d": Block(m="LayerNorm2d({c})", spans=True),
    "layer_norm_last": Block(m="nn.LayerNorm({c}, elementwise_affine={bit})", layout="last", spans=True),
    "rms_norm": Block(m="nn.RMSNorm({c})", layout="tokens", spans=True),
    "l2_norm": Block("F.normalize({x}, dim=1)", spans=True),
    "layer_scale": Block(m="Scaled({c}, 1, 1)"),
    "layer_scale_tokens": Block("{x} + {m}({k}({x}))", m="Scaled({c})", k="nn.Linear({c}, {c})", layout="tokens"),
    "relu": Block("{x}.relu()"),
    "relu_in_place": Block(m="nn.Sequential(nn.Conv2d({c}, {o}, 1), nn.ReLU(inplace=True))"),
    "gelu": Block("F.gelu({x})"),
    "gelu_tokens": Block("F.gelu({x})", layout="tokens"),
    "hardswish_in_place": Block(m="nn.Sequential(nn.BatchNorm2d({c}), nn.Hardswish(inplace=True))"),
    "silu": Block("{x} * {x}.sigmoid()"),
    "prelu": Block(m="nn.PReLU({c})"),
    "prelu_one": Block(m="nn.PReLU()"),
    "leaky_relu": Block("F.leaky_relu({x}, 0.1)"),
    "tanh": Block("torch.tanh({x})"),
    "spatial_softmax": Block("{x}.flatten(2).softmax(-1).view({x}.shape) * {h}"),
    "softmax": Block("{x}.softmax(1)", spans=True),
}

JOINS_AND_SPLITS: Final = {
    "add": Block("{x} + {y}"),
    "add_in_place": Block("({x} * 1.0).add_({y})"),
    "residual": Block(_RESIDUAL, m="nn.Conv2d({c}, {c}, 3, padding=1)"),
    "subtract": Block("{x} - 0.5 * {y}"),
    "multiply": Block("{x} * {y}.sigmoid()"),
    "maximum": Block("torch.maximum({x}, {y})"),
    "squeeze_excite": Block(m="SqueezeExcite({c}, {o})"),
    "squeeze_excite_hard": Block(m="SqueezeExcite({c}, {half}, 'hard')"),
    "pooled_gate": Block("{x} * {y}.mean((2, 3), keepdim=True)"),
    "vector_gate": Block("{x} * {m}({y}.amax((2, 3)))[:, :, None, None]", m="nn.Linear({c}, {c})"),
    "selective_kernel": Block(m="SelectiveKernel({c}, {half})"),
    "concatenate": Block("torch.cat([{x}, {z}], 1)"),
    "concatenate_three": Block("torch.cat([{x}, {z}, {x}.relu()], dim=1)"),
    "concatenate_flat": Block("torch.cat([{x}.flatten(1), {z}.mean((2, 3))], 1)", gives="vector", most=8),
    "concatenate_constant": Block("torch.cat([{x}, torch.ones_like({x}[:, :1])], 1)", literal=True),
    "stack_sum": Block("torch.stack([{x}, {y}], 1).sum(1)"),
    "stack_amax": Block("torch.stack([{x}, {y}], 0).amax(0)"),
    "stack_flatten": Block("torch.stack([{x}, {y}], 2).flatten(1, 2)"),
    "chunk": Block("torch.mul(*{x}.chunk(2, 1))"),
    "chunk_swap": Block("torch.cat({x}.chunk(2, 1)[::-1], 1)"),
    "glu": Block(m="nn.GLU(1)"),
    "glu_tokens": Block(
        "{k}(F.gelu({m}({x}).chunk(2, -1)[0]))", m="nn.Linear({c}, {double})", k="nn.Linear({c}, {o})", layout="tokens"
    ),
    "split_adaptive": Block("torch.add(*{x}.split({x}.shape[1] // 2, 1)[:2])"),
    "split_adaptive_unequal": Block(
        "torch.cat({x}.split([{x}.shape[1] - {x}.shape[1] // 3, {x}.shape[1] // 3], 1)[::-1], 1)"
    ),
    "split_attribute": Block(m="SplitSizes([{part}, {rest}])"),
    "split_attribute_three": Block(m="SplitSizes([{quarter}, {half}, {quarter}])"),
    "split_literal": Block("torch.cat({x}.split([{part}, {rest}], 1)[::-1], 1)", literal=True),
    "res2": Block(m="Res2({c}, {g})"),
    "cross_stage": Block(m="CrossStage({c}, {part})"),
    "ghost": Block(m="Ghost({c}, {o})"),
    "slice_half": Block("{x}[:, {x}.shape[1] // 2:]"),
    "slice_literal": Block("{x}[:, :{part}]", literal=True),
    "slice_strided": Block("{x}[:, ::2] + {x}[:, 1::2]"),
    "select": Block("{x}.unflatten(1, (2, -1))[:, 0]"),
    "unbind": Block("torch.sub(*{x}.unflatten(1, (2, -1)).unbind(1))"),
    "unbind_minor": Block("torch.sub(*{x}.unflatten(1, (-1, 2)).unbind(2))"),
}

MOVES: Final = {
    "channel_shuffle": Block(m="ChannelShuffle({g})"),
    "channel_shuffle_module": Block(m="nn.ChannelShuffle({g})"),
    "shuffle_two": Block("{x}.view({x}.shape[0], 2, -1, *{x}.shape[2:]).transpose(1, 2).flatten(1, 2)"),
    "shuffle_literal": Block(
        "{x}.reshape(-1, {g}, {d}, {h}, {w}).transpose(1, 2).reshape(-1, {c}, {h}, {w})", literal=True
    ),
    "flip": Block("{x}.flip(1)"),
    "flip_add": Block("{x} + {x}.flip(1)"),
    "roll": Block("{x}.roll(1, 1)", literal=True),
    "roll_half": Block("{x}.roll({x}.shape[1] // 2, 1)"),
    "roll_space": Block("{x}.roll((1, -1), (2, 3))"),
    "pad_module": Block(m="nn.ZeroPad3d((0, 0, 0, 0, 1, 2))"),
    "pad_literal": Block("F.pad({x}, (0, 0, 0, 0, 2, 1))", literal=True),
    "pad_space": Block("F.pad({x}, (1, 0, 1, 0))[:, :, 1:, 1:]"),
    "repeat": Block("{x}.repeat(1, 2, 1, 1)"),
    "repeat_interleave": Block("{x}.repeat_interleave(2, 1)"),
    "expand": Block("{x}.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(1, 2)"),
    "expand_front": Block("{x}.unsqueeze(1).expand(-1, 2, -1, -1, -1).reshape({x}.shape[0], -1, *{x}.shape[2:])"),
    "pixel_shuffle": Block("F.pixel_shuffle({m}({x}), 2)", m="nn.Conv2d({c}, {o} * 4, 1)", most=8),
    "pixel_shuffle_bare": Block("F.pixel_shuffle(torch.cat([{x}] * 4, 1), 2)", most=8),
    "pixel_unshuffle": Block(m="nn.PixelUnshuffle(2)", least=2),
    "focus": Block("torch.cat([{x}[..., ::2, ::2], {x}[..., 1::2, ::2], {x}[..., 1::2, 1::2]], 1)", least=2),
    "unfold": Block("F.unfold({x}, 3, padding=1).unflatten(1, (-1, 9)).mean(2).unflatten(2, {x}.shape[2:])"),
    "unfold_conv": Block("{m}(F.unfold({x}, 2, stride=2))", m="nn.Conv1d({c} * 4, {o}, 1)", gives="signal", least=2),
    "max_pool": Block("F.max_pool2d({x}, 2)", least=2),
    "average_pool": Block("F.avg_pool2d({x}, 3, 1, 1)"),
    "adaptive_pool": Block("F.adaptive_avg_pool2d({x}, 2)"),
    "adaptive_max_pool": Block("F.adaptive_max_pool2d({x}, (2, 2))"),
    "global_pool": Block("{x}.mean((2, 3))", gives="vector"),
    "global_max": Block("F.adaptive_max_pool2d({x}, 1).flatten(1)", gives="vector"),
    "upsample": Block("F.interpolate({x}, scale_factor=2)", most=8),
    "upsample_bilinear": Block("F.interpolate({x}, size=(6, 6), mode='bilinear')"),
    "transposed_map": Block("{x}.transpose(2, 3)"),
    "windows": Block(
        "{x}.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).transpose(2, 3).flatten(1, 4)", layout="last", gives="tokens"
    ),
    "last_and_back": Block("{m}({x}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)", m="nn.Linear({c}, {o})"),
    "broadcast_bias": Block("{x} + torch.linspace(-1, 1, {w}, dtype={x}.dtype, device={x}.device)"),
    "spatial_attention": Block("{x} * {m}({x}).sigmoid()", m="nn.Conv2d({c}, 1, 3, padding=1)"),
    "mean_over_channels": Block("{x} * {x}.mean(1, keepdim=True)", spans=True),
}

ATTENTION: Final = {
    "fused_attention": Block(_RESIDUAL, m="FusedAttention({c}, {g})", layout="tokens"),
    "fused_attention_sdpa": Block(_RESIDUAL, m="FusedAttention({c}, {g}, 'sdpa')", layout="tokens"),
    "fused_attention_chunk": Block(_RESIDUAL, m="FusedAttention({c}, {g}, split='chunk')", layout="tokens"),
    "head_size_attention": Block(_RESIDUAL, m="HeadSizeAttention({c}, {g}, 4)", layout="tokens"),
    "head_size_attention_sdpa": Block(_RESIDUAL, m="HeadSizeAttention({c}, 4, 3, 'sdpa')", layout="tokens"),
    "separate_attention": Block(_RESIDUAL, m="SeparateAttention({c}, 8, 2)", layout="tokens"),
    "separate_attention_sdpa": Block(_RESIDUAL, m="SeparateAttention({c}, 12, 4, 'sdpa')", layout="tokens"),
    "linear_attention": Block(_RESIDUAL, m="LinearAttention({c}, 8, 2)", layout="tokens"),
    "torch_attention": Block(
        "{x} + {m}({x}, {x}, {x}, need_weights=False)[0]",
        m="nn.MultiheadAttention({c}, {g}, batch_first=True)",
        layout="tokens",
        spans=True,  # its scale is that of the head size that is left
    ),
    "map_attention": Block(_RESIDUAL, m="MapAttention({c}, {g}, 3)"),
    "cross_attention": Block("{x} + {m}({x}, {z})", m="SeparateAttention({c}, 8, 2, memory={cz})", layout="tokens"),
    "gram": Block("torch.einsum('nchw,ndhw->ncd', {x}, {m}({x})).flatten(1)", m="nn.Conv2d({c}, 3, 1)", gives="vector"),
    "position": Block(m="Positioned(1, {c}, {h}, {w})"),
    "position_tokens": Block(m="Positioned(1, {t}, {c})", layout="tokens"),
    "embedded_position": Block(m="EmbeddedPositions({t}, {c})", layout="tokens"),
    "class_token": Block(m="ClassToken({c})", layout="tokens"),
    "first_token": Block("{x}[:, 0]", layout="tokens", gives="vector"),
    "patches": Block(
        "{m}({x}).flatten(2).transpose(1, 2)", m="nn.Conv2d({c}, {o}, 2, stride=2)", gives="tokens", least=4
    ),
}

BLOCKS: Final = {**CONVOLUTIONS, **NORMS_AND_ACTIVATIONS, **JOINS_AND_SPLITS, **MOVES, **ATTENTION}
