from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwprune.errors import DataError, ModelError, NumericsError
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.fisher import Fisher, Gradients
from hwprune.models.cifar_resnet import resnet20
from hwprune.plan import Plan
from tests.graph.networks import awake


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, a residual, a shared module called twice, squeeze-excite, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.depthwise, self.shared = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.inner, self.head = nn.Linear(8 * 16, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(self.stem(x)).relu()).relu()
        x = x + self.shared(self.shared(x).relu())
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(self.inner(x.flatten(1)).relu())


class Tokens(nn.Module):
    """Linear layers on (batch, tokens, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(48, 7), nn.Linear(7, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x.flatten(2).transpose(1, 2).repeat(1, 1, 16)).relu()).relu().mean(1))


def small_resnet() -> nn.Module:
    return awake(resnet20(num_classes=5), torch.randn(4, 3, 8, 8))


def by_explicit_mask(model: nn.Module, network: Network, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """The slow obvious way: one mask per sample and coupled channel, multiplied at every consumer's input."""
    mask = torch.ones(len(x), sum(g.width for g in network.groups), dtype=torch.float64, requires_grad=True)
    modules, handles = dict(model.named_modules()), []
    for consumer in network.consumers:
        numbers = torch.from_numpy(consumer.channel_of)
        linear = isinstance(modules[consumer.module], nn.Linear)

        def multiply(module: nn.Module, inputs: tuple[Tensor, ...], numbers: Tensor = numbers, linear: bool = linear):
            entries = torch.where(numbers >= 0, mask[:, numbers.clamp(min=0)], 1.0)
            rank = inputs[0].dim() - 2
            shape = (len(entries), *(1,) * rank, -1) if linear else (len(entries), -1, *(1,) * rank)
            return (inputs[0] * entries.view(shape),)

        handles.append(modules[consumer.module].register_forward_pre_hook(multiply))
    (gradient,) = torch.autograd.grad(cross_entropy(model.eval()(x), y), mask)
    for handle in handles:
        handle.remove()
    values = (gradient.square().sum(0) / (2 * len(x))).numpy()
    return {group.name: values[group.numbers] for group in network.free}


@pytest.mark.parametrize("make", [Grouped, Tokens, small_resnet])
def test_scores_equal_autograd_of_an_explicit_mask(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().double()
    x, y = torch.randn(6, 3, *((8, 8) if make is small_resnet else (4, 4)), dtype=torch.float64), torch.arange(6) % 5
    network = analyze(model, x[:1])
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]

    scores = Fisher().scores(model, network, batches, cross_entropy)
    expected = by_explicit_mask(model, network, x, y)

    assert scores.keys() == expected.keys()
    assert len(scores) >= 2
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-9, atol=1e-15)


def test_inputs_may_be_whole_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 5)).double()
    x, y = torch.randint(0, 9, (4, 3)), torch.arange(4)
    network = analyze(model, x[:1])

    scores, expected = Fisher().scores(model, network, [(x, y)], cross_entropy), by_explicit_mask(model, network, x, y)

    assert scores.keys() == {"0", "1"}
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-9)


def test_the_model_its_flags_and_gradients_are_left_as_they_were() -> None:
    model = Grouped().train()
    model.stem.weight.requires_grad_(False)
    network = analyze(model, torch.randn(1, 3, 4, 4))
    Fisher().scores(model, network, [(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))], cross_entropy)

    assert model.training
    assert not model.stem.weight.requires_grad and model.head.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_removing_the_least_important_channels_hurts_less_than_the_most_important() -> None:
    torch.manual_seed(0)
    model = small_resnet()
    x = torch.randn(64, 3, 8, 8)
    y = model(x).argmax(1)  # a network that is right about its data
    network = analyze(model, x[:1])
    scores = Fisher().scores(model, network, [(x, y)], cross_entropy)

    def loss_without(order: np.ndarray) -> float:
        group = network.group("layer1.0.conv1")
        with torch.no_grad():
            return float(
                cross_entropy(cut(model, Plan.keeping(network, {group.name: sorted(order[4:])}), network)(x), y)
            )

    order = np.argsort(scores["layer1.0.conv1"])
    assert loss_without(order) < loss_without(order[::-1])


