"""What all sources of batches share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprune.data.batches import Form, Loading, batches_in, generator_for, mix
from hwprune.errors import DataError


@given(st.integers(1, 500), st.integers(1, 60), st.booleans())
def test_batches_hold_every_image_but_an_incomplete_last_batch(count: int, size: int, complete: bool) -> None:
    sizes = [len(part) for part in torch.arange(count).split(size)]
    if complete and len(sizes) > 1 and sizes[-1] < size:
        sizes.pop()

    assert batches_in(count, size, complete=complete) == len(sizes)


@given(st.integers(0, 2**40), st.integers(0, 2**20))
def test_a_seed_fits_into_a_generator_and_depends_on_both_numbers(seed: int, epoch: int) -> None:
    generator_for(seed, epoch)

    assert mix(seed, epoch) == mix(seed, epoch)
    assert len({mix(seed, epoch), mix(seed + 1, epoch), mix(seed, epoch + 1)}) == 3


def test_normalising_takes_out_the_mean_and_divides_by_the_deviation() -> None:
    form = Form((2, 1, 1), mean=(0.5, 0.0), std=(0.25, 2.0))

    normalised = form.normalise(torch.tensor([[[[1.0]], [[1.0]]]]))

    assert normalised.flatten().tolist() == [2.0, 0.5]


def test_a_mean_for_another_number_of_channels_is_refused() -> None:
    with pytest.raises(DataError, match="mean has 1 numbers for 3 channels"):
        Loading(mean=(0.5,)).form((3, 8, 8))
