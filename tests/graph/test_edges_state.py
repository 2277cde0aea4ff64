"""Parameters and state of every kind: the model is left as it was, and the copy has what it needs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.plan import Plan
from tests.graph.edges import IMAGE, conv, halved, why
from tests.graph.laws import Net

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
