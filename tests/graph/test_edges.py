"""Code as people write it: each model is cut and verified, or keeps its channels and says why and where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwprune.errors import UnknownOpError
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.plan import Plan
from tests.graph.edges import IMAGE, conv, halved, why
from tests.graph.laws import Net

# Operators


def test_an_operator_without_a_rule_keeps_the_channels_that_reach_it_and_is_named() -> None:
    @torch.library.custom_op("hwprune_tests::mystery", mutates_args=())
    def mystery(x: Tensor) -> Tensor:
        return x.flip(1)

    mystery.register_fake(torch.empty_like)
    model = Net(lambda net, x: net.c(net.b(mystery(net.a(x))).relu()), a=conv(3, 8), b=conv(8, 8), c=conv(8, 4))
    network, small = halved(model)

    assert network.widths == {"b": 8}
    assert why(network, "a") == "reaches 'mystery', which has no channel rule (mystery in 'the network itself')"
    assert small.c.in_channels == 4
    with pytest.raises(UnknownOpError, match="no channel rule for operator 'mystery'"):
        analyze(model, IMAGE, on_unknown="refuse")


def test_a_shape_that_depends_on_data_keeps_its_channels() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.b(net.a(x).relu())
        found = x[:, 0] > 0  # as many rows as the data says
        rows: Tensor = net.c(x.permute(0, 2, 3, 1)[found])
        return rows.mean(0)

    model = Net(run, a=conv(3, 8), b=conv(8, 8), c=nn.Linear(8, 4))
    network, _ = halved(model, torch.randn(2, 3, 8, 8))

    assert network.trace.method in ("fake", "real")
    assert network.widths == {}
    assert "a shape that depends on data: index in 'the network itself'" in why(network, "a")
    assert f"test_edges.py:{run.__code__.co_firstlineno + 3}" in why(network, "a")


@pytest.mark.parametrize("pick", [lambda x: x.flatten().nonzero().sum(), lambda x: x.masked_select(x > 0).sum()])
def test_values_that_are_picked_by_data_leave_the_rest_of_the_network_free(pick: Any) -> None:
    model = Net(
        lambda net, x: net.c(net.b(x).relu()) + pick(net.a(x)).clamp(0, 1), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4)
    )
    network, small = halved(model, torch.randn(2, 3, 8, 8))

    assert network.widths == {"b": 8}
    assert why(network, "a")
    assert small.c.in_channels == 4


# In place


def test_a_write_into_the_first_channels_is_followed_or_keeps_them() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        x[:, :4] += 1
        out: Tensor = net.b(x)
        return out

    network, _ = halved(Net(run, a=conv(3, 8), b=conv(8, 4)))

    assert sum(group.width for group in network.groups if group.name.startswith("a")) == 8


def test_a_write_into_a_shared_buffer_leaves_the_buffer_as_it_was() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        net.cache[:, : y.shape[1]].copy_(y)
        out: Tensor = net.b(net.cache[:, : y.shape[1]])
        return out

    model = Net(run, a=conv(3, 8), b=conv(8, 4), cache=torch.zeros(2, 16, 8, 8))
    network, small = halved(model)

    assert small.cache.shape[0] == 2
    assert network.group("a").width == 8


def test_activations_in_place_and_outputs_added_in_place_are_followed() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.a(x).relu_()
        x += net.b(x)
        out: Tensor = net.c(x)
        return out

    network, small = halved(Net(run, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4)))

    assert network.widths == {"a": 8}
    assert (small.b.in_channels, small.b.out_channels) == (4, 4)


# Sizes in the code


def test_a_size_written_into_the_forward_keeps_its_channels_and_the_line_is_named() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.b(net.a(x).relu())
        out: Tensor = net.c(x.reshape(-1, 8, 64)[..., 0])  # the line
        return out

    network, _ = halved(Net(run, a=conv(3, 8), b=conv(8, 8), c=nn.Linear(8, 4)))
    line = run.__code__.co_firstlineno + 2

    assert network.widths == {"a": 8}
    assert f"test_edges.py:{line}" in why(network, "b")
    assert "size written into the code" in why(network, "b")


def test_a_check_of_the_width_in_the_forward_keeps_it_and_the_line_is_named() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        x = net.b(net.a(x).relu())
        if x.shape[1] != 8:
            raise ValueError("eight channels, please")
        out: Tensor = net.c(x)
        return out

    network, _ = halved(Net(run, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4)))
    line = run.__code__.co_firstlineno + 3

    assert "b" not in network.widths
    assert "eight channels, please" in why(network, "b")
    assert f"test_edges.py:{line}" in why(network, "b")


# Precision, layout, device


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_a_model_is_kept(dtype: torch.dtype) -> None:
    model = Net(lambda net, x: net.c(net.n(net.a(x)).relu()), a=conv(3, 8), n=nn.BatchNorm2d(8), c=conv(8, 4)).to(dtype)
    network, small = halved(model)

    assert network.widths == {"a": 8}
    assert {x.dtype for x in small.state_dict().values() if x.is_floating_point()} == {dtype}


def test_a_model_of_several_precisions_keeps_each() -> None:
    model = Net(lambda net, x: net.c(net.a(x).double()), a=conv(3, 8), c=conv(8, 4).double())
    network = analyze(model.eval(), IMAGE)
    plan = Plan.keeping(network, {"a": [1, 2]})
    small = cut(model, plan, network)

    assert (small.a.weight.dtype, small.c.weight.dtype) == (torch.float32, torch.float64)
    assert verify(model, small, plan, network).equal


def test_channels_last_weights_stay_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _, small = halved(model)

    assert small[2].weight.shape == (6, 4, 3, 3)
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in (small[0], small[2]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the copy stays on the model's device")
def test_a_model_on_the_gpu_stays_there() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3)).cuda()
    network, small = halved(model)

    assert network.widths == {"0": 8}
    assert {x.device.type for x in small.state_dict().values()} == {"cuda"}


def test_a_model_on_the_meta_device_is_analysed_and_cut() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3))
    network = analyze(model, IMAGE)
    small = cut(model, Plan.keeping(network, {"0": [0, 1]}), network)

    assert small[2].weight.shape == (6, 2, 3, 3)
    assert small[2].weight.is_meta
