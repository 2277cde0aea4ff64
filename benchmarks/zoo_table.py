"""The zoo's records as rows, figures over all of them, and the two files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from zoo_networks import Entry

Records = Mapping[tuple[str, str], dict[str, Any]]
HEADS = (
    "network",
    "input",
    "parameters",
    "ops",
    "traced",
    "analysis s",
    "cut s",
    "peak MB",
    "free",
    "left at half",
    "error / tolerance",
    "ONNX Runtime",
    "TP s",
    "TP peak MB",
    "TP left",
    "TP / hwprune",
    "what fails",
)
NOTES = """# The zoo

Every network with random weights, on one thread, hwprune (analysis, then cut at half of every group) beside Torch-
Pruning ("TP": dependency graph, pruner and one step that halves every layer), each in a process of its own. Times are
compared by turns in `zoo_times.md`; here the two halves may have run at the same time, on a core each, beside other
work. Imports, building and a first call on a tiny network are not timed. "peak" is memory above the level before.
"free" is 1 - parameters left when every free group is cut to one channel / all parameters. "error" is the largest of
three plans (half of every group, two random ones; one above 60 M parameters) beside its tolerance, in float64; every
one of these checks would have failed had nothing been zeroed. "ONNX Runtime" is the largest relative difference from
PyTorch, in float32, of the half network. TP counts as run when the forward works afterwards and the outputs keep
their shapes; whether its outputs are right is not checked. "by hand": with `num_heads` of every attention layer and
what else its examples set by hand; the better of the two attempts counts. Detectors and segmentation networks see 320
x 320 pixels.

"""


@dataclass(frozen=True, slots=True)
class Row:
    """One network: hwprune's record and the better one of Torch-Pruning's, {} where there is none."""

    entry: Entry
    ours: dict[str, Any]
    theirs: dict[str, Any]
    all_theirs: dict[str, dict[str, Any]]

    @property
    def plans(self) -> dict[str, dict[str, Any]]:
        """Proofs by plan."""
        return {key.removeprefix("plan "): facts for key, facts in self.ours.items() if key.startswith("plan ")}

    @property
    def verified(self) -> bool:
        """Every plan is equal to rounding, and every check could have failed."""
        return bool(self.plans) and not self.reasons

    @property
    def reasons(self) -> list[str]:
        """Why it is not verified."""
        if "failed" in self.ours:
            return [self.ours["failed"]]
        found = [] if self.ours.get("finite", True) else ["the dense network's outputs are not finite"]
        for name, plan in self.plans.items():
            if "failed" in plan:
                found.append(f"{name}: {plan['failed']}")
            elif not plan["verified"]:
                found.append(f"{name}: off by {plan['error']:.1e}, tolerance {plan['tolerance']:.1e}")
            elif not plan["could_fail"]:
                found.append(f"{name}: uncut it would be off by {plan['control']:.1e} only, which proves nothing")
        return found

    @property
    def exported(self) -> bool:
        """ONNX Runtime runs the half network and agrees with PyTorch."""
        return bool(self.ours.get("onnx", {}).get("agrees"))

    @property
    def they_run(self) -> bool:
        """Torch-Pruning's network runs after the cut and gives outputs of the same shapes."""
        return _runs(self.theirs)

    @property
    def times(self) -> float | None:
        """Torch-Pruning's time over hwprune's, where both can do it."""
        return self.theirs["wall_s"] / self.ours["wall_s"] if self.verified and self.they_run else None


def _runs(record: Mapping[str, Any]) -> bool:
    return bool(record.get("runs")) and bool(record.get("same_shapes"))


def rows(chosen: Sequence[Entry], records: Records) -> list[Row]:
    """One row per network; of Torch-Pruning the attempt that runs, and of two that do the faster."""
    found = []
    for entry in chosen:
        tried = {tool: records.get((entry.key, tool), {}) for tool in ("torch_pruning", "torch_pruning_by_hand")}
        tried = {tool: record for tool, record in tried.items() if record and record["stage"] != "skipped"}
        best = min(tried.values(), key=lambda r: (not _runs(r), r.get("wall_s", 1e9)), default={})
        found.append(Row(entry, records.get((entry.key, "hwprune"), {}), best, tried))
    return found


