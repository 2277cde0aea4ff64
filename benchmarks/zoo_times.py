"""Analysis and cut by hwprune and by Torch-Pruning, timed by turns, for every network of the zoo that both can do.

    python benchmarks/zoo_times.py [--only PATTERN ...]

Which they can, `results/zoo.json` says (`zoo.py`). Every measurement is a process of its own on one thread, one tool
right after the other; two rounds, one for networks that take Torch-Pruning more than a second. The figure is
the mean of wall times; processor time stands beside it, because neighbours on a shared machine do not touch it.
Results go to `results/zoo_times.json` and `results/zoo_times.md`. Keep the machine idle; a quarter of an hour.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import sys
from statistics import median
from typing import Any

import zoo  # sets the threads, before anything that reads them
from recording import RESULTS, fingerprint, markdown, record
from zoo_networks import entries

OURS = "zoo_hwprune:run_times"
THEIRS = {False: "zoo_torch_pruning:run", True: "zoo_torch_pruning:run_by_hand"}
ROUNDS, SLOW_S = 2, 1.0


def main() -> int:
    """Measure, print the summary, write the results; exit 1 where there is no zoo to read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of names")
    only = parser.parse_args().only
    known = {row["network"]: row for row in json.loads((RESULTS / "zoo.json").read_bytes())["networks"]}
    zoo.TOOLS = {"hwprune": OURS, "by default": THEIRS[False], "by hand": THEIRS[True]}
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["zoo_preload"])
    rows = []
    for entry in entries():
        tool = _theirs(known.get(entry.key, {}))
        if tool is None or not any(fnmatch.fnmatch(entry.key, p) for p in only):
            continue
        samples: dict[str, list[dict[str, Any]]] = {"hwprune": [], tool: []}
        for _ in range(ROUNDS):
            for name, found in samples.items():
                found.append(zoo._supervised(processes, entry, name))
            if any(x.get("wall_s", 0.0) > SLOW_S for x in samples[tool]):
                break
        if all("wall_s" in x for found in samples.values() for x in found):
            rows.append({"network": entry.key, "tool": tool, **_figures(samples["hwprune"], samples[tool])})
            print(f"{entry.key}: {rows[-1]['ratio_wall']:.1f}", flush=True)
    summary = _summary(rows)
    print(json.dumps(summary, indent=1))
    if only == ["*"]:
        record(RESULTS / "zoo_times.json", {"summary": summary, "rows": rows, **fingerprint()})
        (RESULTS / "zoo_times.md").write_text(_page(summary, rows), encoding="utf-8")
    return int(not rows)


def _theirs(row: dict[str, Any]) -> str | None:
    """Which of Torch-Pruning's ways to measure: of those that run the faster; None where not both tools can do it."""
    ways = {"by default": row.get("torch_pruning", {}), "by hand": row.get("torch_pruning_by_hand", {})}
    run = {way: found for way, found in ways.items() if found.get("runs") and found.get("same_shapes")}
    if "wall_s" not in row.get("hwprune", {}) or not run:
        return None
    return min(run, key=lambda way: float(run[way]["wall_s"]))


def _figures(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    values = {
        f"{side}_{what}": median(x[what] for x in found)
        for side, found in (("hwprune", ours), ("torch_pruning", theirs))
        for what in ("wall_s", "cpu_s", "peak_bytes")
    }
    spread = {
        f"{side}_wall_s_all": [x["wall_s"] for x in found]
        for side, found in (("hwprune", ours), ("torch_pruning", theirs))
    }
    return {
        **values,
        **spread,
        "ratio_wall": values["torch_pruning_wall_s"] / values["hwprune_wall_s"],
        "ratio_cpu": values["torch_pruning_cpu_s"] / values["hwprune_cpu_s"],
        "ratio_memory": values["hwprune_peak_bytes"] / max(values["torch_pruning_peak_bytes"], 1),
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    slowest = max(rows, key=lambda row: row["hwprune_wall_s"])
    most = max(rows, key=lambda row: row["ratio_memory"])
    named = {row["network"]: row for row in rows}
    dense = named.get("torchvision:densenet161", {})
    return {
        "networks": len(rows),
        "median_ratio_wall": median(row["ratio_wall"] for row in rows),
        "median_ratio_cpu": median(row["ratio_cpu"] for row in rows),
        "densenet161_ratio_wall": dense.get("ratio_wall"),
        "densenet161_ratio_cpu": dense.get("ratio_cpu"),
        "hwprune_slower_on": sorted(row["network"] for row in rows if row["ratio_wall"] < 1),
        "slowest_hwprune": [slowest["network"], slowest["hwprune_wall_s"]],
        "median_ratio_memory": median(row["ratio_memory"] for row in rows),
        "highest_ratio_memory": [most["network"], most["ratio_memory"]],
    }


def _page(summary: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    table = markdown(
        ("network", "hwprune s", "Torch-Pruning s", "times, wall", "times, processor", "peak memory, share"),
        [
            (
                row["network"] + (" (by hand)" if row["tool"] == "by hand" else ""),
                f"{row['hwprune_wall_s']:.3f}",
                f"{row['torch_pruning_wall_s']:.3f}",
                f"{row['ratio_wall']:.1f}",
                f"{row['ratio_cpu']:.1f}",
                f"{row['ratio_memory']:.2f}",
            )
            for row in sorted(rows, key=lambda row: row["ratio_wall"])
        ],
    )
    head = (
        f"{summary['networks']} networks that both tools can do: Torch-Pruning takes "
        f"{summary['median_ratio_wall']:.1f} times as long as hwprune at the median (processor time: "
        f"{summary['median_ratio_cpu']:.1f}); hwprune's peak memory is {summary['median_ratio_memory']:.0%} of "
        "Torch-Pruning's at the median."
    )
    return f"# Analysis and cut, timed by turns\n\n`python benchmarks/zoo_times.py`: {head}\n\n{table}\n"


if __name__ == "__main__":
    sys.exit(main())
