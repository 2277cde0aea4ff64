"""Networks with what they cost by counting and by the clock: what a correlation study is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any, Final

import pandas as pd

from hwprune.errors import HwpruneError, listed

PROXIES: Final[Mapping[str, str]] = {  # field of a point -> what people call it
    "macs": "MACs",
    "parameters": "parameters",
    "activations": "activation elements",
    "memory_bytes": "measured memory",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One network.

    Attributes:
        name: of the network.
        latency_ms: of one batch or of one image, alike for all points of a study.
        macs, parameters, activations: counted as in `work`; NaN where they are not known.
        memory_bytes: activation memory as the runtime tells it; NaN where it does not.
        base: the dense network that it was cut from, its own name for that one itself; "" where it was cut from none.
        family: networks that are alike, such as all ResNets.
    """

    name: str
    latency_ms: float
    macs: float = nan
    parameters: float = nan
    activations: float = nan
    memory_bytes: float = nan
    base: str = ""
    family: str = ""


# Families of timm that are convolutional networks. Whatever is not listed here is taken for something else: a list of
# what is out would let each new transformer in.
_CONVOLUTIONAL = re.compile(
    "(?:tf_|eca_|ese_|gc_|nf_|dm_|legacy_|wide_)*(?:se|sk|eca|gc)?(?:"
    "resnet|resnext|resnest|res2ne|senet|cs3|cspresne|cspdarknet|darknet|densenet|dla|dpn|hrnet|inception|xception|nasnet|"
    "pnasnet|vgg|repvgg|regnet|efficientnet|mixnet|mobilenet|mobileone|mnasnet|semnasnet|spnasnet|fbnet|hardcorenas|lcnet|"
    "tinynet|ghostnet|repghostnet|rexnet|selecsls|tresnet|gernet|hgnet|vovnet|nfnet|convnext|convmixer|rdnet|starnet|"
    "fasternet|repvit|convformer)"
)
_ATTENTION = re.compile("hybrid|lambda|bot|halo|bat_")


def is_convolutional(name: str) -> bool:
    """Whether a network of timm is a convolutional one: of a family listed here, with no attention between positions.

    >>> is_convolutional("seresnext50_32x4d.a1_in1k"), is_convolutional("mobilenetv4_hybrid_medium")
    (True, False)
    """
    architecture = name.partition(".")[0]
    return _CONVOLUTIONAL.match(architecture) is not None and _ATTENTION.search(architecture) is None


# Networks with one of these in their names are alike, whatever stands before or behind it.
_STEMS = (
    *("convnext", "regnet", "resne", "efficientnet", "mobilenet", "ghostnet", "densenet", "darknet", "hgnet", "nfnet"),
    *(
        "vgg",
        "mnasnet",
        "fbnet",
        "vovnet",
        "rexnet",
        "xception",
        "inception",
        "shufflenet",
        "squeezenet",
        "hrnet",
        "dla",
    ),
)


def family_of(name: str) -> str:
    """Which networks a network is like, by its name: the stem in it that several families share, else its letters.

    >>> family_of("tf_efficientnet_b0.ns_jft_in1k"), family_of("seresnextaa101d"), family_of("torchvision:alexnet")
    ('efficientnet', 'resnet', 'alexnet')
    """
    plain = name.rpartition(":")[2].partition(".")[0].lower()
    found = re.match("[a-z]+", plain)
    stem = next((stem for stem in _STEMS if stem in plain), found[0] if found else plain)
    return "resnet" if stem == "resne" else stem  # ResNet, ResNeXt, ResNeSt


TIMM: Final[Mapping[str, str]] = {
    "name": "model",
    "macs": "infer_gmacs*1e9",
    "parameters": "param_count*1e6",
    "activations": "infer_macts*1e6",
    "latency_ms": "infer_step_time/infer_batch_size",
}
# What a column may be called where the user does not say; matched in lower case, letters and digits only.
_KNOWN: Final[Mapping[str, tuple[tuple[str, float], ...]]] = {
    "name": (("name", 1), ("model", 1), ("network", 1), ("modelname", 1)),
    "latency_ms": (("latencyms", 1), ("inferms", 1), ("timems", 1), ("latency", 1), ("ms", 1), ("inferencems", 1)),
    "macs": (("macs", 1), ("gmacs", 1e9), ("flopsb", 1e9), ("gflops", 1e9), ("flopsg", 1e9), ("mmacs", 1e6)),
    "parameters": (("parameters", 1), ("params", 1), ("paramsm", 1e6), ("mparams", 1e6), ("paramcount", 1)),
    "activations": (("activations", 1), ("activationelements", 1), ("actsm", 1e6), ("macts", 1e6)),
    "memory_bytes": (("memorybytes", 1), ("activationbytes", 1)),
    "base": (("base", 1), ("dense", 1)),
    "family": (("family", 1),),
}
_TEXT = ("name", "base", "family")


