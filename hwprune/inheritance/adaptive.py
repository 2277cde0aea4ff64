"""The criterion that suits the found widths (Liu et al., "AdaPruner", 2021, arXiv:2109.06397)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hwprune.allocation.base import Kept, Situation, best_of
from hwprune.errors import ModelError, check_options
from hwprune.importance.bn_scale import BnScale
from hwprune.importance.criterion import Criterion, cross_entropy
from hwprune.importance.fpgm import Fpgm
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.taylor import Taylor
from hwprune.search.problem import Widths

CANDIDATES: Final[Mapping[str, Criterion]] = {
    "l1": Magnitude("l1"),
    "l2": Magnitude("l2"),
    "bn-scale": BnScale(),
    "fpgm": Fpgm(),
    "taylor": Taylor(),
}


@dataclass(frozen=True)
class Adaptive:
    """Several criteria each choose the channels, and the choice of the best accuracy on held-back training data counts.

    Batch norm is re-estimated for each (as Li et al., ECCV 2020, "EagleEye", found it to be telling), and nothing is
    trained. The paper's own list of criteria could not be read; those here are L1, L2, the scale of norms, the distance
    from the other filters and first-order Taylor. Where channels go through no norm, "bn-scale" is left out.

    Attributes:
        criteria: names of `CANDIDATES`, with + between.
    """

    criteria: str = "+".join(CANDIDATES)
    name: str = "adaptive"

    def __post_init__(self) -> None:
        unknown = set(self.criteria.split("+")) - set(CANDIDATES)
        check_options(
            "inheritance",
            self,
            criteria=(not unknown, f"some of these with + between: {', '.join(CANDIDATES)}"),
        )

    def kept(self, situation: Situation, widths: Widths) -> Kept:
        """See `Inheritance.kept`."""
        best: tuple[float, Kept] | None = None
        for name in self.criteria.split("+"):
            try:
                scores = CANDIDATES[name].scores(situation.model, situation.network, situation.batches, cross_entropy)
            except ModelError:
                if name != "bn-scale" or self.criteria == name:
                    raise
                continue
            kept = {group: best_of(scores, group, width) for group, width in widths.items()}
            accuracy = situation.judge(kept)
            if best is None or accuracy > best[0]:
                best = accuracy, kept
        assert best is not None  # one criterion at least looks at weights alone
        return best[1]
