"""How near the largest layer's memory tells what a whole engine takes, before any candidate has taught a factor.

    python benchmarks/activation_memory.py [--model NAME ...] [--runtime NAME ...] [--settings 20]

At random widths of each network: what its engine says it takes for activations, over the prediction of `MemoryGoal`
(the dense engine's memory scaled by the largest layer's), with layers as measured by themselves and with their inputs
and outputs counted. Nothing is timed. Writes benchmarks/results/activation_memory.{json,md}; what other runs recorded
stays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.recording import RESULTS, fingerprint, markdown, record
from hwprune.latency import isolated
from hwprune.layer import Layer
from hwprune.loop.memory import MemoryGoal, counted_bytes
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.search.problem import Op
from hwprune.target import MemoryLimit

MODELS = ("hwprune.models.cifar_resnet:resnet20", "resnet18")
HEADS = ("network", "runtime", "layers", "least", "median", "most", "Spearman", "settings")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append")
    parser.add_argument("--runtime", action="append")
    parser.add_argument("--settings", type=int, default=20)
    asked = parser.parse_args()
    path = RESULTS / "activation_memory.json"
    found = json.loads(path.read_text())["measured"] if path.exists() else {}
    for model in asked.model or MODELS:
        for runtime in asked.runtime or ("onnxruntime", "pytorch"):
            found |= measured(model, runtime, asked.settings)
            record(path, {"made by": "benchmarks/activation_memory.py", **fingerprint(), "measured": found})
    rows = [(*key.split(" "), *map(str, values.values())) for key, values in sorted(found.items())]
    title = "What engines take over what the largest layer predicts, made by `benchmarks/activation_memory.py`."
    text = f"{title}\n\n{markdown(HEADS, rows)}\n"
    path.with_suffix(".md").write_text(text)
    print(text)


def measured(model: str, runtime: str, count: int) -> dict[str, dict[str, float]]:
    """Quantiles of measured over predicted, with layers measured and with layers counted."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings("100%", runtime=runtime)
        subject = Subject(load_model(model), describe_inputs(model), settings, Path(folder), Silent(), model)
        full, tried = subject.network.widths, subject.random_widths(count, seed=1)
        dense, *told = (engine_bytes(subject, widths) for widths in (full, *tried))
        rows = {}
        for name, of_layer in (("measured", layer_bytes(subject)), ("counted", counted_bytes)):
            goal = MemoryGoal(MemoryLimit(1.0, True), dense, operators(subject, of_layer), full)
            predicted = [goal.predicted_bytes(widths) for widths in tried]
            rows[f"{model} {runtime} {name}"] = summary(np.array(told), np.array(predicted))
    return rows


def summary(told: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """How far apart, and how well the order is told."""
    least, middle, most = np.quantile(told / predicted, [0.0, 0.5, 1.0])
    rank = spearmanr(told, predicted).statistic
    figures = {"least": least, "median": middle, "most": most, "spearman": rank}
    return {name: round(float(value), 3) for name, value in figures.items()} | {"settings": len(told)}


def engine_bytes(subject: Subject, widths: Mapping[str, int]) -> int:
    """What a whole engine says."""
    with closing(subject.engine(subject.small(subject.first_channels(widths)))) as engine:
        return engine.memory().activation_bytes or 0


def layer_bytes(subject: Subject) -> Callable[[Layer], int]:
    """What an engine of one layer says, as the profiler measures it."""

    @cache
    def told(layer: Layer) -> int:
        runtime = subject.runtime
        whole = runtime.build_onnx(isolated.layer_onnx(layer)) if runtime.reads_onnx else None
        with closing(whole or runtime.build(*isolated.layer_module(layer))) as engine:
            return engine.memory().activation_bytes or 0

    return told


def operators(subject: Subject, of_layer: Callable[[Layer], int]) -> tuple[Op, ...]:
    """Bytes of every layer that is not fused."""
    layers = [layer for layer in subject.network.layers if not layer.fused]
    names = tuple(subject.network.widths)
    return tuple(Op(names, lambda widths, layer=layer: float(of_layer(layer.at(widths)))) for layer in layers)


if __name__ == "__main__":
    main()
