"""The paper's own way of pruning: masks, counts, and what a stop and a resume leave."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hwprune import analyze
from hwprune.cost.normalisation import mac_ops, memory_ops
from hwprune.cost.work import parameter_names, work
from hwprune.errors import HwpruneError, RunError
from hwprune.graph.network import Network
from hwprune.graph.surgery import cut
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.fisher import Gradients, watching
from hwprune.loop.group_fisher import GroupFisher, Removed, group_fisher
from hwprune.models.cifar_resnet import resnet20
from hwprune.plan import Plan
from tests.graph.networks import awake

OPTIONS = GroupFisher(interval=2, lr=0.01)


class Repeated:
    """A few batches of random images, the same in every epoch but for their order."""

    def __init__(self, count: int = 3, samples: int = 6) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            (torch.randn(samples, 3, 8, 8, generator=generator), torch.arange(samples) % 5) for _ in range(count)
        ]

    def epoch(self, number: int):  # type: ignore[no-untyped-def]
        return iter(self.batches[number % 3 :] + self.batches[: number % 3])

    def __iter__(self):  # type: ignore[no-untyped-def]
        return self.epoch(0)

    def __len__(self) -> int:
        return len(self.batches)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return awake(resnet20(num_classes=5), torch.randn(4, 3, 8, 8)).train()


@pytest.fixture
def network(model: nn.Module) -> Network:
    return analyze(model.eval(), torch.randn(1, 3, 8, 8))


class Counted:
    """Says done after so many removals, and remembers them."""

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, []  # type: ignore[var-annotated]

    def __call__(self, removed: Removed) -> bool:
        if not self.seen or self.seen[-1].widths != removed.widths:
            self.seen.append(removed)
        return len(self.seen) > self.most


def pruned(model: nn.Module, network: Network, done: Counted, checkpoint: Path | None = None, **options: int) -> Plan:
    return group_fisher(
        model,
        network,
        Repeated(),
        options=replace(OPTIONS, **options),
        price=memory_ops(network),
        done=done,
        checkpoint=checkpoint,
    )


def test_one_coupled_channel_goes_every_interval(model: nn.Module, network: Network) -> None:
    done = Counted(5)
    plan = pruned(model, network, done)

    assert [one.step for one in done.seen] == [0, 2, 4, 6, 8, 10]
    for before, after in pairwise(done.seen):
        assert sum(before.widths.values()) - sum(after.widths.values()) == 1
    assert plan.kept_widths == done.seen[-1].widths


def test_several_channels_may_go_at_once(model: nn.Module, network: Network) -> None:
    done = Counted(6)
    pruned(model, network, done, channels=3)

    assert [one.step for one in done.seen] == [0, 2, 2, 2, 4, 4, 4]


def test_every_channel_that_goes_had_the_least_information_per_memory(model: nn.Module, network: Network) -> None:
    """Beside the slow way: the weights after the last step, one explicit mask, the first removal by hand."""
    data = Repeated()
    torch.manual_seed(0)
    shadow = awake(resnet20(num_classes=5), torch.randn(4, 3, 8, 8))
    shadow.load_state_dict(model.state_dict())
    plan = pruned(model, network, Counted(1))

    optimizer = torch.optim.SGD(shadow.parameters(), lr=OPTIONS.lr, momentum=0.9, weight_decay=1e-4)
    count = sum(group.width for group in network.groups)
    information = torch.zeros(count, dtype=torch.float64)
    for inputs, labels in data.batches[:2]:
        gradients = Gradients(count, torch.device("cpu"), torch.ones(count))
        shadow.train()
        with watching(shadow, network, gradients):
            optimizer.zero_grad()
            gradients.start(len(inputs))
            functional.cross_entropy(shadow(inputs), labels).backward()
            optimizer.step()
        information += gradients.sum.square().sum(0)  # type: ignore[union-attr]
    elements = {
        group.name: sum(
            op.at(network.widths) - op.at({**network.widths, group.name: group.width - 1})
            for op in memory_ops(network)
            if group.name in op.groups
        )
        for group in network.free
    }
    scores = {group.name: information[group.numbers].numpy() / elements[group.name] for group in network.free}
    worst = min(scores, key=lambda name: scores[name].min())

    for group in network.free:
        removed = sorted(set(range(group.width)) - set(plan.kept[group.name]))
        assert removed == ([int(np.argmin(scores[worst]))] if group.name == worst else [])


def test_gradients_of_a_mask_that_is_set_equal_autograd_of_it(model: nn.Module, network: Network) -> None:
    model, x, y = model.double().eval(), torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.arange(4)
    count = sum(group.width for group in network.groups)
    kept = (torch.rand(count, generator=torch.Generator().manual_seed(1)) > 0.4).double()
    gradients = Gradients(count, torch.device("cpu"), kept)
    with watching(model, network, gradients):
        gradients.start(len(x))
        cross_entropy(model(x), y).backward()

    mask = kept.repeat(len(x), 1).requires_grad_()
    modules, handles = dict(model.named_modules()), []
    for consumer in network.consumers:
        numbers = torch.from_numpy(consumer.channel_of)
        linear = isinstance(modules[consumer.module], nn.Linear)

        def multiply(module, inputs, numbers=numbers, linear=linear):  # type: ignore[no-untyped-def]
            entries = torch.where(numbers >= 0, mask[:, numbers.clamp(min=0)], 1.0)
            return (inputs[0] * (entries if linear else entries[:, :, None, None]),)

        handles.append(modules[consumer.module].register_forward_pre_hook(multiply))
    (expected,) = torch.autograd.grad(cross_entropy(model(x), y), mask)

    torch.testing.assert_close(gradients.sum, expected, rtol=1e-9, atol=1e-15)


def test_the_masked_network_computes_what_the_cut_one_does(model: nn.Module, network: Network) -> None:
    plan = pruned(model, network, Counted(12), channels=2)
    x = torch.randn(3, 3, 8, 8)
    count = sum(group.width for group in network.groups)
    mask = torch.ones(count)
    for group in network.free:
        mask[group.numbers] = torch.zeros(group.width).index_fill_(0, torch.tensor(plan.kept[group.name]), 1.0)
    with watching(model.eval(), network, Gradients(count, torch.device("cpu"), mask)), torch.no_grad():
        masked = model(x)

    assert any(len(kept) < network.widths[name] for name, kept in plan.kept.items())
    torch.testing.assert_close(cut(model, plan, network)(x), masked, rtol=1e-4, atol=1e-5)


def test_it_ends_with_the_removal_that_meets_the_target(model: nn.Module, network: Network) -> None:
    parameters, seen = parameter_names(model), []
    limit = 0.97 * work(network, parameters).macs

    def done(removed: Removed) -> bool:
        seen.append(work(network, parameters, removed.widths).macs)
        return seen[-1] <= limit

    plan = group_fisher(model, network, Repeated(), options=OPTIONS, price=mac_ops(network), done=done)

    assert work(network, parameters, plan.kept_widths).macs == seen[-1] <= limit
    assert min(seen[:-1]) > limit
    assert not model.training


def test_weights_train_meanwhile(model: nn.Module, network: Network) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pruned(model, network, Counted(2))

    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_killed_pruning_goes_on_to_the_same_end(network: Network, model: nn.Module, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    whole = pruned(model, network, Counted(8))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)

    class Killed(Counted):
        def __call__(self, removed: Removed) -> bool:
            if removed.step == 8:
                raise KeyboardInterrupt
            return super().__call__(removed)

    with pytest.raises(KeyboardInterrupt):
        pruned(model, network, Killed(8), tmp_path / "state.safetensors")
    model.load_state_dict(state)
    done = Counted(5)  # three of the eight were gone when the last epoch ended
    again = pruned(model, network, done, tmp_path / "state.safetensors")

    assert done.seen[0].step == 6
    assert again.kept == whole.kept
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_a_state_of_other_options_is_refused(network: Network, model: nn.Module, tmp_path: Path) -> None:
    pruned(model, network, Counted(3), tmp_path / "state.safetensors")

    with pytest.raises(RunError, match="other options"):
        pruned(model, network, Counted(5), tmp_path / "state.safetensors", interval=3)


def test_no_group_loses_its_last_channel_and_a_target_below_that_is_an_error(
    network: Network, model: nn.Module
) -> None:
    narrowest: list[int] = []

    def never(removed: Removed) -> bool:
        narrowest.append(min(removed.widths.values()))
        return False

    with pytest.raises(HwpruneError, match="no channel is left"):
        group_fisher(
            model, network, Repeated(), options=GroupFisher(1, 60, 1e-4), price=memory_ops(network), done=never
        )
    assert min(narrowest) == 1


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"channels": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(HwpruneError, match="cannot be"):
        GroupFisher(**wrong)  # type: ignore[arg-type]
