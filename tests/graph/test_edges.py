"""Models as people write them: each is cut and verified, or keeps its channels and says why and where."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from hwprune.errors import ModelError, UnknownOpError
from hwprune.graph.coupling import analyze
from hwprune.graph.inputs import Inputs
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.plan import Plan
from tests.graph.laws import Net
from tests.graph.networks import random_plan

IMAGE = torch.zeros(2, 3, 8, 8)


def conv(before: int, after: int, **options: Any) -> nn.Conv2d:
    """A 1 x 1 convolution."""
    return nn.Conv2d(before, after, 1, **options)


def halved(model: nn.Module, inputs: Any = IMAGE) -> tuple[Network, nn.Module]:
    """The analysis and a copy cut to half of every free group, verified; the model itself is left as it was."""
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [dict(vars(module)) for module in model.modules()]
    network = analyze(model.eval(), inputs)
    kept = {g.name: range(g.width // 2) for g in network.free}
    plan = Plan.keeping(network, kept)
    small = cut(model, plan, network)
    for seed in range(2):
        some = random_plan(network, np.random.default_rng(seed))
        result = verify(model, cut(model, some, network), some, network)
        assert result.equal, (result, some.kept)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [list(vars(module)) for module in model.modules()] == [list(found) for found in attributes]
    return network, small


def why(network: Network, name: str) -> str:
    """Why a group stays."""
    return network.group(name).pinned or ""


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
    assert "index in 'the network itself'" in why(network, "a")
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


# Inputs and outputs


def test_a_forward_that_takes_a_dict() -> None:
    model = Net(lambda net, batch: net.b(net.a(batch["image"])) * batch["scale"], a=conv(3, 8), b=conv(8, 4))
    network, small = halved(model, ({"image": IMAGE, "scale": torch.tensor(2.0), "name": "a cat"},))

    assert network.widths == {"a": 8}
    assert small({"image": IMAGE, "scale": 1.0}).shape == (2, 4, 8, 8)


def test_a_lone_dict_is_the_only_argument() -> None:
    model = Net(lambda net, batch: net.b(net.a(batch["image"])), a=conv(3, 8), b=conv(8, 4))

    assert analyze(model, {"image": IMAGE}).widths == {"a": 8}


class Masked(nn.Module):
    """A forward with a keyword argument."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, flag: bool = False) -> Tensor:
        assert flag
        x = self.a(x)
        out: Tensor = self.b(x if mask is None else x * mask)
        return out


def test_keyword_arguments() -> None:
    inputs = Inputs.of((IMAGE,), {"mask": torch.ones(2, 1, 8, 8), "flag": True})
    network, small = halved(Masked(), inputs)

    assert network.widths == {"a": 8}
    assert small.b.in_channels == 4


def test_several_inputs_of_which_one_is_a_list() -> None:
    model = Net(
        lambda net, x, more: net.c(net.a(x) + net.b(more[0]) + net.b(more[1])), a=conv(3, 8), b=conv(5, 8), c=conv(8, 4)
    )
    other = torch.zeros(2, 5, 8, 8)
    network, small = halved(model, (IMAGE, [other, other]))

    assert network.widths == {"a": 8}
    assert (small.b.in_channels, small.b.out_channels) == (5, 4)


def test_nested_outputs_keep_their_channels_and_what_is_inside_goes() -> None:
    def run(net: Any, x: Tensor) -> dict[str, Any]:
        x = net.a(x).relu()
        return {"maps": [net.b(x), net.c(x)], "pooled": (net.c(x).mean((2, 3)), None), "count": 3}

    network, small = halved(Net(run, a=conv(3, 8), b=conv(8, 4), c=conv(8, 6)))
    out = small(IMAGE)

    assert network.widths == {"a": 8}
    assert [x.shape[1] for x in out["maps"]] == [4, 6]
    assert out["pooled"][1] is None
    assert why(network, "b") == "reaches the network's output"


@dataclass
class Answer:
    """What a network may return: no tuple and no dict."""

    logits: Tensor
    more: Any = None


@pytest.mark.parametrize(
    "wrap",
    [Answer, lambda x: SimpleNamespace(x=[Answer(1.0, {"a": x})]), lambda x: Normal(x, 1.0, validate_args=False)],
)
def test_tensors_inside_objects_of_other_classes_are_outputs_too(wrap: Any) -> None:
    model = Net(lambda net, x: wrap(net.b(net.a(x))), a=conv(3, 8), b=conv(8, 4))
    network, _ = halved(model)

    assert network.widths == {"a": 8}
    assert why(network, "b") == "reaches the network's output"


