"""Steps of `checks` that ask whether what is told of an engine is true: profile, precision, memory, certificate."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from subjects import Options, chosen_runtime, classifier, difference, subject_of, timed, write

from hwprune.device import resolve
from hwprune.errors import HwpruneError
from hwprune.runtimes.select import RUNTIMES, RuntimeSpec, _installed, spec_for
from hwprune.runtimes.tensorrt_module import Flavour

FAMILIES = ("resnet18", "resnet50", "mobilenet_v2", "densenet121")


def _spec(out: Path, options: Options, precision: str) -> RuntimeSpec:
    device = options["device"]
    asked = "fp32" if device == "cpu" else precision
    return spec_for(resolve(device), chosen_runtime(out, options), precision=asked)


def _tensorrt(out: Path, options: Options) -> Flavour:
    """The flavour to ask, where one is installed."""
    flavours: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")
    usable = [name for name in flavours if _installed(RUNTIMES[name])]
    found = next((name for name in usable if name == options["runtime"]), next(iter(usable), None))
    if found is None:
        raise HwpruneError("neither tensorrt nor tensorrt_rtx is installed", fix="see benchmarks/gpu/README.md")
    return found


def incontext(out: Path, options: Options) -> str:
    """Whole engines at sampled widths, and the error on networks that were not sampled."""
    from hwprune.loop.profiling import checked
    from hwprune.loop.sampling import sampled_table, structure

    subject = subject_of(out, {**options, "model": "resnet18"})
    path = out / f"incontext-{subject.spec.name}-{subject.spec.precision}.parquet"
    started = time.monotonic()
    table = sampled_table(subject, path, count=int(options["samples"]))
    samples = len(table.samples_of(structure(subject)))
    seconds = time.monotonic() - started
    held = checked(subject, path, calibration=6, count=20, method="in-context")
    told = {"runtime": subject.spec.as_dict(), "samples": samples, "seconds": seconds}
    write(out, "incontext", told | {"checks": [{"error": asdict(one.error), **one.as_json()} for one in held]})
    error = held[0].error
    return (
        f"{samples} samples in {seconds:.0f} s; unseen: median {100 * error.median:.1f} %, p95 {100 * error.p95:.1f} %"
    )


def overhead(out: Path, options: Options) -> str:
    """What the profiler adds to each layer: one number of the device, if it is the same for every network."""
    runtime, told = _spec(out, options, "fp16").open(), {}
    for name in FAMILIES:
        model, inputs = classifier(name)
        engine = runtime.build(model, inputs)
        plain = timed(engine)
        layers = engine.layers(repeats=50)
        total = sum(layer.median_ms for layer in layers)
        kinds = {kind: sum(layer.kind == kind for layer in layers) for kind in ("layer", "reformat", "copy")}
        each = 1000 * (total - plain["median_ms"]) / max(len(layers), 1)
        told[name] = plain | {"layers": kinds, "sum_ms": total, "overhead_us_per_layer": each}
        told[name]["without_nodes"] = [layer.name for layer in layers if not layer.nodes]
        engine.close()
        write(out, "overhead", {"runtime": runtime.fingerprint(), "networks": told})
    found = [row["overhead_us_per_layer"] for row in told.values()]
    return f"{median(found):.2f} µs per layer at the median, from {min(found):.2f} to {max(found):.2f}"


def quantized(out: Path, options: Options) -> str:
    """INT8 and FP8 on the card: latency beside FP16, and top-1 with the user's calibration inputs and with random."""
    import hwprune
    from hwprune.models.resolve import load_model
    from hwprune.models.weights import RESNET20_DIGITS
    from hwprune.runtimes.calibration import save_calibration

    flavour, data = _tensorrt(out, options), hwprune.load_data("digits", batch_size=64)
    small = load_model("hwprune.models.cifar_resnet:resnet20", weights=RESNET20_DIGITS, num_classes=10)
    save_calibration(out / "calibration.npz", [next(iter(data.calibration))[0].numpy()])
    large, large_inputs = classifier("resnet50")
    told: dict[str, Any] = {"runtime": flavour}
    for precision in ("fp16", "int8", "fp8"):
        told[precision] = {}
        for name, calibration in (("own", str(out / "calibration.npz")), ("random", "")):
            spec = replace(spec_for(resolve(options["device"]), flavour, precision=precision), calibration=calibration)
            try:
                engine = spec.open().build(small, (next(iter(data.validation))[0],))
                told[precision][name] = _top1(engine, data)
                engine.close()
            except HwpruneError as error:
                told[precision]["error"] = str(error)
        try:
            engine = spec.open().build(large, large_inputs)
            told[precision] |= {"resnet50": timed(engine), "size_bytes": engine.size_bytes}
            engine.close()
        except HwpruneError as error:
            told[precision]["error"] = str(error)
        write(out, "quantized", told)
    return ", ".join(
        f"{name}: {row['resnet50']['median_ms']:.3f} ms, top-1 {100 * row.get('own', 0):.1f} %"
        for name, row in told.items()
        if isinstance(row, dict) and "resnet50" in row
    )


