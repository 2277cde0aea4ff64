"""The law for blocks as people write them, and recurrent modules, which are left alone by name."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from tests.graph.laws import IMAGE, Case, Net, check, conv, weight


def se(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y * net.up(net.down(y.mean((2, 3), keepdim=True)).relu()).sigmoid())


def eca(net: Net, x: Tensor) -> Tensor:
    """Efficient channel attention: a convolution along the channels."""
    y = net.a(x)
    gate = net.along(y.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
    return net.b(y * gate[:, :, None, None])


def cbam(net: Net, x: Tensor) -> Tensor:
    """Channel attention, then a map of the mean and the maximum over channels."""
    y = net.a(x)
    y = y * net.m(y.mean((2, 3))).sigmoid()[..., None, None]
    return net.b(y * net.s(torch.cat([y.mean(1, True), y.amax(1, True)], 1)).sigmoid())


def split_attention(net: Net, x: Tensor) -> Tensor:
    """ResNeSt: two cardinals, weighed against each other by a softmax."""
    y = net.a(x)
    n, c = y.shape[:2]
    parts = y.view(n, 2, c // 2, *y.shape[2:])
    gate = net.g(parts.sum(1).mean((2, 3))).view(n, 2, -1).softmax(1)
    return net.b((parts * gate[..., None, None]).sum(1))


def selective_kernel(net: Net, x: Tensor) -> Tensor:
    paths = torch.stack([net.a(x), net.b(x)], 1)
    gate = net.g(paths.sum(1).mean((2, 3))).view(x.shape[0], 2, -1, 1, 1).softmax(1)
    return net.c((paths * gate).sum(1))


def res2net(net: Net, x: Tensor) -> Tensor:
    """Chunks, each through a convolution of its own with the one before added."""
    parts = net.a(x).chunk(4, 1)
    out = [parts[0]]
    for layer, part in zip(net.layers, parts[1:], strict=True):
        out.append(layer(part + out[-1]))
    return net.b(torch.cat(out, 1))


def elan(net: Net, x: Tensor) -> Tensor:
    y = [net.a(x), net.b(x)]
    for layer in net.layers:
        y.append(layer(y[-1]))
    return net.c(torch.cat(y, 1))


def gated_mlp(net: Net, x: Tensor) -> Tensor:
    """Spatial gating: half of the channels gates the other over the tokens."""
    u, v = net.a(x).chunk(2, -1)
    return net.b(u * net.tokens(net.norm(v).transpose(1, 2)).transpose(1, 2))


def inverted_residual(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y + net.out(functional.relu6(net.depth(net.into(y)))) * net.gamma.view(-1, 1, 1))


BLOCKS = {
    "residual": Case(
        lambda: Net(lambda n, x: n.b(n.a(x) + n.m(n.a(x)).relu()), a=conv(3, 8), m=conv(8, 8, 3), b=conv(8, 2)), "a:8"
    ),
    "residual_with_itself_flipped": Case(
        lambda: Net(lambda n, x: n.b(n.a(x) + n.a(x).flip(1)), a=conv(3, 8), b=conv(8, 2)), "a:4"
    ),
    "dense_block": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([y := n.a(x), z := n.b(y), n.d(torch.cat([y, z], 1))], 1)),
            a=conv(3, 6),
            b=conv(6, 4, 3),
            d=conv(10, 3, 3),
            c=conv(13, 2),
        ),
        "a:6 b:4 d:3",
    ),
    "squeeze_excite": Case(lambda: Net(se, a=conv(3, 8), down=conv(8, 4), up=conv(4, 8), b=conv(8, 2)), "a:8 down:4"),
    "efficient_channel_attention": Case(
        lambda: Net(eca, a=conv(3, 8), along=nn.Conv1d(1, 1, 3, padding=1), b=conv(8, 2)), stays="a"
    ),
    "channel_and_spatial_attention": Case(
        lambda: Net(
            cbam,
            a=conv(3, 8),
            m=nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8)),
            s=conv(2, 1, 3),
            b=conv(8, 2),
        ),
        "a:8 m.0:4",
    ),
    "split_attention": Case(lambda: Net(split_attention, a=conv(3, 12), g=nn.Linear(6, 12), b=conv(6, 2)), "a:6"),
    "selective_kernel": Case(
        lambda: Net(selective_kernel, a=conv(3, 6), b=conv(3, 6, 3), g=nn.Linear(6, 12), c=conv(6, 2)), "a:6"
    ),
    "res2net": Case(
        lambda: Net(res2net, a=conv(3, 12), layers=nn.ModuleList(conv(3, 3, 3) for _ in range(3)), b=conv(12, 2)), "a:3"
    ),
    "elan": Case(
        lambda: Net(
            elan, a=conv(3, 4), b=conv(3, 4), layers=nn.ModuleList(conv(4, 4, 3) for _ in range(2)), c=conv(16, 2)
        ),
        "a:4 b:4 layers.0:4 layers.1:4",
    ),
    "cross_stage_partial": Case(
        lambda: Net(
            lambda n, x: n.c(torch.cat([(y := n.a(x).chunk(2, 1))[0], n.m(y[1])], 1)),
            a=conv(3, 8),
            m=conv(4, 6, 3),
            c=conv(10, 2),
        ),
        "a:4 m:6",
    ),
    "shuffle_unit": Case(
        lambda: Net(
            lambda n, x: n.c(functional.channel_shuffle(torch.cat([(y := n.a(x).chunk(2, 1))[0], n.m(y[1])], 1), 2)),
            a=conv(3, 8),
            m=nn.Sequential(conv(4, 4), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)),
            c=conv(8, 2),
        ),
        "a:4",
    ),
    "inverted_residual": Case(
        lambda: Net(
            inverted_residual,
            a=conv(3, 6),
            into=conv(6, 12),
            depth=conv(12, 12, 3, groups=12),
            out=conv(12, 6),
            gamma=weight(6),
            b=conv(6, 2),
        ),
        "into:12 gamma:6",
    ),
    "gated_mlp": Case(
        lambda: Net(gated_mlp, a=nn.Linear(3, 12), norm=nn.LayerNorm(6), tokens=nn.Linear(5, 5), b=nn.Linear(6, 2)),
        "a:6",
        inputs=(torch.zeros(2, 5, 3),),
    ),
    "frozen_batch_norm": Case(
        lambda: nn.Sequential(conv(3, 8), torchvision.ops.FrozenBatchNorm2d(8), nn.ReLU(), conv(8, 2)), "0:8"
    ),
    "prelu": Case(lambda: nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 4), nn.PReLU(), conv(4, 2)), "0:8 2:4"),
    "maxout": Case(
        lambda: Net(lambda n, x: n.b(torch.maximum(*n.a(x).chunk(2, 1))), a=conv(3, 8), b=conv(4, 2)), "a:4"
    ),
    "pyramid": Case(
        lambda: Net(
            lambda n, x: (
                n.head(n.low(n.a(x)) + functional.interpolate(n.high(z := n.b(n.a(x))), (4, 4))),
                n.head(n.high(z)),
            ),
            a=conv(3, 6),
            b=nn.Conv2d(6, 8, 3, 2, 1),
            low=conv(6, 5),
            high=conv(8, 5),
            head=conv(5, 2, 3),
        ),
        "a:6 b:8 low:5",
    ),
    "shared_twice": Case(
        lambda: Net(lambda n, x: n.b(n.m(n.m(n.a(x)).relu())), a=conv(3, 6), m=conv(6, 6, 3), b=conv(6, 2)), "a:6"
    ),
    "siamese": Case(
        lambda: Net(lambda n, x, y: n.b((n.a(x) - n.a(y)).abs()), a=conv(3, 6), b=conv(6, 2)),
        "a:6",
        inputs=(IMAGE, IMAGE),
    ),
    "feature_map_also_returned": Case(
        lambda: Net(lambda n, x: (n.b(y := n.a(x)), y, n.c(x)), a=conv(3, 8), c=conv(3, 2), b=conv(8, 2)),
        stays="a",
        why="reaches the network's output",
    ),
    "functional_batch_norm": Case(
        lambda: Net(
            lambda n, x: n.b(functional.batch_norm(n.a(x), n.mean, n.var, n.scale)),
            a=conv(3, 8),
            b=conv(8, 2),
            mean=torch.zeros(8),
            var=torch.ones(8),
            scale=weight(8),
        ),
        "scale:8",
    ),
    "window_attention_shift": Case(
        lambda: Net(
            lambda n, x: n.b(n.a(x).roll((-1, -1), (2, 3)).relu().roll((1, 1), (2, 3))), a=conv(3, 8), b=conv(8, 2)
        ),
        "a:8",
    ),
    "patch_merging": Case(
        lambda: Net(
            lambda n, x: n.b(
                torch.cat([n.a(x.permute(0, 2, 3, 1))[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
            ),
            a=nn.Linear(3, 8),
            b=nn.Linear(32, 2),
        ),
        "a:8",
    ),
}


def lstm(kind: type[nn.Module], **options) -> Case:
    return Case(
        lambda: Net(
            lambda n, x: n.b(n.m(n.a(x).flatten(2).transpose(1, 2))[0]),
            a=conv(3, 8),
            m=kind(8, 5, batch_first=True, **options),
            b=nn.Linear(10 if options.get("bidirectional") else 5, 2),
        ),
        stays="a m",
        why=f"feeds {kind.__name__} 'm', whose gates hwprune does not cut",
    )


def cell(net: Net, x: Tensor) -> Tensor:
    hidden = net.a(x).mean((2, 3))
    for _ in range(2):
        hidden = net.m(hidden, hidden)
    return net.b(hidden)


RECURRENT = {
    "lstm": lstm(nn.LSTM),
    "lstm_both_ways": lstm(nn.LSTM, bidirectional=True, num_layers=2),
    "gru": lstm(nn.GRU),
    "rnn": lstm(nn.RNN),
    "gru_cell": Case(
        lambda: Net(cell, a=conv(3, 8), m=nn.GRUCell(8, 8), b=nn.Linear(8, 2)), stays="a", why="feeds GRUCell"
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_keep_the_law(name: str) -> None:
    check(BLOCKS[name])


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_modules_are_left_alone_and_named(name: str) -> None:
    check(RECURRENT[name])
