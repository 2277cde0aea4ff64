"""``hwprune correlate``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hwprune.cli import show
from hwprune.cost.correlation import Study, sets_of
from hwprune.cost.mixture import Mixture
from hwprune.cost.page import COEFFICIENT_HEADS, FIT_HEADS, coefficient_rows, fit_rows, page
from hwprune.cost.plots import draw, require_matplotlib
from hwprune.cost.points import Point, read_points
from hwprune.device import resolve
from hwprune.errors import HwpruneError, ProfileError
from hwprune.files import write_atomically
from hwprune.loop.settings import Settings
from hwprune.loop.study import NETWORKS, PARTS, Asked, measured_points
from hwprune.loop.unmeasured import user_mixture
from hwprune.target import Target

Text = typer.Option
MEASURE, TABLE, MAKE = "What to measure", "A published table instead", "What to make of it"
MOST_FITS = 3  # in the terminal


def correlate(
    device: Annotated[str, Text(help="cpu, cuda, or a name such as rtx3090; must be in this machine")] = "cpu",
    runtime: Annotated[str | None, Text(help="default: the device's best", rich_help_panel=MEASURE)] = None,
    precision: Annotated[str | None, Text(help="fp32, tf32, fp16, bf16", rich_help_panel=MEASURE)] = None,
    batch: Annotated[int, Text(help="images at once", rich_help_panel=MEASURE)] = 1,
    threads: Annotated[int, Text(help="of a runtime on the CPU", rich_help_panel=MEASURE)] = 1,
    part: Annotated[
        list[str] | None,
        Text(
            help="networks, widths (of one network) or matched (its plans at equal MACs); repeatable",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        Text(help=f"of the many networks; repeatable; default: {len(NETWORKS)}", rich_help_panel=MEASURE),
    ] = None,
    of: Annotated[list[str] | None, Text(help="cut this one; default: resnet50", rich_help_panel=MEASURE)] = None,
    widths: Annotated[int, Text(help="random settings of its widths", rich_help_panel=MEASURE)] = 40,
    matched: Annotated[int, Text(help="plans of it with the same MACs", rich_help_panel=MEASURE)] = 12,
    macs: Annotated[str, Text(help="share of its MACs that those plans have", rich_help_panel=MEASURE)] = "50%",
    seed: Annotated[int, Text(help="of widths and plans", rich_help_panel=MEASURE)] = 0,
    from_csv: Annotated[
        Path | None, Text(help="measure nothing, read this; timm's need no --column", rich_help_panel=TABLE)
    ] = None,
    column: Annotated[
        list[str] | None,
        Text(help="FIELD=COLUMN, or COLUMN*1e9, COLUMN/OTHER; repeatable", rich_help_panel=TABLE),
    ] = None,
    title: Annotated[str, Text(help="the device's name for people", rich_help_panel=TABLE)] = "",
    every_network: Annotated[
        bool, Text("--every-network", help="of timm's files also what is no CNN", rich_help_panel=TABLE)
    ] = False,
    out: Annotated[Path | None, Text(help="folder; default: runs/correlate-NAME", rich_help_panel=MAKE)] = None,
    plots: Annotated[bool, Text(help="draw the study; needs matplotlib", rich_help_panel=MAKE)] = True,
    keep_mixture: Annotated[
        bool, Text("--keep-mixture", help="prune for the device by the fit from now on", rich_help_panel=MAKE)
    ] = False,
    as_json: Annotated[bool, Text("--json", help="print one JSON document", rich_help_panel=MAKE)] = False,
) -> None:
    """Say which of MACs, parameters, activations and memory tell latency on a device, from networks that were timed.

    Fields of --column: name, latency_ms, macs, parameters, activations, memory_bytes, base, family. A row whose base is
    another row's name is compared with it: what it saves of latency against what it saves of each count.
    """
    if plots:
        require_matplotlib()
    name = from_csv.stem if from_csv else resolve(device).name.replace(":", "-")
    folder = out or Path("runs") / f"correlate-{name}"
    if from_csv is not None:
        points = read_points(from_csv, _mapping(column or []), convolutional=not every_network)
        study = Study(title or name, sets_of(points))
        facts = {"source": from_csv.name, "networks": str(len(points))}
    else:
        chosen = _parts(part)
        asked = Asked(
            networks=tuple(dict.fromkeys(model or NETWORKS)) if "networks" in chosen else (),
            of=tuple(dict.fromkeys(of or ("resnet50",))),
            widths=widths if "widths" in chosen else 0,
            matched=matched if "matched" in chosen else 0,
            macs=_share(macs),
        )
        settings = Settings("100%", device, runtime, precision, threads=threads, batch=batch, seed=seed)
        with show.progress() as bars:
            found = measured_points(asked, settings, folder, bars)
        label = f"{found.facts.get('gpu') or found.facts.get('cpu') or device}, {found.facts['runtime']}"
        study, facts = found.study(title or label), dict(found.facts)
    if not study.sets:
        raise HwpruneError("there are too few networks to correlate anything", fix="measure four or more")
    written = write_study(study, folder, facts, plots=plots)
    mixture = _mixture(study, resolve(device).slug, facts)
    if mixture is not None:
        mixture.save(folder / "mixture.json")
        written.append(folder / "mixture.json")
    if keep_mixture:
        written.append(_kept(mixture, device, from_csv is not None))
    _show(study, mixture, written, as_json=as_json)


def write_study(study: Study, folder: Path, facts: Mapping[str, str], *, plots: bool = True) -> list[Path]:
    """``study.json``, ``study.csv``, ``study.html`` and, where wanted, ``study.png``; returns the files."""
    picture = draw(study) if plots else None
    files = {
        "study.json": (json.dumps({**study.as_json(), "facts": dict(facts)}, indent=1) + "\n").encode(),
        "study.csv": _csv(study),
        "study.html": page(study, picture, facts).encode(),
    }
    if picture is not None:
        files["study.png"] = picture
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _csv(study: Study) -> bytes:
    """The points in long form: readable again by `read_points`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["set", *Point.__dataclass_fields__], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"set": points.name, **asdict(point)} for points in study.sets for point in points.points)
    return text.getvalue().encode()