def read_points(path: Path, columns: Mapping[str, str] | None = None, *, convolutional: bool = True) -> list[Point]:
    """Points from a CSV file: one of timm's benchmarks as it is, any other by its columns' names.

    Args:
        columns: field of a `Point` -> column, with a factor or another column after ``*`` or ``/``: "flops (B)*1e9",
            "time/batch". Fields that are not named are looked for under their usual names.
        convolutional: of a file of timm's, only networks that `is_convolutional`.

    Raises:
        HwpruneError: the file cannot be read, has no such columns, or no network with a latency.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise HwpruneError(f"{path} cannot be read: {error}", fix="pass a CSV file with a head line") from error
    is_timm = set(frame.columns) >= {"model", "infer_gmacs", "infer_macts", "param_count", "infer_step_time"}
    mapping = (dict(TIMM) if is_timm else _usual(frame)) | dict(columns or {})
    if strange := set(mapping) - set(Point.__dataclass_fields__):
        raise HwpruneError(
            f"no field {listed(sorted(strange))}", fix=f"fields are {listed(Point.__dataclass_fields__)}"
        )
    if missing := [name for name in ("name", "latency_ms") if name not in mapping]:
        raise HwpruneError(
            f"no column for {listed(missing)}",
            where=f"{path} has {listed(frame.columns, most=12)}",
            fix=f"say which it is: --column {missing[0]}=COLUMN",
        )
    values = {name: _column(frame, text, name, path) for name, text in mapping.items()}
    points = [Point(**{name: column[row] for name, column in values.items()}) for row in range(len(frame))]
    if is_timm and convolutional:
        points = [point for point in points if is_convolutional(point.name)]
    counted = [p for p in points if p.latency_ms > 0 and not pd.isna(p.latency_ms)]
    usable = [p for p in counted if not (is_timm and any(pd.isna(getattr(p, name)) for name in TIMM))]
    if not usable:
        raise HwpruneError("no network with a latency above 0", where=path, fix="check --column latency_ms=COLUMN")
    return [_with_family(point) for point in usable]


def _with_family(point: Point) -> Point:
    return point if point.family else replace(point, family=family_of(point.base or point.name))


def _usual(frame: pd.DataFrame) -> dict[str, str]:
    plain = {re.sub("[^a-z0-9]", "", str(column).lower()): str(column) for column in frame.columns}
    found = {}
    for name, spellings in _KNOWN.items():
        for spelling, factor in spellings:
            if spelling in plain:
                found[name] = f"{plain[spelling]}*{factor:g}" if factor != 1 else plain[spelling]
                break
    return found


def _column(frame: pd.DataFrame, text: str, name: str, path: Path) -> list[Any]:
    """A column, or a product or quotient of one with a number or another column."""
    whole, sign, factor = text, "", ""
    if text not in frame.columns:
        found = re.fullmatch(r"(.+)([*/])([^*/]+)", text)
        whole, sign, factor = found.groups() if found else (text, "", "")
    for column in (whole, factor):
        if column and column not in frame.columns and not (column == factor and _is_number(column)):
            raise HwpruneError(
                f"no column {column!r} for {name}",
                where=f"{path} has {listed(frame.columns, most=12)}",
                fix=f"--column {name}=COLUMN, with *1e9 or /COLUMN behind it where needed",
            )
    if name in _TEXT:
        return [str(value) for value in frame[whole].fillna("")]
    values = pd.to_numeric(frame[whole], errors="coerce")
    if sign:
        other = float(factor) if _is_number(factor) else pd.to_numeric(frame[factor], errors="coerce")
        values = values * other if sign == "*" else values / other
    return [float(value) for value in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