def test_no_data_and_nan_are_errors() -> None:
    model = Grouped()
    network = analyze(model, torch.randn(1, 3, 4, 4))
    with pytest.raises(DataError):
        Fisher().scores(model, network, [], cross_entropy)
    model.inner.weight.data[0, 0] = float("nan")
    with pytest.raises(NumericsError, match="group"):
        Fisher().scores(model, network, [(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))], cross_entropy)


def test_activations_are_held_and_not_copied() -> None:
    model = Grouped()
    network = analyze(model, torch.randn(1, 3, 4, 4))
    (consumer,) = [c for c in network.consumers if c.module == "grouped"]
    gradients = Gradients(100, torch.device("cpu"))
    x = torch.randn(2, 8, 4, 4, requires_grad=True)

    (given,) = gradients.watch(consumer)(model.grouped, (x,))

    assert given.data_ptr() == x.data_ptr()


def test_a_layer_that_cannot_be_watched_is_refused_and_not_overlooked() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.weight = nn.Conv2d(3, 8, 1), nn.Parameter(torch.randn(5, 8, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.stem(x), self.weight).mean((2, 3))

    model = Functional()
    network = analyze(model, torch.randn(1, 3, 4, 4))

    assert network.widths == {"stem": 8}
    with pytest.raises(ModelError, match="cannot see"):
        Fisher().scores(model, network, [(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))], cross_entropy)


class Pyramid(nn.Module):
    """Two levels, one head on both of them, and linear layers on windows that follow each other sample by sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deeper = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.lateral, self.top = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.head, self.logits = nn.Conv2d(6, 7, 3, padding=1), nn.Conv2d(7, 5, 1)
        self.window, self.out = nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x).relu()
        coarse = self.deeper(fine).relu()
        levels = [self.lateral(fine), self.top(coarse)]
        pooled = [self.logits(self.head(level).relu()).mean((2, 3)) for level in levels]
        windows = (
            levels[0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).permute(0, 2, 4, 3, 5, 1).flatten(0, 2).flatten(1, 2)
        )
        return sum(pooled) + self.out(self.window(windows).relu()).mean(1).unflatten(0, (len(x), 4)).mean(1)


def test_a_head_on_several_levels_is_summed_over_them_before_squaring() -> None:
    """Also where a sample has several rows, as windows and regions have."""
    torch.manual_seed(0)
    model = Pyramid().double()
    x, y = torch.randn(5, 3, 4, 4, dtype=torch.float64), torch.arange(5)
    network = analyze(model, x[:1])
    masks = torch.ones(5, 6, dtype=torch.float64, requires_grad=True)  # the channels that the head and windows read

    def listen(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows = masks.repeat_interleave(len(inputs[0]) // 5, 0)
        return (inputs[0] * (rows[:, :, None, None] if module is model.head else rows[:, None]),)

    handles = [module.register_forward_pre_hook(listen) for module in (model.head, model.window)]
    (gradient,) = torch.autograd.grad(cross_entropy(model(x), y), masks)
    for handle in handles:
        handle.remove()
    (group,) = [group for group in network.free if "head" in group.consumers]

    scores = Fisher().scores(model, network, [(x, y)], cross_entropy)[group.name]

    assert set(group.members) == {"lateral", "top"}
    np.testing.assert_allclose(scores, (gradient.square().sum(0) / 10).numpy(), rtol=1e-9)


def test_rows_that_belong_to_no_sample_are_refused() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)[1:]).sum(0, keepdim=True).expand(len(x), 5)

    model = Mixed()
    network = analyze(model, torch.randn(3, 6))
    with pytest.raises(ModelError, match="2 rows for 3 samples"):
        Fisher().scores(model, network, [(torch.randn(3, 6), torch.zeros(3, dtype=torch.int64))], cross_entropy)
