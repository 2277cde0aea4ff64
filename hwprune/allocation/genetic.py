"""Channel subsets by a genetic algorithm (Hu et al., "A novel channel pruning method for deep neural network
compression", 2018, arXiv:1805.11394).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hwprune.allocation.base import Kept, Situation
from hwprune.errors import check_options
from hwprune.graph.masks import masking
from hwprune.graph.trace import running
from hwprune.modes import device_of

LEAST_RATIO = 0.25  # of the least sensitive group, before all are scaled
HALF = 2  # each group is narrowed to its width over this to see how sensitive it is
TEMPERATURE = 4.0  # of the answers that are compared, as in fine-tuning with a teacher


@dataclass(frozen=True)
class Genetic:
    """Groups keep more the more accuracy they cost at half of their width; which channels, a genetic algorithm finds.

    Group by group, the least sensitive first, subsets of the group's width are crossed and mutated; fitter is what
    leaves the answers nearer to those of the network before (distance of the distilled answers on ``images`` training
    images, with the channels masked that went before). The paper goes layer by layer in order of sensitivity, with
    binary strings, a fitness that is approximated in two steps, and distillation in the fine-tuning; its formulas could
    not be read, so widths by sensitivity and this fitness are reconstructed.

    Attributes:
        population: subsets at a time.
        generations: of each group.
        mutation: chance of a channel to be exchanged.
        images: that fitness is measured on.
    """

    population: int = 16
    generations: int = 6
    mutation: float = 0.05
    images: int = 64
    name: str = "genetic"

    def __post_init__(self) -> None:
        check_options(
            "allocation",
            self,
            population=(self.population > 1, "at least 2"),
            generations=(self.generations >= 0, "at least 0"),
            mutation=(0 <= self.mutation <= 1, "a chance"),
            images=(self.images > 0, "at least 1"),
        )

    def kept(self, situation: Situation) -> Kept:
        """See `Allocator.kept`."""
        lost = sensitivities(situation)
        most = max(lost.values(), default=0.0) or 1.0
        ratios = {name: LEAST_RATIO + (1 - LEAST_RATIO) * max(0.0, value) / most for name, value in lost.items()}
        widths = situation.fitted(ratios)
        fitness = Fitness(situation, self.images)
        random = np.random.default_rng(situation.seed)
        found = dict(situation.best(widths))
        for name in sorted(lost, key=lambda name: lost[name]):
            full = situation.network.group(name).width
            if widths[name] < full:
                found[name] = self.evolved(found[name], full, fitness, name, random)
            fitness.settle(name, found[name])
        return found

    def evolved(
        self, first: Sequence[int], full: int, fitness: Fitness, name: str, random: np.random.Generator
    ) -> list[int]:
        """The fittest subset of the group that was seen, as many channels as ``first`` has, which is one of them."""
        count = len(first)
        living = [sorted(first)]
        living += [mutated(first, full, max(self.mutation, 1 / count), random) for _ in range(self.population - 1)]
        known = {tuple(one): fitness.of(name, one) for one in living}
        for _ in range(self.generations):
            ranked = sorted(living, key=lambda one: known[tuple(one)])
            parents = ranked[: max(2, self.population // 2)]
            living = list(parents)
            while len(living) < self.population:
                mother, father = (parents[i] for i in random.choice(len(parents), 2, replace=False))
                living.append(mutated(crossed(mother, father, random), full, self.mutation, random))
            for one in living:
                if tuple(one) not in known:
                    known[tuple(one)] = fitness.of(name, one)
        fittest, _ = min(known.items(), key=lambda pair: pair[1])
        return list(fittest)


def sensitivities(situation: Situation) -> dict[str, float]:
    """Accuracy that the network loses with one group at half of its width, by name of the group."""
    whole = {group.name: group.choices[-1] for group in situation.problem.groups}
    before = situation.judge(situation.best(whole))
    found = {}
    for name in situation.open:
        narrow = situation.nearest({name: 1 / HALF})
        found[name] = before - situation.judge(situation.best({**whole, name: narrow[name]}))
    return found


def crossed(mother: Sequence[int], father: Sequence[int], random: np.random.Generator) -> list[int]:
    """As many channels as each parent has: those that both have, and of the others by chance."""
    both = set(mother) & set(father)
    others = sorted(set(mother) ^ set(father))
    drawn = random.choice(others, len(mother) - len(both), replace=False).tolist() if others else []
    return sorted([*both, *drawn])


def mutated(subset: Sequence[int], full: int, chance: float, random: np.random.Generator) -> list[int]:
    """Each channel exchanged for one outside with this chance."""
    inside, outside = list(subset), sorted(set(range(full)) - set(subset))
    for place in np.flatnonzero(random.random(len(inside)) < chance):
        if outside:
            other = int(random.integers(len(outside)))
            inside[place], outside[other] = outside[other], inside[place]
    return sorted(inside)


class Fitness:
    """Distance of the masked network's answers from the whole one's, lower being fitter."""

    def __init__(self, situation: Situation, images: int) -> None:
        self.situation = situation
        device = device_of(situation.model)
        self.images = torch.cat([inputs for inputs, _ in situation.batches])[:images].to(device)
        count = situation.network.count
        self.mask = torch.ones(count, device=device)
        self.whole = self._answers(self.mask)

    def settle(self, name: str, kept: Sequence[int]) -> None:
        """From now on this group has these channels."""
        self.mask = self._with(name, kept)

    def of(self, name: str, kept: Sequence[int]) -> float:
        """With these channels of the group, and what is settled of the others."""
        answers = self._answers(self._with(name, kept))
        return float(functional.kl_div(answers, self.whole, log_target=True, reduction="batchmean"))

    def _with(self, name: str, kept: Sequence[int]) -> Tensor:
        numbers: NDArray[np.int64] = self.situation.network.group(name).numbers
        mask = self.mask.clone()
        mask[torch.from_numpy(numbers)] = 0
        mask[torch.from_numpy(numbers[list(kept)])] = 1
        return mask

    def _answers(self, mask: Tensor) -> Tensor:
        situation = self.situation
        with (
            torch.no_grad(),
            running(situation.model, situation.network.forward),
            masking(situation.model, situation.network, mask),
        ):
            return functional.log_softmax(situation.model(self.images) / TEMPERATURE, dim=1)