def _mapping(columns: list[str]) -> dict[str, str]:
    found = dict(text.split("=", 1) for text in columns if "=" in text)
    if len(found) != len(columns):
        raise HwpruneError("--column is FIELD=COLUMN, each field once", fix="--column latency_ms='time (ms)'")
    return found


def _parts(asked: list[str] | None) -> list[str]:
    if strange := [name for name in asked or () if name not in PARTS]:
        raise HwpruneError(f"a study has no part {strange[0]!r}", fix=f"choose of {', '.join(PARTS)}")
    return asked or list(PARTS)


def _share(macs: str) -> float:
    target = Target.parse(f"macs:{macs}")
    if not target.relative or target.value >= 1:
        raise HwpruneError(f"--macs {macs} is no share of the dense network's", fix="--macs 50%")
    return target.value


def _mixture(study: Study, device: str, facts: Mapping[str, str]) -> Mixture | None:
    """The mixture of the study's whole networks; None where there are too few, or a count is missing."""
    whole = next((s for s in study.sets if not s.relative), None)
    if whole is None or not {"macs", "activations", "parameters"} <= set(whole.proxies):
        return None
    points = whole.compared
    work = [(p.macs, p.activations, p.parameters) for p in points]
    try:
        return Mixture.fit(
            work, [p.latency_ms for p in points], [p.family for p in points], device=device, provenance=dict(facts)
        )
    except ProfileError:
        return None


def _kept(mixture: Mixture | None, device: str, is_table: bool) -> Path:
    if mixture is None:
        raise ProfileError(
            "there is no mixture to keep",
            where="it takes 8 whole networks of 2 families with MACs, activations and parameters",
            fix="measure more networks: --part networks",
        )
    if is_table and resolve(device).kind == "cpu":
        raise ProfileError(
            "a mixture of a published table belongs to the device that the table was measured on",
            fix="name that device: --device rtx3090",
        )
    path = user_mixture(device)
    replace(mixture, device=resolve(device).slug).save(path)
    return path


def _show(study: Study, mixture: Mixture | None, written: list[Path], *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = study.as_json()
        document["mixture"] = None if mixture is None else mixture.as_json()
        document["files"] = [str(path) for path in written]
        show.as_json(document)
        return
    for points in study.sets:
        how = "what is saved of latency against what is saved of each count" if points.relative else ""
        show.table(points.name, COEFFICIENT_HEADS, coefficient_rows(points), caption=how)
        show.table("fits of its latency, the best first", FIT_HEADS, fit_rows(points)[:MOST_FITS])
    for note in study.notes:
        show.prose(note)
    show.prose(study.verdict)
    show.line(f"written: {', '.join(str(path) for path in written)}")
