"""Why a network pruned by a latency table came out slower: the published profiles of two TensorRT engines, explained.

YOLOv8n in FP16 on a Tesla T4 with TensorRT 10.16, profiled by trtexec: dense; pruned by a table of isolated
convolutions that promised -6.3 % (``lut_pruned``); and, from another day with a dense engine of its own (``dense2``),
pruned by MACs. The files are those of pnthang04/PCB-Prune-YOLO @ f38c714c on GitHub; they do not come with hwprune.

    python benchmarks/explain_t4.py --data FOLDER        writes results/explain_t4.{json,md}
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recording import RESULTS, markdown, record

from hwprune.runtimes.base import LayerTime
from hwprune.units import format_ms
from hwprune.validation.difference import Cause, category
from hwprune.validation.explain import WORDS, Explanation, Profile, explain
from hwprune.validation.trtexec import Statistic, read_profile

# Name -> (profiles, layer lists, latencies as the repository's own report has them, where it has them)
PAIRS: Mapping[str, tuple[tuple[str, str], tuple[str, str], tuple[float, float] | None]] = {
    "pruned by a latency table": (
        ("dense_profile.json", "lut_pruned_profile.json"),
        ("dense_layers.json", "lut_pruned_layers.json"),
        (1.780, 1.838),
    ),
    "pruned by MACs": (
        ("dense2_profile.json", "macs_pruned_profile.json"),
        ("dense2_inspector.json", "macs_pruned_inspector.json"),
        None,
    ),
}
BLOCKS = "/conv/Conv"  # convolutions of YOLO's Conv blocks: all but the six last ones of its heads
HEADS = ("cause", "layers, dense", "dense", "layers, pruned", "pruned", "difference")


def profiles(folder: Path, name: str, statistic: Statistic = "median") -> tuple[Profile, Profile]:
    """The dense and the pruned engine of a pair."""
    files, infos, latencies = PAIRS[name]
    measured: Sequence[float | None] = latencies or (None, None)
    dense, pruned = (
        read_profile(folder / file, folder / info, statistic=statistic, measured_ms=ms)
        for file, info, ms in zip(files, infos, measured, strict=True)
    )
    return dense, pruned


def sums(engines: tuple[Profile, Profile], counts: Callable[[LayerTime, Profile], bool]) -> dict[str, list[float]]:
    """How many layers of each engine count, and their time."""
    chosen = [[layer for layer in engine.layers if counts(layer, engine)] for engine in engines]
    return {
        "layers": [len(layers) for layers in chosen],
        "ms": [round(sum(layer.median_ms for layer in layers), 4) for layers in chosen],
    }


def is_convolution(layer: LayerTime, engine: Profile) -> bool:
    return category(layer, engine.structure) == "main"


def of_blocks(layer: LayerTime, engine: Profile) -> bool:
    return is_convolution(layer, engine) and any(BLOCKS in node for node in layer.nodes)


def row(cause: Cause) -> tuple[str, ...]:
    dense, pruned = (str(count) if count else "" for count in (cause.dense_count, cause.pruned_count))
    difference = f"{cause.difference_ms * 1000:+.1f} µs"
    return (WORDS[cause.name], dense, format_ms(cause.dense_ms), pruned, format_ms(cause.pruned_ms), difference)


def table(found: Explanation) -> str:
    whole = "latency" if found.measured else "all layers"
    total = (whole, "", format_ms(found.dense_ms), "", format_ms(found.pruned_ms))
    rows = [*map(row, found.causes), (*total, f"{found.difference_ms * 1000:+.1f} µs")]
    return markdown(HEADS, rows)


def told(folder: Path, name: str) -> tuple[dict[str, Any], str]:
    """One pair's document, and its part of the page."""
    engines, means = profiles(folder, name), profiles(folder, name, "mean")
    found = explain(*engines)
    document = {
        "summary": found.summary,
        "causes": {
            cause.name: {
                "layers": [cause.dense_count, cause.pruned_count],
                "ms": [round(cause.dense_ms, 4), round(cause.pruned_ms, 4)],
                "difference_ms": round(cause.difference_ms, 4),
            }
            for cause in found.causes
        },
        "latency_ms": [round(found.dense_ms, 4), round(found.pruned_ms, 4)],
        "latency": "as measured" if found.measured else "sum of layers",
        "layers": [len(engine.layers) for engine in engines],
        "fusions lost": len(found.refused),
        "convolutions, medians": sums(engines, is_convolution),
        "convolutions, means": sums(means, is_convolution),
        f"convolutions called {BLOCKS}, means": sums(means, of_blocks),
    }
    blocks = document[f"convolutions called {BLOCKS}, means"]["ms"]
    lost = f"{len(found.refused)} fused layers of the dense engine run as several in the pruned one."
    note = f"By means, the convolutions called `{BLOCKS}` alone take {blocks[0]:.3f} and {blocks[1]:.3f} ms."
    return document, f"## {name}\n\n{found.summary} {lost} {note}\n\n{table(found)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the published files")
    folder = parser.parse_args().data
    pairs = {name: told(folder, name) for name in PAIRS}
    source = "pnthang04/PCB-Prune-YOLO @ f38c714c: YOLOv8n FP16, Tesla T4, TensorRT 10.16"
    record(RESULTS / "explain_t4.json", {"source": source, **{name: document for name, (document, _) in pairs.items()}})
    head = f"# Published engine profiles, explained\n\n{source}. Medians of 200 runs; `benchmarks/explain_t4.py`.\n\n"
    page = head + "\n".join(part for _, part in pairs.values())
    (RESULTS / "explain_t4.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
