"""Which runtime serves a device, which are installed, and the few words that open one again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from hwprune.device import Device, resolve
from hwprune.errors import DeviceError, EngineError, HwpruneError, MissingPackageError
from hwprune.runtimes.base import Runtime

QUANTIZED = ("int8", "fp8")
CALIBRATION, TIMING_CACHE = "calibration.npz", "timing.cache"  # in a run's folder


@dataclass(frozen=True, slots=True)
class Known:
    """A runtime that hwprune speaks to.

    Attributes:
        module: what is imported; the extra of the same spelling, with dashes, installs it.
        packages: names under which the version may be found.
        kinds: kinds of device that it serves.
    """

    module: str
    packages: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def extra(self) -> str:
        return self.module.replace("_", "-")


# In the order of preference: the first installed one that serves a device is its default.
RUNTIMES: Mapping[str, Known] = {
    "tensorrt": Known("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), ("cuda",)),
    "tensorrt_rtx": Known("tensorrt_rtx", ("tensorrt-rtx", "tensorrt-rtx-cu13"), ("cuda",)),
    "onnxruntime": Known("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), ("cpu", "cuda")),
    "pytorch": Known("torch", ("torch",), ("cpu", "cuda")),
    "openvino": Known("openvino", ("openvino",), ("cpu",)),
}
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime", "pytorch"),
    "cuda": ("tensorrt", "tensorrt_rtx", "pytorch"),
}


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """A runtime in a few plain values: a child process opens the same one from them.

    Attributes:
        name: a key of `RUNTIMES`.
        device: as the user says it ("cpu", "cuda:0", "rtx3090").
        precision: "fp32", "tf32", "fp16", "bf16", "int8" or "fp8".
        threads: of CPU runtimes.
        calibration: file of the inputs that "int8" and "fp8" find their scales with; where it is not there when an
            engine is built, random inputs do, and the runtime's fingerprint says so.
        timing_cache: file that keeps TensorRT's choices of tactics from one process to the next; "" keeps none.
    """

    name: str
    device: str
    precision: str = "fp32"
    threads: int = 1
    calibration: str = ""
    timing_cache: str = ""

    def open(self) -> Runtime:
        """The runtime, ready to build.

        Raises:
            EngineError: no such runtime, or it does not serve the device or the precision.
            MissingPackageError: it is not installed.
            DeviceError: the device's name is unknown, or this runtime needs it here.
        """
        device = resolve(self.device)
        known = RUNTIMES.get(self.name)
        if known is None:
            raise EngineError(f"there is no runtime {self.name!r}", fix=f"use one of {', '.join(RUNTIMES)}")
        if device.kind not in known.kinds:
            fitting = [name for name, other in RUNTIMES.items() if device.kind in other.kinds]
            raise EngineError(f"{self.name} does not run on {device.name}", fix=f"use one of {', '.join(fitting)}")
        if not _installed(known):
            raise MissingPackageError(known.module, extra=known.extra, needed_for=f"--runtime {self.name}")
        return _open(self, device)

    def as_dict(self) -> dict[str, str | int]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RuntimeSpec:
        """The spec that `as_dict` gave."""
        name, device, precision = (str(values[key]) for key in ("name", "device", "precision"))
        files = {key: str(values.get(key, "")) for key in ("calibration", "timing_cache")}  # 0.1.0 knows none
        return cls(name, device, precision, int(values["threads"]), **files)


def spec_for(device: Device, name: str | None = None, *, precision: str | None = None, threads: int = 1) -> RuntimeSpec:
    """The spec of ``name``, or of the device's default among what is installed; precision defaults to "fp32".

    A card that is not here has one runtime that can build for it, installed or not.
    """
    usual = DEFAULTS[device.kind] if device.here else ("tensorrt_rtx",)
    chosen = name or next((known for known in usual if _installed(RUNTIMES[known])), usual[-1])
    return RuntimeSpec(chosen, device.name, precision or "fp32", threads)


def with_files(spec: RuntimeSpec, folder: Path) -> RuntimeSpec:
    """``spec`` with the files that its runtime reads or keeps beside a run: calibration inputs, tactics' timings."""
    calibration = str((folder / CALIBRATION).resolve()) if spec.precision in QUANTIZED else ""
    timing_cache = str((folder / TIMING_CACHE).resolve()) if spec.name == "tensorrt" else ""
    return replace(spec, calibration=calibration, timing_cache=timing_cache)


