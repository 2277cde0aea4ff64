"""Engine profiles that trtexec wrote on another machine: ``--exportProfile`` and ``--exportLayerInfo``.

TensorRT 10 and 11 write the same profile: a list whose first entry counts the runs and whose others have a layer's
name and its times. The layer information is the inspector's document, whose two forms
`hwprune.runtimes.tensorrt_layers` reads. Only profiles with the same options (trtexec 11 has others by default than 10)
can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from hwprune.errors import EngineError
from hwprune.runtimes.tensorrt_layers import from_information, joined
from hwprune.validation.explain import Profile
from hwprune.validation.structure import of_layers

Statistic = Literal["median", "mean"]
FIELDS: Mapping[Statistic, str] = {"median": "medianMs", "mean": "averageMs"}
FIX = "give the file that trtexec writes with --exportProfile"


def read_profile(
    profile: Path,
    layer_info: Path | None = None,
    *,
    statistic: Statistic = "median",
    measured_ms: float | None = None,
) -> Profile:
    """One engine as trtexec saw it.

    Args:
        profile: what ``--exportProfile`` wrote.
        layer_info: what ``--exportLayerInfo`` wrote; with ``--profilingVerbosity=detailed`` it tells the layers' nodes
            and shapes, without it hardly more than the profile.
        statistic: of each layer's runs. trtexec before TensorRT 8.5 wrote means only, which are then taken.
        measured_ms: latency of the whole engine, as trtexec printed it.

    Raises:
        EngineError: a file cannot be read, or is something else.
    """
    information = _read(layer_info, "give the file that trtexec writes with --exportLayerInfo") if layer_info else None
    layers = [] if information is None else from_information(information)
    return Profile(tuple(joined(_times(profile, statistic), layers)), of_layers(layers), measured_ms)


def _times(path: Path, statistic: Statistic) -> list[tuple[str, float]]:
    try:
        document = _read(path, FIX)
        if not isinstance(document, list):
            raise TypeError("it is no list")
        entries = [entry for entry in document if "name" in entry]
        found = [(str(e["name"]), float(e.get(FIELDS[statistic], e["averageMs"]))) for e in entries]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            "this is no profile of trtexec", where=f"{path}: {type(error).__name__}: {error}", fix=FIX
        ) from error
    if not found:
        raise EngineError("the profile has no layers", where=path, fix=FIX)
    return found


def _read(path: Path, fix: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", fix=fix) from error
