"""What the user wants: a share of the dense network's latency, milliseconds, or a bound on work or memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from hwprune.errors import TargetError
from hwprune.units import format_count, format_ms, format_percent

Quantity = Literal["latency", "macs", "params", "memory"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

_FORM = re.compile(r"(?:(?P<quantity>[a-z]+)\s*[:=]\s*)?(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ms|us|µs|s|k|M|G)?")
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_TO_MS = {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the pruned network must not be above.

    Attributes:
        quantity: latency, macs, params, or memory (activation elements: outputs of all convolutions).
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
                fix="write 60% (of the dense latency), 1.5ms, macs:50%, macs:2G, params:10M, memory:4M or memory:50%",
            )
        number = float(found["number"])
        known: Quantity = next(name for name in QUANTITIES if name == quantity)
        if unit == "%":
            return cls(known, number / 100, True)
        return cls(known, number * (_TO_MS[unit] if known == "latency" else _SCALES[unit]), False)

    def ratio(self, dense: float) -> float:
        """The bound as a share of the dense network's ``dense`` ms or count.

        Raises:
            TargetError: the bound is not below what the dense network has already.
        """
        ratio = self.value if self.relative else self.value / dense
        if ratio >= 1:
            raise TargetError(
                f"the target {self} is not below what the dense network has already",
                where=f"dense {self.quantity}: {self._format(dense)}",
                effect="nothing has to be removed",
                fix="choose a smaller target",
            )
        return ratio

    def _format(self, value: float) -> str:
        return format_ms(value) if self.quantity == "latency" else format_count(value)

    def __str__(self) -> str:
        amount = format_percent(self.value) if self.relative else self._format(self.value)
        return f"{self.quantity} {amount}"
