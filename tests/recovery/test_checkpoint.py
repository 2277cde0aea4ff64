"""The state of a fine-tuning on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwprune.errors import RunError, StorageError
from hwprune.recovery.checkpoint import load_checkpoint, save_checkpoint, write_safetensors
from hwprune.recovery.evaluate import Evaluation
from hwprune.recovery.recipe import Epoch, Recipe, make_optimizer

HISTORY = [Epoch(1, 0.1 + 0.2, Evaluation(0.5, 0.9, 1 / 3, 10))]


def trained(recipe: Recipe, *, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = make_optimizer(network.parameters(), recipe)
    train(network, optimizer, steps)
    return network, optimizer


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        network(torch.full((3, 4), step + 1.0) + torch.eye(3, 4)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_goes_on_as_if_it_had_never_stopped(tmp_path: Path, optimizer: Any, momentum: float) -> None:
    recipe = Recipe(optimizer=optimizer, lr=0.01, momentum=momentum)
    whole, _ = trained(recipe, steps=6)
    save_checkpoint(tmp_path / "c", *trained(recipe, steps=4), recipe, HISTORY)

    network, state = trained(recipe, steps=0)
    history = load_checkpoint(tmp_path / "c", network, state, recipe)
    for step in (4, 5):
        state.zero_grad()
        network(torch.full((3, 4), step + 1.0) + torch.eye(3, 4)).square().sum().backward()
        state.step()

    assert history == HISTORY
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


def test_without_a_file_nothing_is_done_yet(tmp_path: Path) -> None:
    network, optimizer = trained(Recipe(), steps=0)

    assert load_checkpoint(tmp_path / "none", network, optimizer, Recipe()) == []


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    network, optimizer = trained(Recipe(), steps=1)
    save_checkpoint(tmp_path / "c", network, optimizer, Recipe(), HISTORY)

    with pytest.raises(RunError, match=r"another recipe \(lr, seed\)"):
        load_checkpoint(tmp_path / "c", network, optimizer, Recipe(lr=0.5, seed=3))
    with pytest.raises(RunError, match="another shape"):
        load_checkpoint(tmp_path / "c", nn.Linear(4, 4), optimizer, Recipe())


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, kept: int) -> None:
    network, optimizer = trained(Recipe(), steps=1)
    save_checkpoint(tmp_path / "c", network, optimizer, Recipe(), HISTORY)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:kept])

    with pytest.raises(RunError, match="cannot be read"):
        load_checkpoint(tmp_path / "c", network, optimizer, Recipe())


def test_tensors_that_share_memory_are_both_written(tmp_path: Path) -> None:
    shared = torch.arange(6.0)

    write_safetensors(tmp_path / "w", {"a": shared, "b": shared.view(2, 3).t()}, {})

    from safetensors.torch import load_file

    assert load_file(tmp_path / "w")["b"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_disk_that_cannot_be_written_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    with pytest.raises(StorageError):
        write_safetensors(tmp_path / "file" / "w", {"a": torch.zeros(2)}, {})

    assert (tmp_path / "file").read_text() == "old"
    write_safetensors(tmp_path / "w", {"a": torch.zeros(2)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "w"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_the_old_file_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors(tmp_path / "w", {"a": torch.ones(2)}, {})
    before = (tmp_path / "w").read_bytes()
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode: opened(Path("/dev/full"), "wb"))

    with pytest.raises(StorageError, match="No space left"):
        write_safetensors(tmp_path / "w", {"a": torch.zeros(100_000)}, {})

    monkeypatch.undo()
    assert (tmp_path / "w").read_bytes() == before
