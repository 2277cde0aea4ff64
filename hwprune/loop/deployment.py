"""A further deployment of the network, beside the one that a run is for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hwprune.errors import HwpruneError, TargetError
from hwprune.target import Target


@dataclass(frozen=True)
class Further:
    """A further deployment whose latency target the network must meet too.

    Attributes:
        device, runtime, precision, threads, batch: as in `Settings`.
        target: share of the dense network's latency there, or milliseconds; "" takes the share of the run's target.
        table: file of its latency table; "" takes the user's own for it, else what ships.
    """

    device: str
    runtime: str | None = None
    precision: str | None = None
    threads: int = 1
    batch: int = 1
    target: str = ""
    table: str = ""

    def __post_init__(self) -> None:
        for name in ("threads", "batch"):
            if getattr(self, name) < 1:
                raise HwpruneError(f"{name} of {self.device} cannot be {getattr(self, name)}", fix="it is at least 1")
        if self.target and Target.parse(self.target).quantity != "latency":
            raise TargetError(
                f"the target {self.target!r} of {self.device} bounds no latency",
                effect="counted work is the same on every device",
                fix="give a share or milliseconds, and counted work as --target",
            )

    @classmethod
    def parse(cls, text: str, usual: Further) -> Further:
        """From what the user types; what it leaves out is ``usual``'s threads and batch, and the device's own runtime.

        >>> Further.parse("cpu,runtime=openvino,target=70%", Further("", batch=8))
        Further(device='cpu', runtime='openvino', precision=None, threads=1, batch=8, target='70%', table='')
        """
        device, *details = [part.strip() for part in text.split(",")]
        found: dict[str, Any] = {"threads": usual.threads, "batch": usual.batch}
        for detail in details:
            name, equals, value = detail.partition("=")
            whole = name in ("threads", "batch")
            if name not in (f.name for f in fields(cls)[1:]) or not equals or (whole and not value.isdecimal()):
                raise HwpruneError(
                    f"cannot read {detail!r} of the device {text!r}",
                    fix="write it as cpu,runtime=openvino,batch=8,target=70%, with any of runtime, precision, "
                    "threads, batch, target and table",
                )
            if name == "table":  # so that a resume works from any folder
                value = str(Path(value).expanduser().resolve())
            found[name] = int(value) if whole else value
        return cls(device, **found)
