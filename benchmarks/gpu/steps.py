"""The steps of `checks`: each a function that writes NAME.json into a folder and returns its summary."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import truth_steps
from subjects import (
    Options,
    check_document,
    chosen_runtime,
    classifier,
    difference,
    subject_of,
    tell_progress,
    timed,
    tried_here,
    write,
)

from hwprune.device import resolve
from hwprune.errors import HwpruneError

NO_CARD = 3
CARDLESS = ("machine", "rtx")  # these have something to say without a card


def machine(out: Path, options: Options) -> str:
    """What is here."""
    told: dict[str, Any] = {"packages": {d.name: d.version for d in metadata.distributions()}, "python": sys.version}
    device = resolve(options["device"])
    told["fingerprint"] = device.fingerprint() if device.here else {}
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,temperature.gpu", "--format=csv"]
    try:
        told["nvidia_smi"] = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
    except FileNotFoundError:
        told["nvidia_smi"] = ""
    write(out, "machine", told)
    return f"{device.slug}: {told['fingerprint'].get('gpu') or 'no card'}, torch {torch.__version__}"


def rtx(out: Path, options: Options) -> str:
    """Engines for this card and for others; each is built, then loaded and run here where there is a card."""
    from hwprune.runtimes.tensorrt import TensorRT

    model, inputs = classifier("resnet18")
    here = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    told: dict[str, Any] = {"card": here, "engines": []}
    for target in ([None] if here else []) + [(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)]:
        for precision in ("fp32", "fp16"):
            found: dict[str, Any] = {"target": target or "current", "precision": precision}
            told["engines"].append(found)
            try:
                runtime, started = TensorRT("tensorrt_rtx", precision=precision, compute_capability=target), time.time()
                engine = runtime.build(model, inputs)
                found |= {"build_s": time.time() - started, "size_bytes": engine.size_bytes}
                found |= tried_here(runtime, engine.serialized, model, inputs) if here else {"run": "no card"}
            except (HwpruneError, RuntimeError) as error:
                found["error"] = str(error)
            write(out, "rtx", told)
    built = [f"{e['target']}/{e['precision']}" for e in told["engines"] if "size_bytes" in e]
    ran = [f"{e['target']}/{e['precision']}" for e in told["engines"] if "median_ms" in e]
    return f"built {', '.join(built) or 'nothing'}; ran {', '.join(ran) or ('nothing' if here else 'nothing: no card')}"


def graphs(out: Path, options: Options) -> str:
    """Latency of PyTorch engines with its spread, of a second build too, and how far the numbers are from float32's."""
    from hwprune.runtimes.pytorch import PyTorchRuntime

    device, told = options["device"], []
    for name in ("resnet18", "resnet50", "mobilenet_v2"):
        model, inputs = classifier(name)
        with torch.inference_mode():
            expected = model(*inputs).numpy()
        for precision in ("fp32", "tf32", "fp16", "bf16") if device != "cpu" else ("fp32",):
            engines = [PyTorchRuntime(device, precision=precision).build(model, inputs) for _ in range(2)]
            memory, timings = engines[0].memory(), [timed(engine) for engine in engines]
            outputs = engines[0].run([tensor.numpy() for tensor in inputs])[0]
            told.append({"model": name, "precision": precision, **timings[0], "again_ms": timings[1]["median_ms"]})
            told[-1] |= {"error": difference(outputs, expected), "memory": asdict(memory)}
            write(out, "graphs", told)
    noise = median(abs(row["again_ms"] / row["median_ms"] - 1) for row in told)
    best = min((row for row in told if row["model"] == "resnet50"), key=lambda row: row["median_ms"])
    return f"resnet50 {best['median_ms']:.3f} ms in {best['precision']}; two builds differ by {100 * noise:.1f} %"


