"""Writes the code of a random network line by line, running it as it goes so that every shape is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.graph import random_attention, random_modules
from tests.graph.random_blocks import BLOCKS, Block
from tests.graph.random_recipes import INPUTS, READOUTS, STYLES, WIDTHS, Recipe, Step

SCOPE: Final = {**vars(random_modules), **vars(random_attention), "torch": torch, "nn": nn, "F": functional}
CHANNEL_AXIS: Final = {"map": 1, "signal": 1, "volume": 1, "vector": 1, "tokens": -1, "last": -1}
INPUT_SHAPES: Final = {
    "map": (3, 8, 8),
    "narrow_map": (2, 4, 4),
    "wide_map": (4, 8, 8),
    "vector": (5,),
    "signal": (3, 16),
    "ids": (9,),
}
STEMS: Final = {
    "ids": "nn.Embedding(7, {o})",
    "map": "nn.Conv2d({c}, {o}, 1)",
    "vector": "nn.Linear({c}, {o})",
    "signal": "nn.Conv1d({c}, {o}, 1)",
}
MOST_CHANNELS, MOST_HEIGHT, MOST_VECTOR = 32, 16, 1100


@dataclass(frozen=True)
class Register:
    """A tensor of the forward: its name there, what its dimensions mean, and its shape."""

    name: str
    layout: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.shape[CHANNEL_AXIS[self.layout]]


def example(kind: str, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """An input: normal random numbers in float64, or numbers of an embedding's rows."""
    if kind == "ids":
        return torch.arange(torch.Size(shape).numel()).remainder(7).view(shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class DoesNotFit(Exception):
    """A block cannot be added here; the step is left out."""


@dataclass(frozen=True)
class Placed:
    """A block that made it into the network: its name, its modules, and the tensors that it read and made."""

    block: str
    modules: tuple[str, ...]
    registers: tuple[str, ...]


@dataclass
class Composer:
    """Writes the code of one network line by line, running it as it goes so that shapes are known."""

    recipe: Recipe
    init: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.net = nn.Module()
        self.scope: dict[str, Any] = {**SCOPE, "self": self.net}
        self.count = 0
        self.kinds = INPUTS[self.recipe.inputs % len(INPUTS)]
        self.given = [(self.recipe.batch, *INPUT_SHAPES[kind]) for kind in self.kinds]
        layouts = [kind.rpartition("_")[2] for kind in self.kinds]  # a wide map is a map
        given = [Register(f"x{i}", layouts[i], shape) for i, shape in enumerate(self.given)]
        self.registers += [x for x in given if x.layout != "ids"]
        for number, x in enumerate(given):
            value = example(x.layout, x.shape)
            self.scope[x.name] = value.float() if value.is_floating_point() else value
            width = WIDTHS[self.recipe.stems[number % len(self.recipe.stems)] % len(WIDTHS)]
            stem = self.make(STEMS[x.layout].format(c=x.shape[1], o=width))
            self.let(f"self.{stem}({x.name})", "tokens" if x.layout == "ids" else x.layout, [x])

    def make(self, code: str) -> str:
        """Add a module; its name."""
        self.count += 1
        name = f"m{self.count}"
        setattr(self.net, name, eval(code, self.scope).eval())
        self.init.append(f"self.{name} = {code}")
        return name

    def let(self, code: str, layout: str, reads: Iterable[Register]) -> Register:
        """Add a line to the forward. Raises `DoesNotFit` where the tensor gets too large."""
        self.count += 1
        name = f"t{self.count}"
        with torch.no_grad():
            value = eval(code, self.scope)
        register = Register(name, layout, tuple(value.shape))
        heights = register.shape[2:] if CHANNEL_AXIS[layout] == 1 else register.shape[1:-1]
        most_height = MOST_HEIGHT if layout in ("map", "last") else MOST_HEIGHT**2
        most_channels = MOST_VECTOR if layout == "vector" else MOST_CHANNELS
        if register.channels > most_channels or max(heights, default=0) > most_height or value.numel() == 0:
            raise DoesNotFit
        self.scope[name] = value
        self.lines.append(f"{name} = {code}")
        self.registers.append(register)
        self.read.update(one.name for one in reads)
        return register

    def as_layout(self, x: Register, layout: str) -> Register:
        """``x`` itself or, by way of a map, a tensor of the layout asked for."""
        if x.layout == layout:
            return x
        if (x.layout, layout) == ("tokens", "vector"):
            return self.let(f"{x.name}.mean(1)", layout, [x])
        n, side = x.name, round((x.shape[1] if x.layout == "tokens" else x.shape[-1]) ** 0.5 - 0.49)
        to_map = {
            "tokens": f"{n}[:, {-side * side}:].transpose(1, 2).unflatten(2, ({side}, {side}))",
            "vector": f"spread({n})",
            "signal": f"{n}[..., :{side * side}].unflatten(2, ({side}, {side}))",
            "volume": f"{n}.flatten(2, 3)",
            "last": f"{n}.permute(0, 3, 1, 2)",
        }
        if x.layout != "map":
            x = self.let(to_map[x.layout], "map", [x])
        from_map = {
            "tokens": f"{x.name}.flatten(2).transpose(1, 2)",
            "vector": f"{x.name}.mean((2, 3))",
            "signal": f"{x.name}.flatten(2)",
            "volume": f"{x.name}.unsqueeze(2)",
            "last": f"{x.name}.permute(0, 2, 3, 1)",
        }
        return x if layout == "map" else self.let(from_map[layout], layout, [x])

    def add(self, step: Step) -> Placed | None:
        """Add a block; None, and nothing is changed, where it does not fit."""
        before = len(self.init), len(self.lines), len(self.registers), set(self.read)
        block = BLOCKS[step.block]
        try:
            return self._add(step, block)
        except (DoesNotFit, RuntimeError, TypeError, ValueError, AssertionError):  # an odd number has no half
            del self.init[before[0] :], self.lines[before[1] :], self.registers[before[2] :]
            self.read = before[3]
            return None

    def _add(self, step: Step, block: Block) -> Placed:
        x = self.as_layout(self.registers[-1 - step.source % len(self.registers)], block.layout)
        fields = Fields(self, step, x)
        if block.layout == "map" and not block.least <= min(x.shape[2:]) <= max(x.shape[2:]) <= block.most:
            raise DoesNotFit
        modules = []
        for key, code in (("m", block.m), ("k", block.k)):
            if code:
                modules.append(self.make(code.format_map(fields)))
                fields[key] = f"self.{modules[-1]}"
        if block.tie:
            code = block.tie.format_map(fields)
            exec(code, self.scope)
            self.init.append(code)
        code = block.code.format_map(fields)
        made = self.let(code, block.gives or block.layout, fields.reads)
        return Placed(step.block, tuple(modules), (*dict.fromkeys(one.name for one in fields.reads), made.name))

    def read_out(self, x: Register, kind: str) -> Register:
        """The last layer behind a loose end."""
        if kind == "raw":
            return x
        if kind == "flat" and x.layout != "vector" and torch.Size(x.shape[1:]).numel() <= MOST_VECTOR:
            x = self.let(f"{x.name}.flatten(1)", "vector", [x])
        if kind == "conv" and x.layout == "map":
            return self.let(f"self.{self.make(f'nn.Conv2d({x.channels}, 2, 1)')}({x.name})", "map", [x])
        x = self.as_layout(x, "vector")
        return self.let(f"self.{self.make(f'nn.Linear({x.channels}, 3)')}({x.name})", "vector", [x])

    def finish(self) -> str:
        """Read out every loose end; the expression that the forward returns."""
        loose = [register for register in self.registers if register.name not in self.read][-4:]
        kinds = self.recipe.readouts or (0,)
        style = STYLES[self.recipe.style % len(STYLES)]
        made = []
        for position, register in enumerate(loose):
            kind = READOUTS[kinds[position % len(kinds)] % len(READOUTS)]
            made.append(self.read_out(register, "linear" if style == "sum" else kind).name)
        if style == "sum" or len(made) == 1:
            return " + ".join(made)
        if style == "dict":
            return "{" + ", ".join(f'"{name}": {name}' for name in made) + "}"
        if style == "nested":
            return f'{{"first": {made[0]}, "others": [({", ".join(made[1:])},)]}}'
        return ", ".join(made)


class Fields(dict[str, Any]):
    """Values for the braces of one block, found when they are asked for; see `tests.graph.random_blocks`."""

    def __init__(self, composer: Composer, step: Step, x: Register) -> None:
        height = x.shape[1 if x.layout == "last" else -2] if len(x.shape) > 2 else 1
        super().__init__(x=x.name, c=x.channels, h=height, w=x.shape[-1], t=x.shape[1])
        self.composer, self.step, self.of, self.reads = composer, step, x, [x]
        self.found: Register | None = None
        self.numbers = iter([*step.options, *[0] * 8])

    def __missing__(self, key: str) -> Any:
        self[key] = getattr(self, f"_{key}")()
        return self[key]

    def _whole(self, numerator: int, denominator: int) -> int:
        if numerator % denominator:
            raise DoesNotFit
        return numerator // denominator

    def _pick(self, values: Sequence[Any]) -> Any:
        if not values:
            raise DoesNotFit
        return values[next(self.numbers) % len(values)]

    def _o(self) -> int:
        return self._pick(WIDTHS)

    def _g(self) -> int:
        return self._pick([g for g in range(2, self["c"] + 1) if self["c"] % g == 0])

    def _d(self) -> int:
        return self["c"] // self["g"]

    def _bit(self) -> bool:
        return self._pick([True, False])

    def _half(self) -> int:
        return self._whole(self["c"], 2)

    def _quarter(self) -> int:
        return self._whole(self["c"], 4)

    def _double(self) -> int:
        return 2 * self["c"]

    def _part(self) -> int:
        return self._pick(range(1, self["c"]))

    def _rest(self) -> int:
        return self["c"] - self["part"]

    def _another(self) -> Register:
        """Another tensor in the same layout and size, with any number of channels; the same at every call."""
        composer, x = self.composer, self.of
        if self.found is None:
            others = [r for r in reversed(composer.registers) if r.name != x.name and r.layout == x.layout]
            y = others[self.step.other % len(others)] if others else x
            if x.layout == "map" and y.shape[2:] != x.shape[2:]:
                y = composer.let(f"F.adaptive_avg_pool2d({y.name}, {tuple(x.shape[2:])})", "map", [y])
            self.found = y
        return self.found

    def _z(self) -> str:
        self.reads.append(self._another())
        return self.reads[-1].name

    def _cz(self) -> int:
        return self._another().channels

    def _y(self) -> str:
        y = self._another()
        if y.shape != self.of.shape:
            fit = self.composer.make(f"nn.Conv2d({y.channels}, {self.of.channels}, 1)")
            y = self.composer.let(f"self.{fit}({y.name})", "map", [y])
        self.reads.append(y)
        return y.name
