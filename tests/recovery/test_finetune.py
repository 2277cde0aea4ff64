"""Training a pruned network until its accuracy is back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hwprune.data import Data, load_data
from hwprune.errors import DataError, HwpruneError, NumericsError
from hwprune.recovery.evaluate import evaluate
from hwprune.recovery.finetune import finetune
from hwprune.recovery.recipe import Progress, Recipe

RECIPE = Recipe(epochs=3, lr=0.05, seed=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of one thread are the same on every run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", input_shape=(1, 8, 8), batch_size=64)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = [
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 10))


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


class Killed(Exception):
    """In place of a signal."""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_training_repeats_one_epoch_at_most_and_ends_in_the_same_bits(
    digits: Data, tmp_path: Path, optimizer: str
) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 0.003)  # type: ignore[arg-type]
    whole, killed, fresh = network(), network(), network()
    expected = finetune(whole, digits, recipe)
    steps = []

    def kill(progress: Progress) -> None:
        if progress.step == len(digits.train) + 5:
            raise Killed

    with pytest.raises(Killed):
        finetune(killed, digits, recipe, checkpoint=tmp_path / "c", on_progress=kill)
    torch.manual_seed(99)
    result = finetune(fresh, digits, recipe, checkpoint=tmp_path / "c", on_progress=lambda p: steps.append(p.step))

    assert result.resumed_after == 1
    assert steps[0] == len(digits.train) + 1
    assert result.history == expected.history
    assert same(fresh, whole)


def test_a_finished_training_is_not_repeated(digits: Data, tmp_path: Path) -> None:
    first, second = network(), network(seed=1)
    recipe = replace(RECIPE, epochs=1)
    result = finetune(first, digits, recipe, checkpoint=tmp_path / "c")

    again = finetune(second, digits, recipe, checkpoint=tmp_path / "c")

    assert again.history == result.history
    assert same(first, second)


def test_training_learns_and_says_what_it_does(digits: Data) -> None:
    told: list[Progress] = []
    model = network()

    result = finetune(model, digits, RECIPE, on_progress=told.append)

    steps = len(digits.train)
    assert [p.step for p in told if p.finished is None] == list(range(1, 3 * steps + 1))
    assert [p.finished for p in told if p.finished is not None] == list(result.history)
    assert {(p.steps, p.epochs) for p in told} == {(3 * steps, 3)}
    assert result.final == evaluate(model, digits.validation)
    assert result.final.top1 > 0.8
    assert not any(module.training for module in model.modules())


def test_the_callers_random_state_and_the_teacher_are_left_alone(digits: Data) -> None:
    teacher = network(seed=1)
    before = copy.deepcopy(teacher)
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    model = network()
    torch.set_rng_state(state)
    finetune(model, digits, replace(RECIPE, max_steps=3, distill=0.5), teacher=teacher)

    assert torch.equal(torch.rand(3), expected)
    assert same(teacher, before)
    assert all(module.training for module in teacher.modules())


def test_pure_distillation_follows_the_teacher_and_not_the_labels(digits: Data) -> None:
    teacher, student = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), network()
    teacher[1].weight.data.zero_()
    teacher[1].bias.data = torch.eye(10)[3] * 9

    finetune(student, digits, replace(RECIPE, distill=1.0, epochs=1), teacher=teacher)

    inputs, _ = next(iter(digits.validation))
    assert (student(inputs).argmax(1) == 3).all()


def test_a_step_limit_stops_in_the_middle_of_an_epoch(digits: Data) -> None:
    steps = len(digits.train) + 3
    told: list[Progress] = []

    result = finetune(network(), digits, replace(RECIPE, max_steps=steps), on_progress=told.append)

    assert len(result.history) == 2
    assert told[-1].step == told[-1].steps == steps
    assert told[-1].epochs == 2


def test_no_epochs_leave_the_network_as_it_is(digits: Data) -> None:
    model = network()

    assert finetune(model, digits, replace(RECIPE, epochs=0)).final is None
    assert same(model, network())


def test_a_diverging_training_says_where_and_what_is_left(digits: Data, tmp_path: Path) -> None:
    model = network()
    steps = len(digits.train)

    def poison(progress: Progress) -> None:
        if progress.step == steps + 2 and progress.finished is None:
            model[0].weight.data[0] = float("nan")

    with pytest.raises(NumericsError) as caught:
        finetune(model, digits, RECIPE, checkpoint=tmp_path / "c", on_progress=poison)

    assert f"at step {steps + 3} in epoch 2" in str(caught.value)
    assert f"of epoch 1, are in {tmp_path / 'c'}" in str(caught.value)
    assert finetune(network(), digits, RECIPE, checkpoint=tmp_path / "c").resumed_after == 1


def test_clipping_and_reduced_precision_train_too(digits: Data) -> None:
    final = finetune(network(), digits, replace(RECIPE, clip_norm=1.0, amp=True, label_smoothing=0.1)).final

    assert final is not None
    assert final.top1 > 0.7


def test_what_cannot_be_trained_is_refused(digits: Data) -> None:
    with pytest.raises(HwpruneError, match="needs a teacher"):
        finetune(network(), digits, replace(RECIPE, distill=0.5))
    with pytest.raises(DataError, match="outside of the network's 4 outputs"):
        finetune(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), digits, RECIPE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_ends_as_accurate_as_on_the_cpu(digits: Data) -> None:
    model = network().cuda()

    final = finetune(model, digits, RECIPE, teacher=network(), checkpoint=None).final

    assert final is not None
    assert final.top1 > 0.8
    assert model[0].weight.is_contiguous()
