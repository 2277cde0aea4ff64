"""A device's name -> the hardware: what it is, whether it is here, and its fingerprint.

PyTorch is imported where graphics cards are asked for: that takes seconds, and a processor's engines need none of it.
"""

from __future__ import annotations

import difflib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

from hwprune.errors import DeviceError, listed
from hwprune.units import format_bytes

Capability = tuple[int, int]

# Marketing name -> (what the driver calls the product, compute capability). Laptop chips and partitions of a card
# carry the card's name and are another device: `is_product` leaves them out.
GPUS: Final[Mapping[str, tuple[str, Capability]]] = {
    "v100": (r"V100", (7, 0)),
    "xavier": (r"Xavier", (7, 2)),
    "t4": (r"T4", (7, 5)),
    "titanrtx": (r"TITAN RTX", (7, 5)),
    "gtx1650": (r"GTX 1650", (7, 5)),
    "gtx1660": (r"GTX 1660", (7, 5)),
    "gtx1660ti": (r"GTX 1660 Ti", (7, 5)),
    "rtx2060": (r"RTX 2060", (7, 5)),
    "rtx2060super": (r"RTX 2060 SUPER", (7, 5)),
    "rtx2070": (r"RTX 2070", (7, 5)),
    "rtx2070super": (r"RTX 2070 SUPER", (7, 5)),
    "rtx2080": (r"RTX 2080", (7, 5)),
    "rtx2080super": (r"RTX 2080 SUPER", (7, 5)),
    "rtx2080ti": (r"RTX 2080 Ti", (7, 5)),
    "a30": (r"A30", (8, 0)),
    "a100": (r"A100", (8, 0)),
    "a2": (r"A2", (8, 6)),
    "a10": (r"A10", (8, 6)),
    "a10g": (r"A10G", (8, 6)),
    "a16": (r"A16", (8, 6)),
    "a40": (r"A40", (8, 6)),
    "rtxa4000": (r"RTX A4000", (8, 6)),
    "rtxa5000": (r"RTX A5000", (8, 6)),
    "rtxa6000": (r"RTX A6000", (8, 6)),
    "rtx3050": (r"RTX 3050", (8, 6)),
    "rtx3060": (r"RTX 3060", (8, 6)),
    "rtx3060ti": (r"RTX 3060 Ti", (8, 6)),
    "rtx3070": (r"RTX 3070", (8, 6)),
    "rtx3070ti": (r"RTX 3070 Ti", (8, 6)),
    "rtx3080": (r"RTX 3080", (8, 6)),
    "rtx3080ti": (r"RTX 3080 Ti", (8, 6)),
    "rtx3090": (r"RTX 3090", (8, 6)),
    "rtx3090ti": (r"RTX 3090 Ti", (8, 6)),
    "orin": (r"Orin", (8, 7)),
    "l4": (r"L4", (8, 9)),
    "l40": (r"L40", (8, 9)),
    "l40s": (r"L40S", (8, 9)),
    "rtx6000ada": (r"RTX 6000 Ada Generation", (8, 9)),
    "rtx4060": (r"RTX 4060", (8, 9)),
    "rtx4060ti": (r"RTX 4060 Ti", (8, 9)),
    "rtx4070": (r"RTX 4070", (8, 9)),
    "rtx4070super": (r"RTX 4070 SUPER", (8, 9)),
    "rtx4070ti": (r"RTX 4070 Ti", (8, 9)),
    "rtx4070tisuper": (r"RTX 4070 Ti SUPER", (8, 9)),
    "rtx4080": (r"RTX 4080", (8, 9)),
    "rtx4080super": (r"RTX 4080 SUPER", (8, 9)),
    "rtx4090": (r"RTX 4090", (8, 9)),
    "h100": (r"H100", (9, 0)),
    "h200": (r"H200", (9, 0)),
    "gh200": (r"GH200", (9, 0)),
    "b200": (r"B200", (10, 0)),
    "gb200": (r"GB200", (10, 0)),
    "b300": (r"B300", (10, 3)),
    "thor": (r"Thor", (11, 0)),
    "rtx5060": (r"RTX 5060", (12, 0)),
    "rtx5060ti": (r"RTX 5060 Ti", (12, 0)),
    "rtx5070": (r"RTX 5070", (12, 0)),
    "rtx5070ti": (r"RTX 5070 Ti", (12, 0)),
    "rtx5080": (r"RTX 5080", (12, 0)),
    "rtx5090": (r"RTX 5090", (12, 0)),
    "rtxpro6000": (r"RTX PRO 6000", (12, 0)),
    "gb10": (r"GB10", (12, 1)),
}
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")


