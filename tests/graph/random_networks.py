"""Random networks: a short recipe of plain numbers, written out as PyTorch code and run.

A `Recipe` is what hypothesis draws and shrinks. `compose` turns any recipe into a runnable network: what does not fit
is left out, so no recipe is invalid. The printed form of a `Program` is the network's own code, ready to paste.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent
from typing import Any, Final

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.graph import random_modules
from tests.graph.random_blocks import BLOCKS
from tests.graph.random_composer import SCOPE, Composer, Placed, example
from tests.graph.random_recipes import Recipe, recipes

HEADER: Final = """\
import torch
from torch import nn
from torch.nn import functional as F

from tests.graph.random_attention import *
from tests.graph.random_composer import example
from tests.graph.random_modules import *

"""


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A random network as code.

    Attributes:
        recipe: what it was composed from.
        code: class ``Net``.
        input_kinds, input_shapes: of its forward's arguments, batch first.
        placed: its blocks in order.
    """

    recipe: Recipe
    code: str
    input_kinds: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    placed: tuple[Placed, ...]

    def __repr__(self) -> str:
        inputs = ", ".join(f'example("{x}", {n})' for x, n in zip(self.input_kinds, self.input_shapes, strict=True))
        return f"\n{HEADER}\n{self.code}\n\nmodel = awaken(Net().double(), {self.recipe.seed})\ninputs = ({inputs},)\n"

    def build(self) -> nn.Module:
        """The network, awake and in float64, so that every weight is unlike every other."""
        scope: dict[str, Any] = dict(SCOPE)
        exec(self.code, scope)
        torch.manual_seed(self.recipe.seed)
        return random_modules.awaken(scope["Net"]().double(), self.recipe.seed)

    def inputs(self, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, floats in float64."""
        generator = torch.Generator().manual_seed(seed)
        given = zip(self.input_kinds, self.input_shapes, strict=True)
        return tuple(example(kind, shape, generator) for kind, shape in given)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Every named tensor of the forward, for looking inside."""
        scope: dict[str, Any] = dict(SCOPE)
        start = self.code.index("    def forward")
        body = self.code[start : self.code.rindex("        return")]
        exec("\n".join(line[4:] for line in f"{body}        return locals()".splitlines()), scope)
        with torch.no_grad():
            return {k: v for k, v in scope["forward"](model, *self.inputs()).items() if isinstance(v, Tensor)}

    @property
    def spans(self) -> bool:
        """Whether a block's values depend on all channels at once."""
        return any(BLOCKS[placed.block].spans for placed in self.placed)

    @property
    def literal(self) -> bool:
        """Whether a number of channels stands in the forward."""
        return any(BLOCKS[placed.block].literal for placed in self.placed)


def compose(recipe: Recipe) -> Program:
    """The network of a recipe; blocks that do not fit are left out."""
    composer = Composer(recipe)
    placed = [added for step in recipe.steps if (added := composer.add(step)) is not None]
    result = composer.finish()
    arguments = ", ".join(["self", *(f"x{i}" for i in range(len(composer.given)))])
    code = "\n".join(
        [
            "class Net(nn.Module):",
            "    def __init__(self):",
            indent("\n".join(["super().__init__()", *composer.init]), " " * 8),
            "",
            f"    def forward({arguments}):",
            indent("\n".join([*composer.lines, f"return {result}"]), " " * 8),
        ]
    )
    return Program(recipe, code + "\n", composer.kinds, tuple(composer.given), tuple(placed))


def programs(most: int = 10) -> st.SearchStrategy[Program]:
    """Random networks of up to ``most`` blocks."""
    return recipes(most).map(compose)