def _top1(engine: Any, data: Any) -> float:
    right = count = 0
    for inputs, labels in data.validation:
        if len(inputs) != 64:
            continue
        found = engine.run([inputs.numpy()])[0].argmax(axis=1)
        right, count = right + int((found == labels.numpy()).sum()), count + len(labels)
    return right / count


def memory(out: Path, options: Options) -> str:
    """Device memory of contexts at several widths, beside what the builder had planned for them."""
    from hwprune.runtimes.tensorrt import TensorRT

    told: list[dict[str, Any]] = []
    flavour = _tensorrt(out, options)
    for precision in ("fp32", "fp16"):
        for width in (16, 32, 48, 64):
            model, inputs = _wide(width)
            engine = TensorRT(flavour, precision=precision).build(model, inputs)
            planned = engine._built.planned_bytes
            told.append({"precision": precision, "width": width, "planned_bytes": planned, **asdict(engine.memory())})
            engine.close()
            write(out, "memory", told)
    pairs = [(row["activation_bytes"], row["planned_bytes"]) for row in told if row["planned_bytes"]]
    return f"{len(told)} engines; (measured, planned) bytes: {pairs}"


def _wide(width: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """ResNet-18 with its first group of channels at ``width`` and the others in proportion."""
    from hwprune import analyze, cut
    from hwprune.plan import Plan

    model, inputs = classifier("resnet18")
    network = analyze(model, inputs)
    kept = {group.name: list(range(group.width * width // 64)) for group in network.free}
    return cut(model, Plan.keeping(network, kept), network).eval(), inputs


def certify(out: Path, options: Options) -> str:
    """Two equal networks (must be "not faster") and one of half the depth (must be "faster"), with the clocks."""
    from hwprune.runtimes.onnx_export import export
    from hwprune.validation.certify import certify as measure

    spec, told = _spec(out, options, "fp16"), {}
    model, inputs = classifier("resnet50")
    shallow = copy.deepcopy(model)
    shallow.layer3 = torch.nn.Sequential(*list(shallow.get_submodule("layer3").children())[:2])
    files = {"dense": model, "equal": copy.deepcopy(model), "shallow": shallow}
    for name, network in files.items():
        (out / f"{name}.onnx").write_bytes(export(network, inputs))
    for name in ("equal", "shallow"):
        found = measure(*_sources(spec, out, files, name, inputs), spec, rebuilds=3, blocks=10)
        told[name] = found.as_dict() | {"verdict": found.verdict}
        write(out, "certify", told)
    clocks = told["equal"]["clocks"]["note"]
    return f"equal: {told['equal']['verdict']}; shallow: {told['shallow']['verdict']}; {clocks}"


def _sources(spec: RuntimeSpec, out: Path, files: Mapping[str, Any], name: str, inputs: Any) -> tuple[Any, Any]:
    if spec.open().reads_onnx:
        return out / "dense.onnx", out / f"{name}.onnx"
    return (files["dense"], inputs), (files[name], inputs)


def cache(out: Path, options: Options) -> str:
    """TensorRT's timing cache in a file: the second build in another process is faster and gives the same layers."""
    from hwprune.runtimes.tensorrt import TensorRT
    from hwprune.runtimes.tensorrt_options import BuilderOptions

    if not _installed(RUNTIMES["tensorrt"]):
        return "tensorrt is not installed, and tensorrt_rtx times no tactics"
    (out / "timing.cache").unlink(missing_ok=True)
    model, inputs = classifier("resnet18")
    told: list[dict[str, Any]] = []
    for _ in range(3):
        runtime = TensorRT("tensorrt", precision="fp16", options=BuilderOptions(timing_cache=out / "timing.cache"))
        started = time.monotonic()
        engine = runtime.build(model, inputs)
        seconds = time.monotonic() - started
        layers = [[layer.name, layer.tactic] for layer in engine.structure()]
        told.append({"build_s": seconds, "hash": runtime.fingerprint()["timing_cache"], "layers": layers})
        told[-1] |= timed(engine)
        engine.close()
        write(out, "cache", told)
    same = all(row["layers"] == told[0]["layers"] for row in told)
    return f"builds took {[round(row['build_s'], 1) for row in told]} s; tactics {'equal' if same else 'differ'}"


def numbers(out: Path, options: Options) -> str:
    """Outputs of every precision against float32's on the CPU."""
    flavour = _tensorrt(out, options)
    model, inputs = classifier("resnet18")
    with torch.inference_mode():
        expected = model(*inputs).numpy()
    told = {}
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8", "fp8"):
        try:
            engine = spec_for(resolve(options["device"]), flavour, precision=precision).open().build(model, inputs)
            outputs = engine.run([tensor.numpy() for tensor in inputs])[0]
            told[precision] = timed(engine) | {"error": difference(np.asarray(outputs), expected)}
            engine.close()
        except HwpruneError as error:
            told[precision] = {"refused": str(error)}
        write(out, "numbers", told)
    return ", ".join(f"{name}: {100 * row['error']:.2g} %" for name, row in told.items() if "error" in row)


STEPS: dict[str, Callable[[Path, Options], str]] = {
    f.__name__: f for f in (incontext, overhead, quantized, memory, certify, cache, numbers)
}
