"""Methods by name and option, and a user's own."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from hwprune.catalogue import METHODS, Kind
from hwprune.errors import HwpruneError
from hwprune.importance.cpmc import CpmcStyle
from hwprune.importance.hessian import Hessian
from hwprune.loop.settings import Settings
from hwprune.methods import CALLED, PROTOCOLS, make, options_of
from hwprune.run import Run
from tests import tiny
from tests.test_pruning import QUICK, prune

ALL = [(kind, name) for kind, known in METHODS.items() for name in known]


class Own:
    """A user's criterion, with one option of every type that text can give."""

    def __init__(
        self, count: int = 1, share: float = 0.5, exact: bool = False, norm: Literal["l1", "l2"] = "l1", note: str = ""
    ) -> None:
        self.told = (count, share, exact, norm, note)

    name = "own"
    scores = None


def no_criterion() -> object:
    return object()


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_what_is_listed_can_be_made_and_goes_by_its_name(kind: Kind, name: str) -> None:
    found = make(kind, name)

    assert found.name == name and METHODS[kind][name].name == name
    assert all(hasattr(found, attribute) for attribute in CALLED[kind])
    assert "reconstructed" in METHODS[kind][name].differs or not name.endswith("-style")


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_the_protocols_that_errors_name_ask_for_what_is_called(kind: Kind) -> None:
    module, _, name = PROTOCOLS[kind].rpartition(".")
    protocol = getattr(importlib.import_module(module), name)

    assert set(CALLED[kind]) == {name for name in vars(protocol) if not name.startswith("_")}


def test_options_stand_behind_the_name() -> None:
    assert make("importance", "hessian, probes=3,seed=2") == Hessian(probes=3, seed=2)
    assert make("importance", "cpmc-style,latency=0") == CpmcStyle(latency=0)
    assert list(options_of(CpmcStyle)) == ["macs", "params", "latency"]


def test_a_class_of_ones_own_takes_options_of_every_simple_type() -> None:
    assert make("importance", "tests.test_methods:Own,count=3,share=1e-3,exact=yes,norm=l2,note=x").told == (
        *(3, 1e-3, True, "l2", "x"),
    )
    assert make("importance", "tests.test_methods:Own").told == (1, 0.5, False, "l1", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fischer", "unknown importance 'fischer'"),
        ("fisher,probes=2", "it has none"),
        ("hessian,probe=2", "it has probes, seed"),
        ("hessian,probes", "has no option 'probes'"),
        ("hessian,probes=two", "give a whole number"),
        ("hessian,probes=0", "cannot be 0"),
        ("cpmc-style,latency=much", "give a number"),
        ("tests.test_methods:Own,norm=l3", "use one of l1, l2"),
        ("tests.test_methods:Own,exact=1", "use yes or no"),
        ("tests.test_methods:no_criterion", "has no name and no scores"),
        ("tests.test_methods:nothing", "no function 'nothing'"),
        ("no.such.module:Own", "cannot be imported"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_could_be(text: str, told: str) -> None:
    with pytest.raises(HwpruneError, match=re.escape(told)):
        make("importance", text)


QUICKER = {
    "scop": "scop,steps=3",
    "greg2": "greg2,steps=3",
    "ddpnas": "ddpnas,options=2,sweeps=1",
    "genetic": "genetic,population=4,generations=1,images=8",
    "graph-style": "graph-style,candidates=2,proposals=1",
}
# Each method of each kind, and none, with several of every other kind.
TOGETHER = [
    {
        "importance": list(METHODS["importance"])[turn % len(METHODS["importance"])],
        **{
            kind: ["", *METHODS[kind]][turn * stride % (1 + len(METHODS[kind]))]
            for kind, stride in (("regularizer", 3), ("allocation", 5), ("inheritance", 1), ("transform", 1))
        },
    }
    for turn in range(len(METHODS["importance"]))
]


@pytest.mark.parametrize("chosen", TOGETHER, ids=lambda chosen: "-".join(name or "none" for name in chosen.values()))
def test_methods_of_all_kinds_work_together(tmp_path: Path, chosen: dict[str, str]) -> None:
    asked: dict[str, Any] = {
        kind: "greg2" if kind == "regularizer" and name == "greg2" else QUICKER.get(name, name)
        for kind, name in chosen.items()
    }
    settings = replace(QUICK, normalisation="none", milestones=0, regularizer_steps=4, **asked)
    result = prune(tmp_path, "macs:60%", settings)
    run, found = Run.resume(tmp_path / "run"), result.candidates[-2]
    verification = run.stages["pruned"]["verification"]

    assert result.pruned.macs <= 0.6 * result.dense.macs and not result.missed
    assert verification["error"] <= verification["tolerance"]
    assert ("transformed" in run.stages) == bool(chosen["transform"])
    assert result.plan.kept_widths == dict(found.widths), "of the search or the allocation, whoever chose the channels"
    assert (found.milestone == 1) == bool(chosen["allocation"])
    assert (tmp_path / "table.parquet").exists() == (chosen["importance"] == "cpmc-style")
    assert ("regularized" in run.stages) == bool(chosen["regularizer"])
    assert ("inherited" in run.stages) == bool(chosen["inheritance"])
    after = chosen["regularizer"] and make("regularizer", chosen["regularizer"]).when == "after"
    assert (tmp_path / "run" / "plan-regularized.json").exists() == bool(after)


def test_every_method_is_among_those_that_work_together() -> None:
    for kind, known in METHODS.items():
        assert {chosen[kind] for chosen in TOGETHER} - {""} == set(known)


def test_senseless_combinations_are_refused_with_the_reason() -> None:
    with pytest.raises(HwpruneError, match="nothing is searched exactly"):
        Settings("60%", search="exact", allocation="epruner")
    with pytest.raises(HwpruneError, match="would be lost"):
        Settings("60%", milestone_steps=5, inheritance="exemplar")


def test_what_fades_by_itself_is_not_damped_too() -> None:
    with pytest.raises(HwpruneError, match="fade by itself"):
        Settings("60%", regularizer="greg1", damping_steps=5)
    with pytest.raises(HwpruneError, match="takes no regularizer"):
        Settings("60%", way="group-fisher", normalisation="memory", regularizer="slimming")


def test_the_criterion_of_the_readme_prunes_without_a_change_to_hwprune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (tiny.ROOT / "README.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```python\n(# mine\.py\n.*?)```", readme, flags=re.DOTALL)
    (tmp_path / "mine.py").write_text(written, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    result = prune(tmp_path, "macs:60%", replace(QUICK, importance="mine:Spread,power=2", normalisation="flops"))

    assert result.pruned.macs <= 0.6 * result.dense.macs


def test_a_cost_that_nobody_knows_is_refused_before_the_run(tmp_path: Path) -> None:
    settings = replace(QUICK, importance="tests.test_methods:Priceless")
    with pytest.raises(HwpruneError, match="counts the cost 'karma'"):
        prune(tmp_path, "macs:60%", settings)

    assert not (tmp_path / "run").exists()


class Priceless(CpmcStyle):
    costs = ("karma",)  # type: ignore[assignment]