@dataclass(frozen=True, slots=True)
class Device:
    """A device that networks are pruned for; it need not be in this machine.

    Attributes:
        name: normalised: "cpu", "cuda:0", "rtx3090".
        kind: which family of runtimes it takes.
        index: its CUDA number in this machine; None for a CPU, and for a GPU that is not here.
        compute_capability: (8, 6) for an RTX 3090; None for a CPU, and for a plain "cuda" that is not here.
        here: whether this machine has it.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    index: int | None = None
    compute_capability: Capability | None = None
    here: bool = True

    @property
    def slug(self) -> str:
        """For file names: the card's marketing name where it is known.

        >>> Device("cuda:1", "cuda", 1, (8, 6), here=False).slug
        'cuda-1'
        """
        if self.here and self.kind == "cuda" and self.index is not None and self.name not in GPUS:
            product = _product(self.index)
            known = next((name for name in GPUS if is_product(product, name)), product)
            return re.sub(r"[^a-z0-9]+", "-", known.lower()).strip("-")
        return self.name.replace(":", "-")

    def require_here(self, doing: str) -> None:
        """Do nothing where the device is in this machine.

        Raises:
            DeviceError: it is not; the message starts with ``doing``, such as "measuring latency".
        """
        if not self.here:
            raise DeviceError(
                f"{doing} needs {self.name}, which is not in this machine",
                where=f"here: {listed(in_this_machine())}",
                fix=f"run this on a machine with {self.name}, or choose --device cpu"
                + (" or cuda" if _cuda_count() else ""),
            )

    def fingerprint(self) -> dict[str, str]:
        """What latencies measured on this device belong to.

        Raises:
            DeviceError: the device is not in this machine.
        """
        self.require_here("a fingerprint")
        common = {"device": self.name, "os": f"{platform.system()} {platform.release()}"}
        return common | (_cpu_facts() if self.index is None else _cuda_facts(self.index))


def resolve(name: str) -> Device:
    """The device that a user means by ``name``: "cpu", "cuda", "cuda:1" or a card, "RTX 3090" or "rtx3090".

    Raises:
        DeviceError: no device has that name; the message has those that look like it.
    """
    plain = re.sub(r"[\s_-]|nvidia|geforce|jetson|tesla", "", name.lower())
    if plain == "cpu":
        return Device("cpu", "cpu")
    if match := re.fullmatch(r"(?:cuda|gpu):?(\d*)", plain):
        index = int(match[1] or 0)
        if index < _cuda_count():
            return Device(f"cuda:{index}", "cuda", index, _capability(index))
        return Device(f"cuda:{index}", "cuda", here=False)
    if plain not in GPUS:
        near = difflib.get_close_matches(plain, ["cpu", "cuda", *GPUS], n=4, cutoff=0.5)
        raise DeviceError(
            f"there is no device called {name!r}",
            where=f"names that look like it: {listed(near)}" if near else f"here: {listed(in_this_machine())}",
            fix=f"use cpu, cuda, cuda:1, or one of {listed(GPUS, most=len(GPUS))}",
        )
    for index in range(_cuda_count()):
        if is_product(_product(index), plain):
            return Device(plain, "cuda", index, _capability(index))
    return Device(plain, "cuda", None, GPUS[plain][1], here=False)


def in_this_machine() -> list[str]:
    """The processor and the graphics cards that PyTorch sees, as names for people."""
    return [_cpu_model(), *(_product(i) for i in range(_cuda_count()))]


def is_product(product: str, name: str) -> bool:
    """Whether the driver's name of a card is the one in the table.

    >>> is_product("NVIDIA GeForce RTX 3090", "rtx3090"), is_product("NVIDIA GeForce RTX 3090 Ti", "rtx3090")
    (True, False)
    """
    pattern = rf"(?<!\w){GPUS[name][0]}(?!\w)(?! (?:Ti|SUPER|D)\b)"
    other = re.search(r"\b(?:MIG|Laptop|Max-Q)\b", product)
    return other is None and re.search(pattern, product) is not None


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _product(index: int) -> str:
    import torch

    return torch.cuda.get_device_name(index)


def _capability(index: int) -> Capability:
    import torch

    return torch.cuda.get_device_capability(index)


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu_model() -> str:
    info = _cpu_info()
    return info.get("model name") or info.get("Model") or platform.processor() or platform.machine()


def _cpu_facts() -> dict[str, str]:
    info = _cpu_info()
    flags = (info.get("flags") or info.get("Features") or "").split()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cpu_family_model_stepping": "/".join(info.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "architecture": platform.machine(),
        "cores": str(usable),
        "cache": info.get("cache size", "unknown"),
        "flags": " ".join(flag for flag in FLAGS if flag in flags),
        "memory": format_bytes(psutil.virtual_memory().total),
    }


def _cuda_facts(index: int) -> dict[str, str]:
    import torch

    card = torch.cuda.get_device_properties(index)
    facts = {
        "gpu": card.name,
        "uuid": str(card.uuid),
        "compute_capability": f"{card.major}.{card.minor}",
        "multiprocessors": str(card.multi_processor_count),
        "memory": format_bytes(card.total_memory),
        "cuda": str(torch.version.cuda),
    }
    return facts | _nvml_facts(str(card.uuid))


def _nvml_facts(uuid: str) -> dict[str, str]:
    """Driver and clocks, where NVIDIA's management library answers."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        clocks = {"sm": pynvml.NVML_CLOCK_SM, "memory": pynvml.NVML_CLOCK_MEM}
        most = {f"max_{k}_clock_mhz": str(pynvml.nvmlDeviceGetMaxClockInfo(handle, c)) for k, c in clocks.items()}
        return {"driver": str(pynvml.nvmlSystemGetDriverVersion()), **most}
    except pynvml.NVMLError:
        return {}
