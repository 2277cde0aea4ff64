"""The law of coupling on thousands of random networks: what is removed makes no difference to what stays.

    PYTHONPATH=. python benchmarks/random_networks.py [--examples 2000] [--seed 0] [--plans 3] [--out DIR]

The long run of `tests/graph/test_random_networks.py`: every network is analysed, cut by random plans, and compared by
`hwprune.verify` and by a slow way that knows nothing of hwprune's analysis (`tests/graph/random_law.py`). Counts how
often every building block was drawn and how often its channels could be narrowed. A network that breaks the law is
shrunk to the fewest blocks that still do and recorded as code. Exit code 1 where one does. Minutes on one core.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import RESULTS, fingerprint, markdown, record

from tests.graph.random_blocks import BLOCKS
from tests.graph.random_law import Verdict, judge
from tests.graph.random_networks import Program, compose
from tests.graph.random_recipes import Recipe, random_recipe

MOST_SHRUNK, SHRINK_S = 40, 60.0
TOTALS = ("groups", "free", "plans", "visible", "masked", "removed")


def main() -> int:
    """Judge, print the table, write both files; exit 1 where the law is broken."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    rng, tally, started = np.random.default_rng(options.seed), Tally(), time.monotonic()
    for number in range(options.examples):
        program = compose(random_recipe(rng))
        tally.add(number, program, judge(program, options.plans))
    wall_s = time.monotonic() - started
    document = {
        "fingerprint": fingerprint(),
        "command": f"python benchmarks/random_networks.py --examples {options.examples} --seed {options.seed}",
        "plans_per_network": options.plans,
        "wall_s": round(wall_s, 1),
        **tally.as_json(options.plans),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    record(options.out / "random_networks.json", document)
    text = summary(document)
    (options.out / "random_networks.md").write_text(text, encoding="utf-8")
    print(text)
    return int(bool(tally.broken))


@dataclass
class Tally:
    """What has been seen so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    narrowed: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, Program, Verdict]] = field(default_factory=list)

    def add(self, number: int, program: Program, verdict: Verdict) -> None:
        """Count one network."""
        allowed = verdict.outcome == "refused" and program.literal
        self.outcomes["refused, a width is written into the forward" if allowed else verdict.outcome] += 1
        self.totals.update({name: getattr(verdict, name) for name in TOTALS})
        self.totals["networks with free channels"] += verdict.free > 0
        self.drawn.update(placed.block for placed in program.placed)
        flags = zip(program.placed, verdict.narrowed, strict=False)
        self.narrowed.update(placed.block for placed, narrowed in flags if narrowed)
        if verdict.outcome != "holds" and not allowed:
            self.broken.append((number, program, verdict))

    def as_json(self, plans: int) -> dict[str, Any]:
        """Counts, coverage and disagreements."""
        return {
            "outcomes": dict(self.outcomes.most_common()),
            "totals": dict(self.totals),
            "blocks": {name: {"drawn": self.drawn[name], "narrowed": self.narrowed[name]} for name in BLOCKS},
            "disagreements": list(_shrunk(self.broken, plans)),
        }


def _shrunk(broken: list[tuple[int, Program, Verdict]], plans: int) -> Iterator[dict[str, Any]]:
    """The first disagreements, each as small as it gets; those of the same blocks once."""
    seen: Counter[tuple[str, ...]] = Counter()
    for number, program, verdict in broken[:MOST_SHRUNK]:
        small = compose(shrink(program.recipe, verdict.outcome, plans))
        key = (verdict.outcome, *(placed.block for placed in small.placed))
        seen[key] += 1
        if seen[key] == 1:
            detail = judge(small, plans).detail
            yield {"number": number, "outcome": verdict.outcome, "detail": detail, "program": repr(small).strip()}


def shrink(recipe: Recipe, outcome: str, plans: int) -> Recipe:
    """A recipe with fewer blocks and smaller numbers and the same outcome."""
    limit, smaller = time.monotonic() + SHRINK_S, True
    while smaller and time.monotonic() < limit:
        smaller = False
        for candidate in _simpler(recipe):
            if judge(compose(candidate), plans).outcome == outcome:
                recipe, smaller = candidate, True
                break
    return recipe


def _simpler(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that are one step simpler, the largest steps first."""
    steps = recipe.steps
    for i in reversed(range(len(steps))):
        yield replace(recipe, steps=steps[:i] + steps[i + 1 :])
    plain = Recipe()
    for name in ("inputs", "batch", "stems", "readouts", "style"):
        if getattr(recipe, name) != getattr(plain, name):
            yield replace(recipe, **{name: getattr(plain, name)})
    for i, step in enumerate(steps):
        for name in ("source", "other", "options"):
            if getattr(step, name) not in (0, (0, 0, 0)):
                simple = replace(step, **{name: (0, 0, 0) if name == "options" else 0})
                yield replace(recipe, steps=(*steps[:i], simple, *steps[i + 1 :]))


def summary(document: dict[str, Any]) -> str:
    """The run as Markdown."""
    totals, blocks = document["totals"], document["blocks"]
    used = ", ".join(f"{name} {document['fingerprint']['packages'][name]}" for name in ("hwprune", "torch"))
    rows = [[outcome, str(count)] for outcome, count in document["outcomes"].items()]
    coverage = [
        [name, str(one["drawn"]), f"{one['narrowed'] / max(one['drawn'], 1):.0%}"] for name, one in blocks.items()
    ]
    parts = [
        "# Random networks",
        f"`{document['command']}`: {document['wall_s']:.0f} s, {used}, {document['fingerprint']['date']}.",
        f"{totals['groups']} channel groups, {totals['free']} of them free, in "
        f"{totals['networks with free channels']} networks with free channels. {totals['plans']} plans removed "
        f"{totals['removed']} coupled channels; after {totals['visible']} of these plans the outputs differ visibly "
        f"from the uncut network's, so the comparison could have failed. {totals['masked']} cuts were compared with a "
        "dense network masked without hwprune too.",
        markdown(("outcome", "networks"), rows),
        "How often every block was drawn, and in how many of these networks a plan narrowed it:",
        markdown(("block", "drawn", "narrowed"), coverage),
    ]
    for one in document["disagreements"]:
        parts += [f"## {one['outcome']} (network {one['number']})", f"```\n{one['detail'].strip()}\n```"]
        parts += [f"```python\n{one['program']}\n```"]
    return "\n\n".join(parts) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plans", type=int, default=3, help="random plans per network")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
