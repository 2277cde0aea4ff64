"""``hwprune explain``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from hwprune.cli import show
from hwprune.cli.explained import explanation_tables
from hwprune.cli.networks import asked_spec, exported, file_for, finished, sources
from hwprune.cli.opening import Origin
from hwprune.device import Device, resolve
from hwprune.errors import HwpruneError
from hwprune.files import write_atomically
from hwprune.latency.profiler import profile
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from hwprune.loop.settings import Settings
from hwprune.loop.tables import usual_table
from hwprune.run import Run
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.alignment import rule_for
from hwprune.validation.explain import Explanation, Prices, profiled
from hwprune.validation.explain import explain as compared
from hwprune.validation.structure import of_onnx
from hwprune.validation.trtexec import read_profile

Files = tuple[Path, Path]
Latencies = tuple[float, float]


def explain(
    run: Annotated[Path | None, typer.Argument(help="run directory of `hwprune prune`")] = None,
    device: Annotated[str, typer.Option(help="default: the run's")] = "",
    runtime: Annotated[str | None, typer.Option(help="default: the run's")] = None,
    precision: Annotated[str | None, typer.Option(help="default: the run's; with --from-profiles the engines'")] = None,
    batch: Annotated[int, typer.Option(help="images at once; 0: the run's")] = 0,
    from_profiles: Annotated[
        Files | None, typer.Option(metavar="DENSE PRUNED", help="what trtexec --exportProfile wrote for two engines")
    ] = None,
    layer_info: Annotated[
        Files | None, typer.Option(metavar="DENSE PRUNED", help="what trtexec --exportLayerInfo wrote for them")
    ] = None,
    latency_ms: Annotated[
        Latencies | None, typer.Option(metavar="DENSE PRUNED", help="their latencies in ms, as trtexec printed them")
    ] = None,
    statistic: Annotated[Literal["median", "mean"], typer.Option(help="of each layer's runs in a profile")] = "median",
    prices: Annotated[bool, typer.Option(help="look up or measure what other widths would cost")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Say why the pruned engine is faster or is not: layers, fusions, changes of layout, widths; in milliseconds."""
    if (run is None) == (from_profiles is None):
        raise HwpruneError("explain takes a run or two profiles", fix="pass RUN, or --from-profiles DENSE PRUNED")
    if from_profiles is not None:
        file = None
        found = _of_profiles(from_profiles, layer_info, latency_ms, statistic, precision)
    else:
        opened, settings = finished(run or Path())
        spec = asked_spec(opened, settings, device, runtime, precision)
        file = file_for(opened, settings, spec, batch or settings.batch, "explanation")
        found = _of_run(opened, settings, spec, batch or settings.batch, prices)
        write_atomically(file, show.json_text(found.as_dict()).encode())
    if as_json:
        show.as_json(found.as_dict())
        return
    explanation_tables(found)
    show.prose(found.summary)
    if file is not None:
        show.line(f"written to {file}, with every layer")


def _of_profiles(
    files: Files,
    layer_info: Files | None,
    latency_ms: Latencies | None,
    statistic: Literal["median", "mean"],
    precision: str | None,
) -> Explanation:
    infos: tuple[Path | None, Path | None] = layer_info or (None, None)
    whole: tuple[float | None, float | None] = latency_ms or (None, None)
    dense, pruned = (
        read_profile(file, info, statistic=statistic, measured_ms=measured)
        for file, info, measured in zip(files, infos, whole, strict=True)
    )
    rule = None
    if precision is not None:
        rule = rule_for(RuntimeSpec("tensorrt", "cuda", precision), Device("cuda", "cuda", here=False), "")
    return compared(dense, pruned, rule=rule, fingerprint={"profiles": " and ".join(map(str, files))})


def _of_run(run: Run, settings: Settings, spec: RuntimeSpec, batch: int, prices: bool) -> Explanation:
    with show.progress() as bars:
        bars.stage(f"timing both engines with {spec.name} on {spec.device}")
        device = resolve(spec.device)
        files = exported(run, settings, batch)
        dense, pruned = profiled(*sources(run, settings, spec, batch), spec, (of_onnx(files[0]), of_onnx(files[1])))

        def price(layers: Sequence[Layer]) -> Prices:
            bars.stage("widths that the device likes better")
            return _priced(layers, run, settings, spec, bars)

        facts = device.fingerprint() | {str(k): str(v) for k, v in spec.open().fingerprint().items()}
        return compared(
            dense,
            pruned,
            rule=rule_for(spec, device, device.fingerprint().get("flags", "")),
            price=price if prices else None,
            fingerprint=facts | {"batch": str(batch)},
        )


def _priced(
    layers: Sequence[Layer], run: Run, settings: Settings, spec: RuntimeSpec, bars: show.Bars | show.Lines
) -> Prices:
    """Latencies of layers: from the run's table where it has them all, else measured into a table in the run."""
    own = _own_table(run, settings) if spec == asked_spec(run, settings, "", None, None) else None
    if own is not None and all(layer in own for layer in layers):
        return {layer: own.ms(layer) for layer in layers}
    name = f"{spec.name}-{resolve(spec.device).slug}-{spec.precision}.parquet"
    measured = profile(
        layers, spec.open(), run.path / "explanation" / name, device=resolve(spec.device), on_progress=bars.advance
    )
    return {layer: measured.ms(layer) for layer in layers}


def _own_table(run: Run, settings: Settings) -> LatencyTable | None:
    """The table that the run was pruned by; None where it is gone."""
    try:
        origin = Origin.from_json(run.origin)
        return LatencyTable.load(origin.table or usual_table(settings))
    except HwpruneError:
        return None
