"""Labels go where values go: each rule against the operator itself, run on a tensor that holds its own labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hwprune.graph.call import Call
from hwprune.graph.labels import Book, Dims
from hwprune.graph.rules import RULES
from hwprune.graph.trace import trace
from tests.graph.laws import Net


def labels_of(operation: Callable[[Tensor], Tensor], shape: tuple[int, ...], axis: int) -> tuple[Book, Dims]:
    """Labels of the result where ``axis`` of the input has the labels 0, 1, 2 and so on."""
    record = trace(Net(lambda net, x: operation(x)), torch.zeros(shape))
    book = Book()
    given = tuple(book.fresh(size) if i == axis else None for i, size in enumerate(shape))
    labels: dict[int, Dims] = {record.inputs[0].number: given}
    for op in record.ops:
        for value, dims in zip(op.outputs, RULES[op.name](Call(op, book, labels)), strict=True):
            labels[value.number] = dims
    return book, labels[record.outputs[0].number]


def assert_labels_follow(operation: Callable[[Tensor], Tensor], shape: tuple[int, ...], axis: int) -> bool:
    """Where the result has labels, every value there came from them; whether it has any."""
    book, dims = labels_of(operation, shape, axis)
    form = [shape[axis] if i == axis else 1 for i in range(len(shape))]
    values = operation(torch.arange(shape[axis], dtype=torch.float32).view(form).expand(shape).contiguous())
    roots = book.roots()
    assert all(labels is None or len(labels) == size for labels, size in zip(dims, values.shape, strict=True))
    for position, labels in enumerate(dims):
        if labels is None or book.is_soft(labels):  # of copies: any value may stand there
            continue
        for index, label in enumerate(labels):
            came_from = values.select(position, index).unique().long().numpy()
            assert (roots[came_from] == roots[label]).all(), (position, index)
    return any(labels is not None and not book.is_soft(labels) for labels in dims)


FOLLOWING = {
    "pixel_shuffle": lambda t: functional.pixel_shuffle(t, 2),
    "pixel_unshuffle": lambda t: functional.pixel_unshuffle(t, 2),
    "channel_shuffle": lambda t: functional.channel_shuffle(t, 4),
    "unfold": lambda t: functional.unfold(t, (2, 3)),
    "windows": lambda t: t.unfold(2, 2, 1),
    "diagonal": lambda t: t.diagonal(1, 2, 3),
    "stack": lambda t: torch.stack([t, t.flip(1)], 2),
    "unbind": lambda t: t.unbind(3)[1],
    "roll": lambda t: t.roll((1, 2), (2, 3)),
    "glu": lambda t: t.view(2, 2, 4, 4, 4).transpose(1, 2).flatten(1, 2)[:, ::1],
    "index": lambda t: t[:, :, torch.tensor([0, 3, 1])],
    "index_apart": lambda t: t[torch.tensor([0, 1, 1]), :, torch.tensor([0, 3, 1])],
    "index_of_two_tables": lambda t: t[:, :, torch.tensor([[0, 3, 1]]), torch.tensor([[1], [2]])],
    "index_select": lambda t: t.index_select(3, torch.tensor([2, 2])),
    "gather": lambda t: t.gather(2, torch.zeros(t.shape, dtype=torch.long)[:, :, :2]),
    "sort": lambda t: t.sort(dim=2)[0],
    "topk": lambda t: t.topk(2, 3)[0],
    "cummax": lambda t: t.cummax(2)[0],
    "grid": lambda t: functional.grid_sample(t, torch.zeros(2, 3, 3, 2), align_corners=True),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_labels_go_where_values_go(name: str) -> None:
    assert assert_labels_follow(FOLLOWING[name], (2, 8, 4, 4), 1)


@settings(max_examples=60)
@given(st.integers(-5, 5), st.permutations([0, 1, 2]), st.integers(0, 2))
def test_turns_by_quarters_move_labels_as_they_move_values(turns: int, axes: list[int], axis: int) -> None:
    assert assert_labels_follow(lambda t: t.rot90(turns, axes[:2]), (3, 4, 5), axis)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3), min_size=3, max_size=5), st.integers(0, 2))
def test_repetitions_move_labels_as_they_move_values(times: list[int], axis: int) -> None:
    assert assert_labels_follow(lambda t: t.repeat(*times), (2, 3, 4), axis)


@settings(max_examples=80)
@given(
    st.lists(st.sampled_from(["all", "vector", "table", "mask"]), min_size=1, max_size=4), st.integers(0, 3), st.data()
)
def test_indices_move_labels_as_numpy_does(kinds: list[str], axis: int, data: st.DataObject) -> None:
    shape = (2, 3, 4, 5)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    places: list[object] = []
    for size, kind in zip(shape, kinds, strict=False):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[:2] = True
        vector = torch.from_numpy(rng.integers(0, size, 2))
        places.append({"all": slice(None), "vector": vector, "table": vector.view(2, 1), "mask": mask}[kind])
    indexed = [i for i, kind in enumerate(kinds) if kind != "all"]

    found = assert_labels_follow(lambda t: t[tuple(places)], shape, axis)

    assert found == (axis not in indexed)
