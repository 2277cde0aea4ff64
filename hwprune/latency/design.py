"""At which widths to measure whole networks: a sequence that fills the space of all groups' choices at once.

Setting 0 is the dense network and setting 1 the smallest. After them every group goes through its choices in a random
order, each once before any comes again, independently of all other groups: a Latin hypercube that can go on for ever.
One setting in four has all groups at about the same share of their widths instead, as networks on the way of a search
have. The sequence is the same for a seed, so whoever was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

Choices = Mapping[str, Sequence[int]]
ALIKE_EVERY: Final = 4
ALIKE_SPREAD: Final = 0.12  # standard deviation of a group's share around that of its setting


def settings(choices: Choices, count: int, *, seed: int, first: int = 0) -> list[dict[str, int]]:
    """Settings ``first`` to ``first + count`` of the sequence for this seed.

    >>> found = settings({"a": (4, 8, 16)}, 5, seed=0)
    >>> found[:2], sorted(setting["a"] for setting in found[2:])
    ([{'a': 16}, {'a': 4}], [4, 8, 16])
    """
    rng = np.random.default_rng(seed)
    lists = {name: sorted(widths) for name, widths in choices.items()}
    decks = {name: _Deck(widths, rng) for name, widths in lists.items()}
    found: list[dict[str, int]] = []
    for number in range(first + count):
        if number < 2:
            found.append({name: widths[-1 if number == 0 else 0] for name, widths in lists.items()})
        elif number % ALIKE_EVERY == 1:
            found.append(_alike(lists, rng))
        else:
            found.append({name: deck.draw() for name, deck in decks.items()})
    return list(islice(found, first, None))


def around(choices: Choices, widths: Mapping[str, int], count: int, *, seed: int) -> list[dict[str, int]]:
    """Settings beside ``widths``: every group at the choice nearest to its width, or one choice up or down."""
    rng = np.random.default_rng(seed)
    lists = {name: sorted(values) for name, values in choices.items()}
    places = {name: int(np.argmin([abs(v - widths[name]) for v in values])) for name, values in lists.items()}
    return [
        {
            name: values[int(np.clip(places[name] + rng.integers(-1, 2), 0, len(values) - 1))]
            for name, values in lists.items()
        }
        for _ in range(count)
    ]


def _alike(lists: Mapping[str, list[int]], rng: np.random.Generator) -> dict[str, int]:
    share = rng.uniform()
    shares = np.clip(rng.normal(share, ALIKE_SPREAD, len(lists)), 0, 1)
    return {
        name: values[round(float(own) * (len(values) - 1))]
        for (name, values), own in zip(lists.items(), shares, strict=True)
    }


class _Deck:
    """Hands out values in random order, each once before any comes again."""

    def __init__(self, values: Sequence[int], rng: np.random.Generator) -> None:
        self._values, self._rng = list(values), rng
        self._left: list[int] = []

    def draw(self) -> int:
        if not self._left:
            self._left = [self._values[i] for i in self._rng.permutation(len(self._values))]
        return self._left.pop()
