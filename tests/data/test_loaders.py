"""The user's own loaders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from hwprune.data import Batches, from_loaders
from hwprune.errors import DataError


class Noisy(Dataset[tuple[Tensor, int]]):
    """Images that are augmented by PyTorch's random numbers."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((2,), float(index)) + torch.rand(2), index % 3


def content(batches: Batches, epoch: int) -> Tensor:
    """All inputs of one pass, with a consumer that draws random numbers as well."""
    parts = []
    for inputs, _ in batches.epoch(epoch):
        torch.rand(3)
        parts.append(inputs)
    return torch.cat(parts)


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_an_epoch_repeats_and_another_one_differs(generator: torch.Generator | None) -> None:
    loader = DataLoader(Noisy(), batch_size=4, shuffle=True, generator=generator)
    train = from_loaders(loader, loader).train

    first, again, other = content(train, 1), content(train, 1), content(train, 2)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_callers_random_state_is_left_alone() -> None:
    data = from_loaders(DataLoader(Noisy(), batch_size=4, shuffle=True), DataLoader(Noisy()))
    torch.manual_seed(3)
    expected = torch.rand(2)

    torch.manual_seed(3)
    list(data.train)

    assert torch.equal(torch.rand(2), expected)


def test_shape_and_length_come_from_the_loaders() -> None:
    batches = [(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 1], dtype=torch.int32))] * 3

    data = from_loaders(batches, DataLoader(TensorDataset(torch.zeros(6, 3, 8, 8), torch.zeros(6).long())))

    assert (data.input_shape, data.num_classes, len(data.train), len(data.validation)) == (
        (3, 8, 8),
        None,
        3,
        6,
    )
    assert next(iter(data.train))[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([], "no batches"),
        ([torch.zeros(2, 3)], "wanted are two tensors"),
        ([(torch.zeros(2, 3), torch.zeros(2))], "wanted is one class index each"),
        ([(torch.zeros(2, 3), torch.zeros(2, 5).long())], "wanted is one class index each"),
        (iter([(torch.zeros(2, 3), torch.zeros(2).long())]), "once is not enough"),
    ],
)
def test_loaders_of_something_else_are_refused(loader: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_loaders(loader, loader)  # type: ignore[arg-type]
