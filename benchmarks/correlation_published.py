"""What measurements that others published say of MACs, parameters and activations; their figures found again.

    python benchmarks/correlation_published.py [--data FOLDER] [--out DIR]

Two tables lie in ``data/``: 36 networks of the RegNet paper, 4 dense and 14 pruned networks of Group Fisher Pruning.
FOLDER may hold benchmark files of huggingface/pytorch-image-models (``results/benchmark-infer-*.csv``), of which the
convolutional networks are looked at; what was recorded of them stays where no FOLDER is given. Exit 1 where a figure of
the first two is not found again. Nothing is timed here; a minute.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recording import RESULTS, fingerprint, markdown, record

from hwprune.cost.correlation import PointSet, Study, sets_of
from hwprune.cost.points import PROXIES, read_points

DATA = Path(__file__).parent / "data"
GROUP_FISHER_COLUMNS = {
    "macs": "macs (G)*1e9",
    "activations": "memory (M elements)*1e6",
    "latency_ms": "time (ms)",
}
# Pearson's r, from the printed tables.
KNOWN: Mapping[str, Mapping[str, float]] = {
    "RegNet paper, V100": {"macs": 0.730, "parameters": 0.673, "activations": 0.940},
    "Group Fisher, 2080 Ti": {"parameters": -0.220, "activations": 0.950},
    "Group Fisher, 2080 Ti, pooled": {"macs": 0.927, "parameters": 0.861, "activations": 0.837},
}
HEADS = ("table", "networks", *(PROXIES[name] for name in ("macs", "parameters", "activations")), "MACs + activations")


def main() -> int:
    """Read, correlate, compare, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    file = options.out / "correlation_published.json"
    regnet = Study("V100", sets_of(read_points(DATA / "regnet_2003_13678.csv")))
    fisher = Study("2080 Ti", sets_of(read_points(DATA / "group_fisher_table1.csv", GROUP_FISHER_COLUMNS)))
    tables = {
        "RegNet paper, V100": _table(regnet, regnet.sets[0]),
        "Group Fisher, 2080 Ti": _table(fisher, fisher.sets[0]),
        "Group Fisher, 2080 Ti, pooled": _table(fisher, fisher.pooled),
    }
    tables |= _timm(options.data) if options.data else _before(file, tables)
    missed = [
        f"{table}: {name} {tables[table]['correlations'][name]['pearson']['value']:.3f}, not {value:.3f}"
        for table, known in KNOWN.items()
        for name, value in known.items()
        if abs(tables[table]["correlations"][name]["pearson"]["value"] - value) > 0.0006
    ]
    text = "\n".join(
        [
            "Latency against counts: Pearson's r (95 % interval), Spearman's rank correlation; mean error of the fit.",
            "",
            markdown(HEADS, [_row(name, table) for name, table in tables.items()]),
            "",
            *(f"- {table['verdict']}" for table in tables.values() if table["verdict"]),
            *(f"- {note}" for note in fisher.notes),
            "",
            "Made by `benchmarks/correlation_published.py`.",
        ]
    )
    record(file, {"fingerprint": fingerprint(), "found_again": not missed, "tables": tables})
    (options.out / "correlation_published.md").write_text(text + "\n", encoding="utf-8")
    print(text, *missed, sep="\n")
    return int(bool(missed))


def _timm(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*benchmark-infer-*.csv")):
        name = re.sub(".*benchmark-infer-|[.]csv", "", path.name)
        study = Study(name, sets_of(read_points(path)))
        found[f"timm {name}"] = _table(study, study.sets[0])
    return found


def _before(file: Path, tables: Mapping[str, Any]) -> dict[str, Any]:
    if not file.exists():
        return {}
    known = json.loads(file.read_text(encoding="utf-8"))["tables"]
    return {name: table for name, table in known.items() if name not in tables}


def _table(study: Study, points: PointSet) -> dict[str, Any]:
    known = Study(study.device, (points,)).as_json()
    return {**known["sets"][0], "verdict": "" if points is study.pooled else study.verdict}


def _row(name: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    def told(proxy: str) -> str:
        found = table["correlations"].get(proxy)
        if found is None:
            return "equal"
        r = found["pearson"]
        return f"{r['value']:.3f} ({r['low']:.3f} to {r['high']:.3f}), {found['spearman']['value']:.3f}"

    fit = next((f for f in table["fits"] if f["terms"] == ["macs", "activations", "constant"]), None)
    error = "" if fit is None else f"{100 * fit['mape']:.1f} %, r {fit['r']:.3f}"
    return name, str(table["points"]), told("macs"), told("parameters"), told("activations"), error


if __name__ == "__main__":
    sys.exit(main())
