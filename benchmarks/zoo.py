"""Every network of the zoo through hwprune and through Torch-Pruning, side by side.

    python benchmarks/zoo.py [--only PATTERN ...] [--tool hwprune|torch_pruning] [--again]

Each network and tool runs in a process of its own, tool after tool, on one thread, with 120 s for analysis and cut
and a limit of its own for the checks behind them. Results are written down as they come (``--log``); a run that is
started again skips what it finds there for the same code. When every network has been through both tools, the table
goes to ``results/zoo.json`` and ``results/zoo.md``; any run prints the rows that it was asked for.

Needs `torch-pruning`, `timm` and `ultralytics`; no weights are downloaded. Keep the machine idle; some hours on one
core, up to 16 GB of memory.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["YOLO_OFFLINE"] = "true"  # ultralytics looks for updates when it is imported
HERE = Path(__file__).parent
# The server of processes imports what they share, and looks for it on this path.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])

import psutil  # noqa: E402  # the threads are set before anything that reads them
from zoo_child import child  # noqa: E402
from zoo_networks import Entry, entries  # noqa: E402

TOOLS = {
    "hwprune": "zoo_hwprune:run",
    "torch_pruning_by_hand": "zoo_torch_pruning:run_by_hand",
    "torch_pruning": "zoo_torch_pruning:run",
}
LIMITS_S = {"started": 300, "built": 120, "cut": 1800}
"""Seconds from a stage to the next: building the network, analysis and cut, all checks."""
MOST_BYTES = 16 * 2**30
RESULTS = HERE / "results"


def main() -> int:
    """Run what is missing, print the table; exit 1 where a network of hwprune's is not verified."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    chosen = [
        e for e in entries() if any(fnmatch.fnmatch(e.key, p) or fnmatch.fnmatch(e.name, p) for p in options.only)
    ]
    tools = [tool for tool in TOOLS if options.tool is None or tool.startswith(options.tool)]
    codes = {tool: _code(tool) for tool in TOOLS}
    records = {} if options.again else _recorded(options.log)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["zoo_preload"])
    for number, entry in enumerate(chosen, start=1):
        for tool in tools:
            key = (entry.key, tool)
            if key not in records or records[key]["code"] != codes[tool]:
                by_hand = records.get((entry.key, "torch_pruning_by_hand"), {})
                if tool == "torch_pruning" and by_hand.get("failed", "").startswith("no answer"):
                    # What its documentation asks for has been tried; the defaults would take the time limit again.
                    result = {"stage": "built", "failed": "not tried: by hand it gave no answer", "total_s": 0.0}
                else:
                    result = _supervised(processes, entry, tool)
                records[key] = {"network": entry.key, "tool": tool, "code": codes[tool], **result}
                _append(options.log, records[key])
                print(f"{number}/{len(chosen)} {tool} {entry.key}: {_in_short(records[key])}", flush=True)
    took = time.monotonic() - started
    return _finish(chosen, tools, _recorded(options.log), codes, took)


def _supervised(processes: Any, entry: Entry, tool: str) -> dict[str, Any]:
    """One child from start to end: what it reported, or the limit that it went over."""
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=child, args=(TOOLS[tool], entry, there), daemon=True)
    process.start()
    there.close()
    started = time.monotonic()
    try:
        result = _listen(here, process)
        if "failed" not in result:
            process.join(10)
    finally:  # also when this run is interrupted: a tool that hangs would go on for ever
        if process.is_alive():
            process.kill()
        process.join()
    result["total_s"] = round(time.monotonic() - started, 2)
    return result


def _listen(connection: Connection, process: BaseProcess) -> dict[str, Any]:
    result: dict[str, Any] = {"stage": "started", "load": os.getloadavg()[0]}
    since = time.monotonic()
    while True:
        try:
            news = connection.recv() if connection.poll(0.1) else None
        except EOFError:
            process.join(5)
            return result | {"failed": f"the process died with exit code {process.exitcode}"}
        if news is not None:
            stage, facts = news
            if stage in ("done", "skipped"):
                return result | {"stage": stage}
            if stage == "failed":
                return result | {"failed": facts["error"]}
            if stage in LIMITS_S:
                result["stage"], since = stage, time.monotonic()
            result |= facts
        elif time.monotonic() - since > LIMITS_S[result["stage"]]:
            return result | {"failed": f"no answer in {LIMITS_S[result['stage']]} s"}
        elif (held := _resident(process)) > MOST_BYTES:
            return result | {"failed": f"took {held / 2**30:.0f} GB of memory"}


def _resident(process: BaseProcess) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:
        return 0


def _code(tool: str) -> str:
    """Fingerprint of what a record depends on: these scripts, the tool and the packages that make the networks."""
    digest = hashlib.sha256()
    own = ["zoo_networks.py", "zoo_child.py", TOOLS[tool].partition(":")[0] + ".py"]
    files = [HERE / name for name in own]
    packages = ["torch", "torchvision", "timm", "ultralytics"]
    if tool == "hwprune":
        import importlib.util

        spec = importlib.util.find_spec("hwprune")
        root = Path((spec.origin if spec and spec.origin else "") or ".").parent
        files += sorted([*root.glob("*.py"), *root.glob("graph/*.py"), *root.glob("runtimes/onnx*.py")])
    else:
        packages.append("torch-pruning")
    for file in files:
        digest.update(file.read_bytes())
    digest.update(" ".join(metadata.version(package) for package in packages).encode())
    return digest.hexdigest()[:12]


def _recorded(log: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last record of every network and tool."""
    if not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {(line["network"], line["tool"]): line for line in lines}


def _append(log: Path, record: dict[str, Any]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _in_short(record: dict[str, Any]) -> str:
    if record["stage"] == "skipped":
        return "nothing to set by hand"
    figures = f"{record['wall_s']:.2f} s" if "wall_s" in record else ""
    return " ".join(x for x in (figures, record.get("failed", ""), f"({record['total_s']:.0f} s in all)") if x)


def _finish(
    chosen: Sequence[Entry],
    tools: Sequence[str],
    records: dict[tuple[str, str], dict[str, Any]],
    codes: dict[str, str],
    took: float,
) -> int:
    import zoo_table

    everything = entries()
    current = {key: r for key, r in records.items() if r["code"] == codes[key[1]]}
    rows = zoo_table.rows(chosen, current)
    print(zoo_table.text(rows))
    print(f"took {took / 60:.1f} minutes")
    missing = [e.key for e in everything for tool in TOOLS if (e.key, tool) not in current]
    if len(chosen) == len(everything) and not missing:
        zoo_table.write(rows, RESULTS)
    elif len(chosen) == len(everything):
        print(f"nothing written: {len(missing)} runs are missing for this code, such as {missing[0]}")
    return int("hwprune" in tools and not all(row.verified for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of names, or of sources as in timm:*")
    parser.add_argument("--tool", choices=("hwprune", "torch_pruning"))
    parser.add_argument("--again", action="store_true", help="also what is recorded for this code")
    parser.add_argument("--log", type=Path, default=Path("runs/zoo.jsonl"), help="one line per network and tool")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