def profile(out: Path, options: Options) -> str:
    """As many rows of the table as there is time for; the held-out error where it gets complete."""
    from hwprune.latency.profiler import profile as measure
    from hwprune.latency.wanted import wanted_layers
    from hwprune.loop.profiling import checked

    started, subject = time.monotonic(), subject_of(out, options)
    wanted = wanted_layers(subject.network.layers, subject.choices)
    spec = subject.spec
    path = out / f"{resolve(options['device']).slug}-{spec.name}-{spec.precision}.parquet"
    budget_s = 0.6 * float(options["limit_s"])
    print(f"{len(wanted)} layers of {options['model']} with {spec.name}", flush=True)
    device = resolve(spec.device)
    table = measure(wanted, subject.runtime, path, device=device, budget_s=budget_s, on_progress=tell_progress)
    rate = f"{len(table)} rows in {time.monotonic() - started:.0f} s"
    if any(layer not in table for layer in wanted):
        write(out, "profile", {"rows": len(table), "wanted": len(wanted), "complete": False})
        return f"{rate} of {len(wanted)}; run again with the same OUT to go on"
    held = checked(subject, path, calibration=12, count=20)
    write(out, "profile", {"rows": len(table), "complete": True, "checks": [check_document(one) for one in held]})
    return f"{rate}; unseen networks: median {100 * held[0].error.median:.1f} %, p95 {100 * held[0].error.p95:.1f} %"


def prune(out: Path, options: Options) -> str:
    """The quickstart's network at batch 256, where its widths decide the latency and not the launches."""
    import hwprune
    from hwprune.models.resolve import load_model
    from hwprune.models.weights import RESNET20_DIGITS

    reference = "hwprune.models.cifar_resnet:resnet20"
    model = load_model(reference, weights=RESNET20_DIGITS, num_classes=10)
    asked = {"runtime": chosen_runtime(out, options), "precision": options["precision"], "batch": 256}
    if options["device"] == "cpu":
        asked |= {"precision": "fp32", "batch": 1}
    recipe = hwprune.Recipe(epochs=3)
    settings = hwprune.Settings("60%", device=options["device"], recipe=recipe, most_widths=4, **asked)
    data = hwprune.load_data("digits", batch_size=64)
    table, device = out / "prune-table.parquet", options["device"]
    found = hwprune.prune(
        model, data=data, target="60%", device=device, out=out / "run", table=table, settings=settings, force=True
    )
    certificate = found.certificate
    told = {"accuracy": dict(found.accuracy), "certificate": certificate.as_dict() if certificate else None}
    write(out, "prune", told)
    return certificate.summary if certificate else "no certificate: the device cannot be timed"


def trt(out: Path, options: Options) -> str:
    """What only a live TensorRT engine tells."""
    from hwprune.runtimes.select import RUNTIMES, _installed
    from hwprune.runtimes.tensorrt import TensorRT
    from hwprune.runtimes.tensorrt_module import Flavour

    flavours: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")
    flavour = next((name for name in flavours if _installed(RUNTIMES[name])), None)
    if flavour is None:
        raise HwpruneError("neither tensorrt nor tensorrt_rtx is installed", fix="see benchmarks/gpu/README.md")
    model, inputs = classifier("resnet50")
    engine = TensorRT(flavour, precision="fp16").build(model, inputs)
    layers = engine.layers(repeats=20)
    told = {"flavour": flavour, **timed(engine), "memory": asdict(engine.memory())}
    told |= {"layers": [asdict(layer) for layer in layers], "inspector": json.loads(engine.information())}
    # What the builder logs wherever it builds, beside the inspector's account of the same engine.
    told["logged"] = [asdict(layer) for layer in engine._built.layers]
    told["structure"] = [asdict(layer) for layer in engine.structure()]
    write(out, "trt", told)
    total = sum(layer.median_ms for layer in layers)
    return f"{flavour}: {told['median_ms']:.3f} ms; {len(layers)} layers sum to {total:.3f} ms; {told['memory']}"


def amp(out: Path, options: Options) -> str:
    """The same training with and without autocast: accuracy, loss, seconds."""
    import hwprune
    from hwprune.models.cifar_resnet import resnet20
    from hwprune.recovery.finetune import finetune

    told: dict[str, dict[str, Any]] = {}
    data = hwprune.load_data("digits", batch_size=64)
    for name, wanted in (("float32", False), ("default", None)):
        torch.manual_seed(0)
        network, started = resnet20(num_classes=10).to(options["device"]), time.monotonic()
        found = finetune(network, data, hwprune.Recipe(epochs=6, lr=0.05, amp=wanted))
        told[name] = {"seconds": time.monotonic() - started, "epochs": [asdict(epoch) for epoch in found.history]}
        told[name]["finite"] = all(bool(torch.isfinite(p).all()) for p in network.parameters())
        write(out, "amp", told)
    top1 = {name: found["epochs"][-1]["validation"]["top1"] for name, found in told.items()}
    return ", ".join(f"{name}: top-1 {100 * top1[name]:.1f} % in {told[name]['seconds']:.1f} s" for name in told)


