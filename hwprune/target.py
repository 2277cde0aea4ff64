"""What the user wants: a share of the dense network's latency, milliseconds, or a bound on work or memory.

Two things are called memory. The target ``memory:50%`` bounds what can be counted without a device: the elements that
all convolutions write, summed (see `hwprune.cost.work`). `MemoryLimit` (``--max-memory``) bounds what an engine was
measured to take for activations at once, in bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from hwprune.errors import TargetError
from hwprune.units import format_bytes, format_count, format_ms, format_percent

Quantity = Literal["latency", "macs", "params", "memory"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

_FORM = re.compile(r"(?:(?P<quantity>[a-z]+)\s*[:=]\s*)?(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ms|us|µs|s|k|M|G)?")
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_TO_BYTES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_MEMORY = re.compile(rf"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|{'|'.join(_TO_BYTES)})")
_TO_MS = {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the pruned network must not be above.

    Attributes:
        quantity: latency, macs, params, or memory (counted elements: the outputs of all convolutions, summed).
        value: a ratio to the dense network where ``relative``, else ms or a count.
        relative: see ``value``.
    """

    quantity: Quantity
    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Target:
        """From what the user types.

        >>> Target.parse("60%")
        Target(quantity='latency', value=0.6, relative=True)
        >>> Target.parse("macs:2G")
        Target(quantity='macs', value=2000000000.0, relative=False)
        """
        found = _FORM.fullmatch(text.strip())
        quantity = (found["quantity"] or "latency") if found else ""
        unit = (found["unit"] or "") if found else ""
        fits = unit == "%" or (unit in _TO_MS if quantity == "latency" else unit in _SCALES)
        if found is None or quantity not in QUANTITIES or not fits or float(found["number"]) <= 0:
            raise TargetError(
                f"cannot read the target {text!r}",
                fix="write 60% (of the dense latency), 1.5ms, macs:50%, macs:2G, params:10M, memory:4M or memory:50% "
                "(counted elements; what an engine takes in bytes is bounded by --max-memory 12MiB)",
            )
        number = float(found["number"])
        known: Quantity = next(name for name in QUANTITIES if name == quantity)
        if unit == "%":
            return cls(known, number / 100, True)
        return cls(known, number * (_TO_MS[unit] if known == "latency" else _SCALES[unit]), False)

    @classmethod
    def parse_all(cls, text: str) -> tuple[Target, ...]:
        """One target, or several between commas, from the loosest to the tightest.

        >>> [str(target) for target in Target.parse_all("60%, 75%")]
        ['latency 75.0 %', 'latency 60.0 %']

        Raises:
            TargetError: one cannot be read; or they bound different things, or one of them comes twice.
        """
        found = tuple(cls.parse(part) for part in text.split(","))
        if len({(one.quantity, one.relative) for one in found}) > 1:
            raise TargetError(
                f"the targets {text!r} are not of one kind",
                where=", ".join(map(str, found)),
                effect="they have no order from loose to tight",
                fix="give shares of one quantity, or amounts of one: 75%,60% or macs:3G,macs:2G",
            )
        if len(set(found)) < len(found):
            raise TargetError(f"the targets {text!r} name one target twice", fix="give each once")
        return tuple(sorted(found, key=lambda one: -one.value))

    def ratio(self, dense: float) -> float:
        """The bound as a share of the dense network's ``dense`` ms or count.

        Raises:
            TargetError: the bound is not below what the dense network has already.
        """
        ratio = self.value if self.relative else self.value / dense
        if ratio >= 1:
            raise TargetError(
                f"the target {self} is not below what the dense network has already",
                where=f"dense {self.title}: {self._format(dense)}",
                effect="nothing has to be removed",
                fix="choose a smaller target",
            )
        return ratio

    def _format(self, value: float) -> str:
        return format_ms(value) if self.quantity == "latency" else format_count(value)

    def __str__(self) -> str:
        amount = format_percent(self.value) if self.relative else self._format(self.value)
        return f"{self.title} {amount}"

    @property
    def typed(self) -> str:
        """The target as `parse` reads it.

        >>> [Target.parse(text).typed for text in ("62.5 %", "1.5ms", "macs:2G")]
        ['latency:62.5%', 'latency:1.5ms', 'macs:2000000000']
        """
        if self.relative:
            return f"{self.quantity}:{100 * self.value:.10g}%"
        return f"{self.quantity}:{self.value:.10g}{'ms' if self.quantity == 'latency' else ''}"

    @property
    def slug(self) -> str:
        """A name for files.

        >>> Target.parse("62.5%").slug, Target.parse("1.5ms").slug
        ('latency-62.5-percent', 'latency-1.5ms')
        """
        return self.typed.replace(":", "-").replace("%", "-percent")

    @property
    def title(self) -> str:
        """What is bounded, for messages."""
        return "counted activation elements" if self.quantity == "memory" else self.quantity


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A bound on the activation memory that an engine was measured to take.

    Attributes:
        value: a ratio to the dense network's engine where ``relative``, else bytes.
        relative: see ``value``.
    """

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> MemoryLimit:
        """From what the user types. Raises `TargetError`.

        >>> MemoryLimit.parse("12MiB"), MemoryLimit.parse("60%")
        (MemoryLimit(value=12582912.0, relative=False), MemoryLimit(value=0.6, relative=True))
        """
        found = _MEMORY.fullmatch(text.strip())
        if found is None or float(found["number"]) <= 0:
            raise TargetError(
                f"cannot read the memory {text!r}", fix="write 60% (of the dense network's engine), 800KiB or 12MiB"
            )
        number, unit = float(found["number"]), found["unit"]
        return cls(number / 100, True) if unit == "%" else cls(number * _TO_BYTES[unit], False)

    def bytes_of(self, dense_bytes: float) -> float:
        """The bound in bytes, where the dense network's engine takes ``dense_bytes``."""
        return self.value * dense_bytes if self.relative else self.value

    def __str__(self) -> str:
        return format_percent(self.value) if self.relative else format_bytes(self.value)
