"""What every rule of inheritance offers."""

from __future__ import annotations

from typing import Protocol

from hwprune.allocation.base import Kept, Situation
from hwprune.search.problem import Widths


class Inheritance(Protocol):
    """A way to choose channels where the widths are known."""

    @property
    def name(self) -> str: ...

    def kept(self, situation: Situation, widths: Widths) -> Kept:
        """Channels that stay in every group of the dense network, as many as ``widths`` say.

        The situation's scores are those that the search had last, where they are of the dense network; else none.
        """