def summary(found: Sequence[Row]) -> dict[str, Any]:
    """The figures that the project states."""
    ours = [row.ours for row in found if "wall_s" in row.ours]
    both = [row for row in found if row.times is not None]
    times = {row.entry.key: row.times for row in both}
    cpu = [row.theirs["cpu_s"] / row.ours["cpu_s"] for row in both]
    memory = {row.entry.key: row.ours["peak_bytes"] / max(row.theirs["peak_bytes"], 1) for row in both}
    shares = {row.entry.key: row.ours["free_share"] for row in found if "free_share" in row.ours}
    return {
        "networks": len(found),
        "timm_networks": sum(row.entry.source == "timm" for row in found),
        "timm_families": len({row.entry.family for row in found} - {""}),
        "hwprune_verified": sum(row.verified for row in found),
        "hwprune_onnx_agrees": sum(row.exported for row in found),
        "torch_pruning_runs": sum(row.they_run for row in found),
        "torch_pruning_runs_by_default": sum(_runs(row.all_theirs.get("torch_pruning", {})) for row in found),
        "torch_pruning_leaves_above_90_percent": sum(row.they_run and row.theirs["left"] > 0.9 for row in found),
        "both": len(both),
        "times_faster": _spread(times),
        "times_faster_processor_time_median": median(cpu) if cpu else None,
        "times_faster_densenet161": times.get("torchvision:densenet161"),
        "hwprune_seconds": _spread({row.entry.key: row.ours["wall_s"] for row in found if "wall_s" in row.ours}),
        "hwprune_above_10_s": sum(record["wall_s"] > 10 for record in ours),
        "torch_pruning_seconds": _spread({row.entry.key: row.theirs["wall_s"] for row in found if row.they_run}),
        "memory_of_torch_pruning": _spread(memory),
        "memory_above_torch_pruning": sum(ratio > 1 for ratio in memory.values()),
        "free_share": _spread(shares),
        "not_verified": {row.entry.key: row.reasons or ["not run"] for row in found if not row.verified},
        "not_exported": {row.entry.key: _export_reason(row) for row in found if not row.exported},
    }


def _spread(values: Mapping[str, float | None]) -> dict[str, Any] | None:
    """Median and both ends, with the names of the ends."""
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return None
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return {"median": median(known.values()), "least": [least, known[least]], "most": [most, known[most]]}


