"""From what the user types to data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hwprune.data import load_data
from hwprune.errors import DataError

USERS_MODULE = """
import torch
from hwprune.data import load_data

def loaders(batch_size=2, seed=0):
    batch = torch.full((batch_size, 3), float(seed)), torch.zeros(batch_size).long()
    return [batch], [batch]

def data():
    return load_data("digits")

def nothing():
    return None
"""


@pytest.fixture(autouse=True)
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with the module ``users_data_xyz``."""
    (tmp_path / "users_data_xyz.py").write_text(USERS_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_data_xyz", raising=False)


def test_a_factory_of_loaders_gets_the_options_that_it_knows() -> None:
    data = load_data("users_data_xyz:loaders", batch_size=5, seed=7, workers=3)

    inputs, _ = next(iter(data.train))
    assert inputs.tolist() == [[7.0] * 3] * 5
    assert (data.input_shape, data.name) == ((3,), "users_data_xyz:loaders")


def test_a_factory_may_return_data() -> None:
    assert load_data("users_data_xyz:data").name == "digits"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("users_data_xyz:nothing", "NoneType"),
        ("users_data_xyz:other", "no function 'other'"),
        ("nosuchmodule:load", "cannot be imported"),
        ("npz:nowhere", "no such file or folder"),
        ("imagefolder:", "no such file or folder"),
        ("mnist", "unknown data 'mnist'"),
    ],
)
def test_what_cannot_be_read_is_said(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(spec)


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"seed": -1}, {"holdout": 1.0}, {"std": (0.0,) * 3}, {"mean": (float("nan"),) * 3}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(options))):
        load_data("digits", **options)
