"""What of the settings cannot be asked for together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwprune.cost.normalisation import MEASURED
from hwprune.errors import HwpruneError

if TYPE_CHECKING:
    from hwprune.loop.settings import Settings


def check_search(settings: Settings) -> None:
    """Raises HwpruneError for what has no part in how the widths are chosen."""
    asked = {"search": ("greedy", "exactly"), "objective": ("loss", f"for {settings.objective}")}
    for name, (usual, how) in asked.items():
        if settings.allocation and getattr(settings, name) != usual:
            raise HwpruneError(
                f"the allocation {settings.allocation!r} chooses the widths, so nothing is searched {how}",
                fix=f"leave --{name} or --allocation out",
            )
    if settings.proposals > 1 and (settings.allocation or settings.inheritance or settings.fades):
        raise HwpruneError(
            "proposals of the search are trained, cut, and the best one goes on with its weights",
            effect="an allocation, an inheritance, damping or a regulariser afterwards would undo that",
            fix="leave --proposals or those out",
        )


def check_way(settings: Settings) -> None:
    """Raises HwpruneError for what Group Fisher pruning does not take."""
    if settings.way == "milestones":
        return
    if settings.normalisation in MEASURED:
        raise HwpruneError(
            f"Group Fisher pruning cannot divide by {settings.normalisation}",
            where="it takes one channel at a time, and what that saves is too little to measure",
            fix="choose memory, as the paper does, flops, params, correlated or none",
        )
    asked = {
        "max_memory": settings.max_memory,
        "importance": settings.importance not in ("", "fisher"),
        "search": settings.search != "greedy",
        "objective": settings.objective != "loss",
        "proposals": settings.proposals > 1,
        "regularizer": settings.regularizer,
        "allocation": settings.allocation,
        "inheritance": settings.inheritance,
    }
    for name, given in asked.items():
        if given:
            raise HwpruneError(f"Group Fisher pruning takes no {name}", fix="leave it out")