def test_a_network_that_returns_no_tensor_is_refused() -> None:
    model = Net(lambda net, x: [net.b(net.a(x)).shape, None], a=conv(3, 8), b=conv(8, 4))

    with pytest.raises(ModelError, match="returns no tensor"):
        analyze(model, IMAGE)


def test_integers_that_an_embedding_looks_up() -> None:
    model = Net(
        lambda net, tokens: net.b(net.a(net.words(tokens)).relu()),
        words=nn.Embedding(50, 16, padding_idx=0),
        a=nn.Linear(16, 8),
        b=nn.Linear(8, 4),
    )
    network, small = halved(model, torch.randint(0, 50, (2, 7)))

    assert network.widths == {"words": 16, "a": 8}
    assert (small.words.num_embeddings, small.words.embedding_dim) == (50, 8)
    assert small(torch.tensor([[49, 3]])).shape == (1, 2, 4)


def test_no_tensor_among_the_inputs_is_an_error() -> None:
    with pytest.raises(ModelError, match="no tensor"):
        analyze(Masked(), ({"image": "cat.png"},))


# Parameters


def test_frozen_parameters_stay_frozen() -> None:
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), conv(8, 4))
    model[0].weight.requires_grad_(False)
    model[1].requires_grad_(False)
    _, small = halved(model)

    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in small.named_parameters()} == frozen
    assert not all(frozen.values())


def test_tied_parameters_stay_tied() -> None:
    model = Net(
        lambda net, tokens: net.head(net.b(net.words(tokens)).relu()),
        words=nn.Embedding(20, 16),
        b=nn.Linear(16, 16),
        head=nn.Linear(16, 20, bias=False),
    )
    model.head.weight = model.words.weight
    network, small = halved(model, torch.randint(0, 20, (2, 5)))

    assert small.head.weight is small.words.weight
    assert small.words.weight.shape == (20, 8)
    assert list(network.widths.values()) == [16]


def test_a_module_under_two_names_stays_one_module() -> None:
    shared = conv(8, 8)
    model = Net(lambda net, x: net.d(net.c(net.b(net.a(x)).relu())), a=conv(3, 8), b=shared, c=shared, d=conv(8, 4))
    network, small = halved(model)

    assert network.widths == {"a": 8}
    assert small.b is small.c
    assert small.b.weight.shape[:2] == (4, 4)


def test_parameters_that_the_forward_does_not_use_stay_as_they_are() -> None:
    model = Net(lambda net, x: net.b(net.a(x)), a=conv(3, 8), b=conv(8, 4), spare=conv(8, 8))
    network, small = halved(model)

    assert network.widths == {"a": 8}
    assert torch.equal(small.spare.weight, model.spare.weight)
    assert why(network, "spare") == "is not used by the forward pass"


def test_hooks_and_plain_attributes_come_along() -> None:
    model = Net(lambda net, x: net.b(net.a(x)), a=conv(3, 8), b=conv(8, 4))
    model.names = ["cat", "dog"]
    model.a.register_forward_hook(lambda module, args, out: out * 2)
    _, small = halved(model)

    assert small.names == ["cat", "dog"]
    assert small.names is not model.names
    assert len(small.a._forward_hooks) == 1


# State


class Anchored(nn.Module):
    """Keeps what its last pass made on itself, as detectors keep anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 4)
        self.anchors: Tensor | None = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.anchors = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        self.shape = tuple(x.shape)
        out: Tensor = self.b(self.a(x)) + self.anchors
        return out


def test_what_a_pass_leaves_on_the_model_is_forgotten() -> None:
    model = Anchored()
    _, small = halved(model)

    assert model.anchors is None
    assert model.calls == 0
    assert not hasattr(model, "shape")
    assert small.anchors is None
    assert small(IMAGE).shape == (2, 4, 8, 8)


def test_a_model_that_has_run_before_is_cut_without_its_old_state() -> None:
    model = Anchored().eval()
    model(torch.zeros(1, 3, 4, 4))
    kept = model.anchors
    halved(model)

    assert model.anchors is kept
    assert model.calls == 1


def test_the_mode_of_every_module_and_the_random_state_are_left_alone() -> None:
    model = nn.Sequential(conv(3, 8), nn.Dropout(0.5), nn.BatchNorm2d(8), conv(8, 4)).train()
    model[2].eval()
    state = torch.get_rng_state()
    network = analyze(model, IMAGE)
    small = cut(model, Plan.keeping(network, {"0": [0, 1]}), network)

    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    assert [module.training for module in small.modules()] == [True, True, True, False, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_of_a_copy_is_cut_again() -> None:
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 4))
    _, small = halved(model)
    _, smaller = halved(copy.deepcopy(small))

    assert [layer.out_channels for layer in smaller if isinstance(layer, nn.Conv2d)] == [2, 2, 4]