def _export_reason(row: Row) -> str:
    onnx = row.ours.get("onnx")
    if onnx is None:
        return "not reached"
    uncut = " (the uncut network is refused too)" if "dense_failed" in onnx else ""
    return f"{onnx['failed']}{uncut}" if "failed" in onnx else f"ONNX Runtime is off by {onnx['error']:.1e}"


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, in the order of `HEADS`."""
    ours, theirs = row.ours, row.theirs
    proofs = [plan for plan in row.plans.values() if "error" in plan]
    worst = max(proofs, key=lambda plan: plan["error"] / plan["tolerance"], default=None)
    mb: Callable[[float], str] = lambda size: f"{size / 1e6:.0f}"  # noqa: E731  # one word for two columns
    share: Callable[[float], str] = lambda part: f"{100 * part:.1f} %"  # noqa: E731
    plain: Callable[[Any], str] = str
    seconds: Callable[[float], str] = lambda s: f"{s:.2f}"  # noqa: E731
    problems = [f"hwprune: {reason}" for reason in row.reasons]
    if ours and not row.exported and row.verified:
        problems.append(f"ONNX: {_export_reason(row)}")
    if theirs and not row.they_run:
        problems.append(f"TP: {theirs.get('failed') or 'an output has another shape'}")
    by_hand = " (by hand)" if theirs.get("by_hand") else ""
    return (
        row.entry.key,
        "x".join(map(str, ours.get("input", [])[1:])),
        _cell(ours, "parameters", lambda n: f"{n / 1e6:.1f} M"),
        _cell(ours, "ops", plain),
        _cell(ours, "traced", plain),
        _cell(ours, "analysis_s", seconds),
        _cell(ours, "cut_s", seconds),
        _cell(ours, "peak_bytes", mb),
        _cell(ours, "free_share", share),
        _cell(ours, "left_at_half", share),
        f"{worst['error']:.0e} / {worst['tolerance']:.0e}" if worst else "",
        f"{ours['onnx']['error']:.0e}" if "error" in ours.get("onnx", {}) else "",
        _cell(theirs, "wall_s", seconds) + by_hand if row.they_run else "",
        _cell(theirs, "peak_bytes", mb) if row.they_run else "",
        _cell(theirs, "left", share) if row.they_run else "",
        f"{row.times:.1f}" if row.times is not None else "",
        "; ".join(problems).replace("|", "/").replace("\n", " "),
    )


def _cell(record: Mapping[str, Any], name: str, written: Callable[[Any], str]) -> str:
    return written(record[name]) if name in record else ""


def sentences(figures: Mapping[str, Any]) -> list[str]:
    """The summary in words."""
    lines = [
        f"hwprune: {figures['hwprune_verified']} of {figures['networks']} networks verified, "
        f"{figures['hwprune_onnx_agrees']} agree in ONNX Runtime. Torch-Pruning: {figures['torch_pruning_runs']} run "
        f"after the cut ({figures['torch_pruning_runs_by_default']} with its defaults; "
        f"{figures['torch_pruning_leaves_above_90_percent']} keep more than 90 % of their parameters)."
    ]
    if times := figures["times_faster"]:
        processor = figures["times_faster_processor_time_median"]
        lines.append(
            f"Time of Torch-Pruning over hwprune's, {figures['both']} networks that both can do: median "
            f"{times['median']:.1f} (processor time {processor:.1f}), least {_end(times, 'least')}, most "
            f"{_end(times, 'most')}."
        )
        if densenet := figures["times_faster_densenet161"]:
            lines.append(f"DenseNet-161: Torch-Pruning takes {densenet:.1f} times as long.")
    if slowest := figures["hwprune_seconds"]:
        lines.append(
            f"hwprune's analysis and cut: median {slowest['median']:.2f} s, slowest {_end(slowest, 'most')} s; "
            f"{figures['hwprune_above_10_s']} above 10 s."
        )
    if memory := figures["memory_of_torch_pruning"]:
        lines.append(
            f"Peak memory of hwprune over Torch-Pruning's: median {memory['median']:.2f}, most {_end(memory, 'most')}; "
            f"above 1 for {figures['memory_above_torch_pruning']}."
        )
    if free := figures["free_share"]:
        lines.append(
            f"Parameters free to go: median {100 * free['median']:.1f} %, least {free['least'][0]} "
            f"{100 * free['least'][1]:.1f} %."
        )
    lines += [f"Not verified: {key}: {'; '.join(why)}" for key, why in figures["not_verified"].items()]
    lines += [
        f"Not exported: {key}: {why}"
        for key, why in figures["not_exported"].items()
        if key not in figures["not_verified"]
    ]
    return lines


def _end(spread: Mapping[str, Any], end: str) -> str:
    name, value = spread[end]
    return f"{value:.1f} ({name})"


def text(found: Sequence[Row]) -> str:
    """The whole table and the figures as Markdown."""
    from recording import markdown

    paragraphs = "\n".join(f"- {line}" for line in sentences(summary(found)))
    return f"{paragraphs}\n\n{markdown(HEADS, [cells(row) for row in found])}\n"


def write(found: Sequence[Row], out: Path) -> None:
    """``zoo.json`` with every record and ``zoo.md`` with the table."""
    from recording import fingerprint, record, version_of

    measured = fingerprint()
    measured["packages"] |= {name: version_of(name) for name in ("torch-pruning", "timm", "ultralytics")}
    runs = [one for row in found for one in (row.ours, *row.all_theirs.values())]
    document = {
        "fingerprint": measured,
        "threads": 1,
        "hours": round(sum(one.get("total_s", 0) for one in runs) / 3600, 2),
        "summary": summary(found),
        "networks": [{"network": row.entry.key, "hwprune": row.ours, **row.all_theirs} for row in found],
    }
    record(out / "zoo.json", document)
    (out / "zoo.md").write_text(NOTES + text(found), encoding="utf-8")
