"""The pruning methods of the field that hwprune offers, by name, and how a user's own one is found.

A method is chosen by a line of text, in `hwprune.Settings` and on the command line alike: its name, with options behind
it ("cpmc-style,latency=2"), or ``package.module:factory`` for one's own, a class or function that is called with the
options and returns what the kind asks for. Nothing is registered: a class of one's own needs no change to hwprune.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from hwprune.catalogue import METHODS, Kind
from hwprune.errors import HwpruneError
from hwprune.models.resolve import import_factory

# What hwprune calls on a method of the kind, and the protocol that says how.
CALLED: Final[Mapping[Kind, tuple[str, ...]]] = {
    "importance": ("name", "scores"),
    "regularizer": ("name", "when", "begin"),
    "allocation": ("name", "kept"),
    "inheritance": ("name", "kept"),
    "transform": ("name", "proposals", "rewritten"),
}
PROTOCOLS: Final[Mapping[Kind, str]] = {
    "importance": "hwprune.importance.criterion.Criterion",
    "regularizer": "hwprune.regularization.base.Regularizer",
    "allocation": "hwprune.allocation.base.Allocator",
    "inheritance": "hwprune.inheritance.base.Inheritance",
    "transform": "hwprune.transform.base.Transform",
}


def make(kind: Kind, text: str) -> Any:
    """The method that ``text`` names, with its options.

    Raises:
        HwpruneError: no method has that name or option, an option has no such value, or what a user's own factory
            gives is no method of that kind.
    """
    name, *given = [part.strip() for part in text.split(",")]
    if ":" in name:
        factory = import_factory(name, error=HwpruneError)
    elif name in METHODS[kind]:
        factory = METHODS[kind][name].factory
    else:
        raise HwpruneError(
            f"unknown {kind} {name!r}",
            fix=f"choose one of {', '.join(sorted(METHODS[kind]))}, or package.module:factory for your own",
        )
    known, options = options_of(factory), {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or key not in known:
            told = f"it has {', '.join(known)}" if known else "it has none"
            raise HwpruneError(f"{kind} {name!r} has no option {one!r}", fix=f"write {name},OPTION=VALUE; {told}")
        options[key] = _read(value, known[key], where=f"{key} of the {kind} {name!r}")
    try:
        found = factory(**options)
    except TypeError as problem:
        raise HwpruneError(f"{kind} {name!r} cannot be made: {problem}", fix=f"write {name},OPTION=VALUE") from problem
    missing = [attribute for attribute in CALLED[kind] if not hasattr(found, attribute)]
    if missing:
        raise HwpruneError(
            f"{name} is no {kind}: it has no {' and no '.join(missing)}",
            where=f"{type(found).__module__}.{type(found).__qualname__}",
            fix=f"{PROTOCOLS[kind]} says what is called",
        )
    return found


def options_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of a factory that a line of text can give, with their types, in their order."""
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    names = [name for name in inspect.signature(factory).parameters if name != "name"]
    return {name: hints[name] for name in names if _readable(hints.get(name))}


def _readable(hint: Any) -> bool:
    return hint in (int, float, bool, str) or get_origin(hint) is Literal


def _read(text: str, hint: Any, *, where: str) -> Any:
    """The value of an option."""
    if get_origin(hint) is Literal:
        for choice in get_args(hint):
            if str(choice) == text:
                return choice
        raise HwpruneError(f"{where} cannot be {text!r}", fix=f"use one of {', '.join(map(str, get_args(hint)))}")
    if hint is bool:
        if text in ("yes", "no"):
            return text == "yes"
        raise HwpruneError(f"{where} cannot be {text!r}", fix="use yes or no")
    try:
        return hint(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise HwpruneError(f"{where} cannot be {text!r}", fix=f"give {kind}") from None
