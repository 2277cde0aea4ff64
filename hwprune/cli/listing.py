"""``hwprune methods``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hwprune.catalogue import METHODS, Method
from hwprune.cli import show
from hwprune.methods import options_of


def methods(as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False) -> None:
    """List the pruning methods of the field that can be chosen, with their papers and what differs from them."""
    if as_json:
        kinds = {kind: [_facts(method) for method in known.values()] for kind, known in METHODS.items()}
        show.as_json({"methods": kinds})
        return
    for kind, known in METHODS.items():
        show.table(
            f"--{kind}",
            ("name", "what it does", "paper", "differs from it"),
            [(_named(method), method.does, method.paper, method.differs) for method in known.values()],
            caption="NAME,OPTION=VALUE sets an option; package.module:factory takes your own",
        )


def _named(method: Method) -> str:
    """Its name, and below that those of its options."""
    options = options_of(method.factory)
    return "\n  ".join([method.name, *([", ".join(options)] if options else [])])


def _facts(method: Method) -> dict[str, object]:
    """Plain values, with the names of the options."""
    return {**asdict(method), "options": list(options_of(method.factory))}