def slug_of(spec: RuntimeSpec, batch: int) -> str:
    """A deployment as a name for files: runtime, device, precision, batch size."""
    return f"{spec.name}-{resolve(spec.device).slug}-{spec.precision}-batch{batch}"


def runtime_for(device: Device, name: str | None = None, *, precision: str | None = None, threads: int = 1) -> Runtime:
    """The runtime ``name`` on ``device``, or the device's default. Errors are those of `RuntimeSpec.open`."""
    return spec_for(device, name, precision=precision, threads=threads).open()


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """One runtime in this machine, for `hwprune doctor`.

    Attributes:
        version: None where it is not installed.
        usable: whether it can run something here.
        note: what it can do, or why it cannot and the line that mends it.
    """

    name: str
    version: str | None
    usable: bool
    note: str


def available() -> list[RuntimeStatus]:
    """Every runtime that hwprune knows, and what it can do in this machine."""
    return [_status(name, known) for name, known in RUNTIMES.items()]


def _status(name: str, known: Known) -> RuntimeStatus:
    if not _installed(known):
        return RuntimeStatus(name, None, False, f'not installed: pip install "hwprune[{known.extra}]"')
    version = _version(known)
    runs, reason = [], ""
    for kind in known.kinds:
        device = resolve(kind)
        try:
            device.require_here(name)
            if RuntimeSpec(name, device.name).open().can_time:
                runs.append(kind)
        except HwpruneError as error:
            reason = error.what
        except Exception as error:  # a broken installation fails in any way on import
            return RuntimeStatus(name, version, False, f"cannot be loaded: {error}")
    if runs:
        return RuntimeStatus(name, version, True, f"runs on {' and '.join(runs)}")
    if name == "tensorrt_rtx":
        return RuntimeStatus(name, version, False, "builds engines for named cards; timing them needs the card")
    return RuntimeStatus(name, version, False, reason or "has no device in this machine")


def _open(spec: RuntimeSpec, device: Device) -> Runtime:
    index = device.index or 0
    if spec.name == "onnxruntime":
        from hwprune.runtimes.onnxruntime import OnnxRuntime

        device.require_here("ONNX Runtime")
        return OnnxRuntime(device.kind, threads=spec.threads, precision=spec.precision, index=index)
    if spec.name == "openvino":
        from hwprune.runtimes.openvino import OpenVino

        return OpenVino(threads=spec.threads, precision=spec.precision)
    if spec.name == "pytorch":
        from hwprune.runtimes.pytorch import PyTorchRuntime

        device.require_here("the pytorch runtime")
        where = "cpu" if device.kind == "cpu" else f"cuda:{index}"
        return PyTorchRuntime(where, threads=spec.threads, precision=spec.precision)
    from hwprune.runtimes.calibration import Calibration
    from hwprune.runtimes.tensorrt import TensorRT
    from hwprune.runtimes.tensorrt_options import BuilderOptions

    if not device.here and device.compute_capability is None:
        raise DeviceError(
            f"there is no CUDA device in this machine for {spec.name}",
            fix="name the card to build for, such as rtx3090; engines are then built, not timed",
        )
    flavour: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt" if spec.name == "tensorrt" else "tensorrt_rtx"
    target = None if device.here else device.compute_capability
    return TensorRT(
        flavour,
        precision=spec.precision,
        compute_capability=target,
        index=index,
        calibration=Calibration(Path(spec.calibration) if spec.calibration else None),
        options=BuilderOptions(timing_cache=Path(spec.timing_cache) if spec.timing_cache else None),
    )


def _installed(known: Known) -> bool:
    return util.find_spec(known.module) is not None


def _version(known: Known) -> str:
    for package in known.packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
