"""Which channels stay: the exchange format between the search, the surgery and the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from operator import index, lt
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hwprune.errors import PlanError, listed
from hwprune.files import write_atomically

SCHEMA = 1


class Group(Protocol):
    """A channel group, as far as a plan needs to know it."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def pinned(self) -> str | None: ...


class Grouped(Protocol):
    """An analysed network, as far as a plan needs to know it."""

    @property
    def groups(self) -> Iterable[Group]: ...
    @property
    def groups_hash(self) -> str: ...
    @property
    def model_reference(self) -> str: ...
    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]: ...


@dataclass(frozen=True)
class Plan:
    """The coupled channels that every prunable group keeps.

    Attributes:
        kept: group name -> kept channel indices, ascending; every group whose channels may go is named.
        widths: group name -> full width before pruning; the same names.
        model: reference of the network, such as "torchvision:resnet50".
        input_shapes: what the network was analysed on, batch first.
        groups_hash: fingerprint of the network's groups; the plan fits networks with the same one only.

    Raises `PlanError` where indices are out of range, out of order or repeated, or a group is left empty.
    """

    kept: Mapping[str, tuple[int, ...]]
    widths: Mapping[str, int]
    model: str
    input_shapes: tuple[tuple[int, ...], ...]
    groups_hash: str

    def __post_init__(self) -> None:
        if apart := self.kept.keys() ^ self.widths.keys():
            raise PlanError(f"'kept' and 'widths' name different groups: {listed(sorted(apart))}")
        for name, indices in self.kept.items():
            _check_indices(name, indices, self.widths[name])

    @classmethod
    def keeping(cls, network: Grouped, kept: Mapping[str, Iterable[int]]) -> Plan:
        """The plan in which the named groups keep these channels (in any order), and the others everything.

        Raises `PlanError` for an unknown group, indices that are out of range, repeated or none at all, a
        boolean mask, and a pinned group that would lose channels.
        """
        groups = {group.name: group for group in network.groups}
        if unknown := [name for name in kept if name not in groups]:
            raise _unknown_group(unknown[0], groups)
        chosen: dict[str, tuple[int, ...]] = {}
        for name, group in groups.items():
            indices = _as_indices(name, kept[name]) if name in kept else tuple(range(group.width))
            _check_indices(name, indices, group.width)
            if group.pinned is None:
                chosen[name] = indices
            elif len(indices) < group.width:
                raise _pinned_group(group)
        return cls(
            kept=chosen,
            widths={name: groups[name].width for name in chosen},
            model=network.model_reference,
            input_shapes=tuple(tuple(shape) for shape in network.input_shapes),
            groups_hash=network.groups_hash,
        )

    @property
    def kept_widths(self) -> dict[str, int]:
        """How many channels every group keeps."""
        return {name: len(indices) for name, indices in self.kept.items()}

    @property
    def removed(self) -> dict[str, tuple[int, ...]]:
        """The channels that go, for every group that loses some."""
        gone = {name: tuple(sorted(set(range(self.widths[name])) - set(kept))) for name, kept in self.kept.items()}
        return {name: indices for name, indices in gone.items() if indices}

    def widens(self, before: Plan) -> bool:
        """Whether it keeps channels that ``before``, a plan for the same network, does not."""
        return any(set(kept) - set(before.kept[name]) for name, kept in self.kept.items())

    def check_fits(self, network: Grouped) -> None:
        """Raise `PlanError` unless the plan was made for a network with the same groups as ``network``."""
        groups = {group.name: group for group in network.groups}
        if self.groups_hash != network.groups_hash:
            raise PlanError(
                f"the plan belongs to another network: {self._difference(groups)}",
                where=f"plan for {self.model!r}, network {network.model_reference!r}",
                effect="its channel numbers mean other channels here, so nothing was cut",
                fix="pass the dense network that the plan was made for, analysed with the same options",
            )
        for name, kept in self.kept.items():
            if len(kept) < self.widths[name] and groups[name].pinned is not None:
                raise _pinned_group(groups[name])

    def _difference(self, groups: Mapping[str, Group]) -> str:
        if missing := [name for name in self.widths if name not in groups]:
            return f"it has no group {listed(missing, most=3)}"
        resized = [name for name, width in self.widths.items() if groups[name].width != width]
        if resized:
            here = [f"{name} ({groups[name].width} and not {self.widths[name]})" for name in resized]
            return f"groups have other widths: {listed(here, most=3)}"
        return "its groups have the same names and widths but touch other parameters"

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, atomically. Raises `StorageError`."""
        document = {
            "schema": SCHEMA,
            "model": self.model,
            "input_shapes": self.input_shapes,
            "groups_hash": self.groups_hash,
            "widths": dict(self.widths),
            "kept": dict(self.kept),
        }
        write_atomically(Path(path), json.dumps(document, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote. Raises `PlanError` for a missing or damaged file or another schema."""
        try:
            document = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise PlanError("there is no plan", where=path, fix="give the run directory of `hwprune prune`") from None
        except (OSError, ValueError) as error:
            raise _damaged(path, f"it is not readable JSON ({error})") from error
        if not isinstance(document, dict):
            raise _damaged(path, "it is not a JSON object")
        if (schema := document.get("schema")) != SCHEMA:
            raise PlanError(
                f"the plan has schema {schema}, this version reads {SCHEMA}",
                where=path,
                fix="use the hwprune version that wrote it, or run `hwprune prune` again",
            )
        try:
            return cls(
                kept={name: _integers(indices, "kept") for name, indices in _field(document, "kept", dict).items()},
                widths=dict(zip(_field(document, "widths", dict), _widths(document), strict=True)),
                model=_field(document, "model", str),
                input_shapes=tuple(_integers(s, "input_shapes") for s in _field(document, "input_shapes", list)),
                groups_hash=_field(document, "groups_hash", str),
            )
        except PlanError as error:
            raise _damaged(path, error.what) from error


