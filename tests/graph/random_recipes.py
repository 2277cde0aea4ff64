"""Recipes of random networks: plain numbers that hypothesis draws and shrinks, any of which are a valid network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from hypothesis import strategies as st

from tests.graph.random_blocks import BLOCKS

WIDTHS: Final = (4, 8, 6, 12, 16, 5)
INPUTS: Final = (("map",), ("map", "narrow_map"), ("map", "vector"), ("map", "signal"), ("wide_map",), ("ids", "map"))
READOUTS: Final = ("linear", "conv", "flat", "linear", "conv", "linear", "conv", "raw")
STYLES: Final = ("tuple", "sum", "dict", "nested")
SOURCES: Final = (0, 0, 0, 0, 0, 1, 2, 3)


@dataclass(frozen=True)
class Step:
    """One block to add: which, reading which of the latest tensors, and numbers for what it leaves open."""

    block: str
    source: int = 0
    other: int = 0
    options: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True)
class Recipe:
    """A network in plain numbers; any values are a valid network.

    Attributes:
        inputs: index into `INPUTS`.
        batch: samples in the example inputs.
        stems: per input, index into `WIDTHS`: how wide the layer behind it is.
        steps: blocks in order.
        readouts: how the loose ends are read out, repeated as needed.
        style: index into `STYLES`: the form of the outputs.
        seed: of the weights.
    """

    inputs: int = 0
    batch: int = 1
    stems: tuple[int, ...] = (0,)
    steps: tuple[Step, ...] = ()
    readouts: tuple[int, ...] = (0,)
    style: int = 0
    seed: int = 0


def random_recipe(rng: np.random.Generator, most: int = 10) -> Recipe:
    """The strategy's distribution without hypothesis, for long runs."""
    names = list(BLOCKS)
    steps = tuple(
        Step(
            names[rng.integers(len(names))],
            SOURCES[rng.integers(len(SOURCES))],
            int(rng.integers(4)),
            tuple(rng.integers(6, size=3).tolist()),
        )
        for _ in range(rng.integers(3, most + 1))
    )
    return Recipe(
        int(rng.integers(len(INPUTS))),
        int(rng.integers(1, 3)),
        tuple(rng.integers(len(WIDTHS), size=2).tolist()),
        steps,
        tuple(rng.integers(len(READOUTS), size=3).tolist()),
        int(rng.integers(len(STYLES))),
        int(rng.integers(1000)),
    )


def recipes(most: int = 10) -> st.SearchStrategy[Recipe]:
    """Recipes that shrink towards few steps, early blocks of the table, one input and one linear readout."""
    steps = st.builds(
        Step,
        st.sampled_from(list(BLOCKS)),
        st.sampled_from(SOURCES),
        st.integers(0, 3),
        st.tuples(*[st.integers(0, 5)] * 3),
    )
    return st.builds(
        Recipe,
        st.integers(0, len(INPUTS) - 1),
        st.integers(1, 2),
        st.tuples(*[st.integers(0, len(WIDTHS) - 1)] * 2),
        st.lists(steps, min_size=1, max_size=most).map(tuple),
        st.tuples(*[st.integers(0, len(READOUTS) - 1)] * 3),
        st.integers(0, len(STYLES) - 1),
        st.integers(0, 999),
    )
