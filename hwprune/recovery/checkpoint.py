"""The state of a fine-tuning on disk: one safetensors file, replaced as a whole after every epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwprune.errors import RunError
from hwprune.files import write_atomically
from hwprune.recovery.evaluate import Evaluation
from hwprune.recovery.recipe import Epoch, Recipe

SCHEMA = "hwprune-finetune-1"


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, history: list[Epoch]
) -> None:
    """Write weights, optimizer state, recipe and history. Raises `StorageError`; the old file then survives."""
    state = optimizer.state_dict()["state"]
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    plain: dict[str, Any] = {}  # what the optimizer keeps that is no tensor
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain[f"optimizer.{index}.{name}"] = value
    facts = {
        "schema": SCHEMA,
        "recipe": json.dumps(recipe.as_json()),
        "history": json.dumps([asdict(epoch) for epoch in history]),
        "plain": json.dumps(plain),
    }
    write_safetensors(path, tensors, facts)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write atomically. Raises `StorageError` where the disk is full or not writable."""
    # Own memory for each: safetensors refuses tensors that share it.
    content = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(content, metadata=dict(facts)))


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> list[Epoch]:
    """Put a saved state into ``model`` and ``optimizer``; returns the epochs that are done, none without a file.

    Raises `RunError` where the file is damaged or belongs to another recipe or another network.
    """
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
        if facts.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {facts.get('schema')}, this version reads {SCHEMA}")
        saved, plain = json.loads(facts["recipe"]), json.loads(facts["plain"])
        history = [_epoch(entry) for entry in json.loads(facts["history"])]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"the checkpoint cannot be read: {error}") from error
    if saved != recipe.as_json():
        differing = [name for name, value in recipe.as_json().items() if saved.get(name) != value]
        raise _refused(path, f"the checkpoint was made with another recipe ({', '.join(differing)})")
    _restore(path, model, optimizer, tensors, plain)
    return history


def _restore(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
) -> None:
    weights = {n.removeprefix("model."): value for n, value in tensors.items() if n.startswith("model.")}
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        raise _refused(path, "the checkpoint belongs to a network of another shape")
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain.items()]:
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _epoch(entry: dict[str, Any]) -> Epoch:
    return Epoch(**{**entry, "validation": Evaluation(**entry["validation"])})


def _refused(path: Path, what: str) -> RunError:
    return RunError(
        what,
        where=path,
        effect="the fine-tuning cannot go on from there",
        fix="delete the file to start it again, or use the recipe and network it was made with",
    )