def _as_indices(name: str, indices: Any) -> tuple[int, ...]:
    """Indices from a list, set, array or tensor, ascending; repeated ones stay to be refused."""
    if isinstance(indices, np.ndarray) and indices.dtype.kind in "iu" and indices.ndim == 1:
        return tuple(np.sort(indices).tolist())
    values = list(indices.tolist() if hasattr(indices, "tolist") else indices)
    if any(isinstance(value, bool) for value in values):
        raise PlanError(
            f"group {name!r} was given a boolean mask",
            fix="pass the indices of the channels to keep, such as numpy.flatnonzero(mask)",
        )
    try:
        return tuple(sorted(index(value) for value in values))
    except TypeError:
        raise PlanError(f"channels of group {name!r} are not whole numbers: {listed(values)}") from None


def _check_indices(name: str, indices: tuple[int, ...], width: int) -> None:
    if not indices:
        raise PlanError(
            f"group {name!r} would keep no channel",
            effect="the network would be cut in two",
            fix="keep at least one channel of every group",
        )
    if indices[0] >= 0 and indices[-1] < width and all(map(lt, indices, indices[1:])):
        return
    if outside := [i for i in indices if not 0 <= i < width]:
        raise PlanError(
            f"group {name!r} has no channel {listed(outside)}",
            fix=f"its {width} channels are numbered 0 to {width - 1}",
        )
    if len(set(indices)) < len(indices):
        twice = sorted({i for i in indices if indices.count(i) > 1})
        raise PlanError(f"group {name!r} names channel {listed(twice)} more than once", fix="name every channel once")
    if list(indices) != sorted(indices):
        raise PlanError(f"the channels of group {name!r} are not in ascending order")


def _unknown_group(name: str, groups: Mapping[str, Group]) -> PlanError:
    near = get_close_matches(name, groups, n=3)
    return PlanError(
        f"the network has no channel group {name!r}",
        where=f"groups with names like it: {listed(near)}" if near else f"its groups are {listed(groups)}",
        fix="`hwprune inspect` lists the groups of a network",
    )


def _pinned_group(group: Group) -> PlanError:
    return PlanError(
        f"group {group.name!r} is pinned and must keep its {group.width} channels",
        where=group.pinned,
        fix="leave the group out of the plan",
    )


def _damaged(path: object, what: str) -> PlanError:
    return PlanError(
        f"the plan is damaged: {what}", where=path, fix="restore the file from a copy, or run `hwprune prune` again"
    )


def _field(document: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(value := document.get(name), kind):
        raise PlanError(f"{name!r} is missing" if value is None else f"{name!r} is not what it should be")
    return value


def _widths(document: dict[str, Any]) -> tuple[int, ...]:
    return _integers(list(_field(document, "widths", dict).values()), "widths")


def _integers(values: Any, name: str) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise PlanError(f"{name!r} holds something that is not a whole number")
    return tuple(values)
