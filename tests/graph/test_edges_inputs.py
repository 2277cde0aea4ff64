"""Inputs and outputs of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from hwprune.errors import ModelError
from hwprune.graph.coupling import analyze
from hwprune.graph.inputs import Inputs
from tests.graph.edges import IMAGE, conv, halved, why
from tests.graph.laws import Net

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
