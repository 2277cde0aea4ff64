"""Every error that hwprune raises on purpose, and its wording.

HwpruneError                 what went wrong, where, its effect, and the fix; exit code 2
├── ModelError               the network cannot be found, loaded, traced or run
│   ├── UnknownOpError       an operator without a channel rule
│   └── HardCodedSizeError   the pruned network's own code insists on an old width
├── DataError                batches that cannot be read or do not fit the network
├── DeviceError              a device that is unknown or is not here
├── MissingPackageError      an optional package; gives the install line
├── EngineError              a runtime refused, crashed or hung while building or running
├── ProfileError             a latency table that is damaged or does not fit
│   └── NotMeasuredError     a layer that the table does not have
├── PlanError                a plan that is damaged or does not fit the network
├── TargetError              a target above the dense network's cost, or out of reach
├── NumericsError            NaN or infinity in weights, loss or scores
├── RunError                 a run directory that cannot be used
└── StorageError             the disk is full or not writable
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class HwpruneError(Exception):
    """Something the user can act on: what happened, where, what follows from it and how to mend it.

    >>> print(HwpruneError("weights do not fit", where="w.safetensors", fix="pass the right file"))
    weights do not fit
      where   w.safetensors
      fix     pass the right file
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, effect: str = "", fix: str = "") -> None:
        rows = [("where", where), ("effect", effect), ("fix", fix)]
        super().__init__("\n".join([what, *(f"  {label:<7} {text}" for label, text in rows if text)]))
        self.what = what


class ModelError(HwpruneError):
    """The network cannot be found, loaded, traced or run."""


class UnknownOpError(ModelError):
    """An operator without a channel rule: nothing that reaches it may be removed."""

    def __init__(self, op: str, *, where: str, channels: int) -> None:
        super().__init__(
            f"no channel rule for operator {op!r}",
            where=where,
            effect=f"{channels} channels that reach it cannot be removed safely",
            fix=f"pass rules={{**RULES, {op!r}: your_rule}}, or on_unknown='pin' to keep those channels",
        )


class HardCodedSizeError(ModelError):
    """The pruned network's own code insists on the size that it had before."""


class DataError(HwpruneError):
    """Batches that cannot be read or do not fit the network."""


class DeviceError(HwpruneError):
    """A device that is unknown, or is not in this machine."""


class MissingPackageError(HwpruneError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str = "") -> None:
        super().__init__(
            f"the package {package!r} is not installed",
            effect=needed_for,
            fix=f'pip install "hwprune[{extra}]"',
        )


class EngineError(HwpruneError):
    """A runtime refused, crashed or hung while it built or ran an engine."""


class ProfileError(HwpruneError):
    """A latency table that is damaged, or made for something else."""


class NotMeasuredError(ProfileError):
    """The table has no measurement for a layer, and guessing is not allowed."""

    def __init__(self, wanted: object, *, table: object, nearest: Sequence[object], command: str) -> None:
        super().__init__(
            f"latency of {wanted} was never measured",
            where=table,
            effect=f"nearest entries: {', '.join(map(str, nearest)) or 'nothing of this kind'}",
            fix=f"run `{command}`",
        )


class PlanError(HwpruneError):
    """A plan that is damaged, or belongs to another network."""


class TargetError(HwpruneError):
    """A target above what the dense network costs, or below what can be reached."""


class NumericsError(HwpruneError):
    """NaN or infinity where a number is needed."""


class RunError(HwpruneError):
    """A run directory that cannot be used."""


class StorageError(HwpruneError):
    """The disk is full, or the place cannot be written."""

    def __init__(self, path: object, *, error: OSError) -> None:
        super().__init__(
            f"cannot write {path}",
            where=error.strerror or str(error),
            effect="what was there before is untouched",
            fix="free some space or choose another folder, then run the same command again",
        )


def listed(names: Iterable[object], *, most: int = 8) -> str:
    """Names as a short list for a message.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    items = [str(name) for name in names]
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most} more"


class Named(Protocol):
    """What goes by a name."""

    @property
    def name(self) -> str: ...


def check_options(kind: str, of: Named, **options: tuple[bool, str]) -> None:
    """Raises HwpruneError for the first of the options that does not fit.

    Args:
        kind: what ``of`` is, in words.
        of: has the options as attributes.
        options: by name whether it fits, and what is wanted in words.
    """
    for option, (fits, wanted) in options.items():
        if not fits:
            raise HwpruneError(
                f"{option} of the {kind} {of.name!r} cannot be {getattr(of, option)!r}", fix=f"it is {wanted}"
            )