def ort(out: Path, options: Options) -> str:
    """ONNX Runtime on the card."""
    from hwprune.runtimes.onnxruntime import OnnxRuntime

    model, inputs = classifier("resnet18")
    with torch.inference_mode():
        expected = model(*inputs).numpy()
    told = {}
    for precision in ("fp32", "tf32", "fp16") if options["device"] != "cpu" else ("fp32",):
        runtime = OnnxRuntime("cpu" if options["device"] == "cpu" else "cuda", precision=precision)
        engine = runtime.build(model, inputs)
        outputs = engine.run([tensor.numpy() for tensor in inputs])[0]
        told[precision] = timed(engine) | {"error": difference(outputs, expected)}
        write(out, "ort", told)
    return ", ".join(f"{name} {row['median_ms']:.3f} ms" for name, row in told.items())


def pycuda(out: Path, options: Options) -> str:
    """PyCUDA's half of `hwprune.runtimes.cuda`."""
    from hwprune.runtimes.cuda import PyCuda, capture

    cuda, sent, back = PyCuda(0), np.arange(1 << 20, dtype=np.float32), np.zeros(1 << 20, dtype=np.float32)
    address = cuda.allocate(sent.nbytes)
    cuda.upload(address, sent)
    cuda.download(address, back)
    a = torch.randn(1024, 1024, device="cuda")
    graph = capture(cuda, lambda: a @ a)
    took = cuda.clock(graph or (lambda: a @ a))
    cuda.close()
    told = {"round_trip": bool((sent == back).all()), "graph": graph is not None, "clock_ms": took}
    write(out, "pycuda", told)
    if not told["round_trip"]:
        raise HwpruneError("what came back is not what was sent")
    return str(told)


def engines(out: Path, options: Options) -> str:
    """Carried engines, such as those that `hwprune prune --engine rtx3090` leaves in a run's folder."""
    from hwprune.runtimes.tensorrt import TensorRT

    files = sorted(Path(options["engines"]).rglob("*.engine")) if options["engines"] else []
    if not files:
        return "nothing to load: pass --engines FOLDER"
    told, runtime = {}, TensorRT("tensorrt_rtx")
    for file in files:
        try:
            told[file.name] = tried_here(runtime, file.read_bytes())
        except (HwpruneError, RuntimeError) as error:
            told[file.name] = {"error": str(error)}
        write(out, "engines", told)
    return f"{sum('median_ms' in found for found in told.values())} of {len(files)} ran"


def tests(out: Path, options: Options) -> str:
    """The repository's tests of what touches a card."""
    places = ["tests/runtimes", "tests/test_device.py", "tests/validation", "tests/recovery"]
    # Not the project's own options: these plugins and this torch's warnings may differ here.
    own = ["-q", "-rs", "-o", "addopts=", "-W", "default", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-m", "pytest", *own, *places], capture_output=True, text=True, check=False)
    (out / "tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    last = done.stdout.strip().splitlines()[-1:] or ["pytest said nothing"]
    if done.returncode:
        raise HwpruneError(last[0], where=out / "tests.txt")
    return last[0]


STEPS: dict[str, Callable[[Path, Options], str]] = {
    f.__name__: f for f in (machine, rtx, graphs, profile, prune, trt, amp, ort, pycuda, engines, tests)
} | truth_steps.STEPS


def run(name: str, out: Path, options: Options) -> int:
    """Run one step and print its summary as the last line; `NO_CARD`: it needs one and there is none."""
    if name not in CARDLESS and options["device"] != "cpu" and not torch.cuda.is_available():
        print("no card: PyTorch sees no CUDA device in this machine")
        return NO_CARD
    try:
        print(STEPS[name](out, options))
    except HwpruneError as error:
        print(error)
        print(str(error).splitlines()[0])
        return 1
    return 0
