"""hwprune's half of the zoo: analyse, cut at half of every group and at random plans, prove each, export, run."""

from __future__ import annotations

import copy
from collections import Counter
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from zoo_child import Meter, Report, measuring, reason, without_paths
from zoo_networks import Entry, awake, build

import hwprune

RANDOM_PLANS = 2
LARGE = 60_000_000  # parameters, from where on one random plan must do: float64 takes minutes
AGREES = 1e-3  # largest relative difference of float32 outputs between ONNX Runtime and PyTorch


def run(entry: Entry, report: Report) -> None:
    """Everything, from the cheap to the dear, so that a limit in between loses little."""
    model, inputs = build(entry)
    try:
        awake(model, inputs)
    except Exception as error:  # a network that only runs alone, not in pairs, keeps its first statistics
        report("checked", {"asleep": reason(error)})
    _warm_up()
    report("built", {"parameters": sum(p.numel() for p in model.parameters()), "input": list(inputs[0].shape)})
    with measuring() as meter:
        started = perf_counter()
        network = hwprune.analyze(model, inputs)
        analysis_s = perf_counter() - started
        plan = _half(network)
        half = hwprune.cut(model, plan, network)
    report("cut", _figures(meter, analysis_s))
    report("checked", _facts(model, half, network))
    count = RANDOM_PLANS if sum(p.numel() for p in model.parameters()) < LARGE else 1
    plans = [("half", plan), *((f"random {seed}", _random(network, seed)) for seed in range(count))]
    expected = _outputs(model, network)
    report("checked", {"finite": all(bool(x.isfinite().all()) for x in expected)})
    for name, one in plans:
        try:
            facts = _proof(model, half if name == "half" else None, one, network, expected)
        except Exception as error:  # one plan that fails is a fact, and the next one is tried
            facts = {"failed": reason(error), "verified": False}
        report("checked", {f"plan {name}": facts})
    del expected
    try:
        report("checked", {"onnx": _exported(half, inputs, network)})
    except Exception as error:  # the exporter's and the runtime's refusals too
        report("checked", {"onnx": {"failed": reason(error), "agrees": False, **_dense_too(model, inputs, network)}})


def run_times(entry: Entry, report: Report) -> None:
    """Analysis and cut alone; for `zoo_times.py`."""
    model, inputs = build(entry)
    _warm_up()
    report("built", {})
    with measuring() as meter:
        network = hwprune.analyze(model, inputs)
        hwprune.cut(model, _half(network), network)
    report("cut", {"wall_s": meter.wall_s, "cpu_s": meter.cpu_s, "peak_bytes": meter.peak_bytes})


def _figures(meter: Meter, analysis_s: float) -> dict[str, Any]:
    return {
        "wall_s": meter.wall_s,
        "cpu_s": meter.cpu_s,
        "analysis_s": analysis_s,
        "cut_s": meter.wall_s - analysis_s,
        "peak_bytes": meter.peak_bytes,
    }


def _warm_up() -> None:
    """Whatever Python and torch do at a first call belongs to no network."""
    tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)).eval()
    network = hwprune.analyze(tiny, (torch.zeros(1, 3, 8, 8),))
    hwprune.cut(tiny, _half(network), network)


def _half(network: hwprune.Network) -> hwprune.Plan:
    """Half of every free group, random channels."""
    rng = np.random.default_rng(0)
    kept = {g.name: rng.choice(g.width, max(1, g.width // 2), replace=False) for g in network.free}
    return hwprune.Plan.keeping(network, kept)


def _random(network: hwprune.Network, seed: int) -> hwprune.Plan:
    """A random number of random channels of every free group."""
    rng = np.random.default_rng(1 + seed)
    kept = {g.name: rng.choice(g.width, rng.integers(1, g.width + 1), replace=False) for g in network.free}
    return hwprune.Plan.keeping(network, kept)


def _facts(model: nn.Module, half: nn.Module, network: hwprune.Network) -> dict[str, Any]:
    """What the analysis found. The free share is what goes when every free group is cut to one channel."""
    tensors = {name: p.numel() for name, p in model.named_parameters()}
    whole = sum(tensors.values())
    least = network.parameter_count(frozenset(tensors), {group.name: 1 for group in network.free})
    pins = Counter[str]()
    for group in network.groups:
        if group.pinned is not None:
            pins[without_paths(group.pinned)] += group.width
    return {
        "ops": len(network.trace.ops),
        "traced": network.trace.method,
        "free_groups": len(network.free),
        "free_channels": sum(group.width for group in network.free),
        "free_share": 1 - least / whole,
        "left_at_half": sum(p.numel() for p in half.parameters()) / whole,
        "pins": pins.most_common(5),
    }


def _proof(
    model: nn.Module, small: nn.Module | None, plan: hwprune.Plan, network: hwprune.Network, expected: list[Tensor]
) -> dict[str, Any]:
    """`hwprune.verify`, and what it would have said had nothing been zeroed: a check must be able to fail."""
    if small is None:
        small = hwprune.cut(model, plan, network)
    control = max(_distance(a, b) for a, b in zip(expected, _outputs(small, network), strict=True))
    found = hwprune.verify(model, small, plan, network)
    return {
        "error": found.error,
        "tolerance": found.tolerance,
        "control": control,
        "verified": found.equal,
        "could_fail": control > found.tolerance,
        "left": sum(p.numel() for p in small.parameters()) / sum(p.numel() for p in model.parameters()),
        "spanning": len(found.spanning),
        "rescaled": found.rescaled,
    }


def _outputs(model: nn.Module, network: hwprune.Network) -> list[Tensor]:
    """Outputs in float64 on random inputs; of the network as the analysis sees it."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in network.input_shapes]
    doubled = copy.deepcopy(model).double()
    with torch.no_grad():
        return _tensors(_as_seen(doubled, network)(*inputs))


class _Adapted(nn.Module):
    """A network whose forward is the function that the analysis ran in its place."""

    def __init__(self, model: nn.Module, forward: Any) -> None:
        super().__init__()
        self.model, self.function = model, forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.model, *inputs)


def _as_seen(model: nn.Module, network: hwprune.Network) -> nn.Module:
    return (model if network.forward is None else _Adapted(model, network.forward)).eval()


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(outputs)[0] if isinstance(leaf, Tensor)]


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; infinite where the shapes differ (a detector found other boxes)."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-300)
    return float((a - b).abs().max()) / scale


def _dense_too(model: nn.Module, inputs: tuple[Tensor, ...], network: hwprune.Network) -> dict[str, str]:
    """Whether the exporter refuses the uncut network as well; {} where it takes it."""
    from hwprune.runtimes.onnx_export import export

    try:
        export(_as_seen(model, network), inputs)
    except Exception as error:  # whatever the exporter raises is the answer
        return {"dense_failed": reason(error)}
    return {}


def _exported(half: nn.Module, inputs: tuple[Tensor, ...], network: hwprune.Network) -> dict[str, Any]:
    import onnxruntime

    from hwprune.runtimes.onnx_export import export

    seen = _as_seen(half, network)
    graph = export(seen, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = _tensors(seen(*inputs))
    error = max(_distance(a, torch.from_numpy(np.asarray(b))) for a, b in zip(expected, found, strict=True))
    return {"bytes": len(graph), "error": error, "agrees": error <= AGREES}
