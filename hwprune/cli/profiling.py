"""``hwprune profile``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import typer

from hwprune.cli import latency_tables as tables
from hwprune.cli import show
from hwprune.cli.choosing import PRECISIONS, RARE, chosen
from hwprune.cli.lasting import TimeIsUp, Until, seconds
from hwprune.device import resolve
from hwprune.errors import HwpruneError, ProfileError
from hwprune.latency.choosing import METHODS, Method
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table
from hwprune.loop.profiling import CHECKED, checked
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.loop.tables import begin_with_shipped, check_is_of, table_path, table_to_read
from hwprune.models.resolve import describe_inputs, load_model

# One table for these serves most residual, mobile and grouped networks.
DEFAULT_MODELS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "resnext50_32x4d")
THERE = "On a table that is there"


def profile(
    device: Annotated[str, typer.Option(help="cpu, cuda, or a name such as rtx3090; must be in this machine")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="measure this network instead of the default set; repeatable")
    ] = None,
    method: Annotated[
        Literal["isolated", "in-context", "both"] | None,
        typer.Option(
            help="layer by layer, in whole engines, or both; default: in-context on TensorRT and ONNX Runtime"
        ),
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="default: the device's best")] = None,
    precision: Annotated[str | None, typer.Option(help=PRECISIONS)] = None,
    batch: Annotated[int, typer.Option(help="images at once in deployment")] = 1,
    threads: Annotated[int, typer.Option(help="of a runtime on the CPU")] = 1,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="stop after 90s, 10min or 2h; the same command goes on")
    ] = "",
    table: Annotated[
        Path | None, typer.Option(help="file of the table; default: the user's own for this device")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
    add_model: Annotated[
        list[str] | None,
        typer.Option(help="measure this network into the table too; repeatable", rich_help_panel=THERE),
    ] = None,
    show_it: Annotated[
        bool, typer.Option("--show", help="print what is in it; measures nothing", rich_help_panel=THERE)
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="predict and measure random networks again; measures no layer", rich_help_panel=THERE
        ),
    ] = False,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="take in another table of the same device; repeatable", rich_help_panel=THERE
        ),
    ] = None,
    export: Annotated[
        str,
        typer.Option(
            metavar="csv|json|FILE",
            help="every measurement in long form, printed or into a file",
            rich_help_panel=THERE,
        ),
    ] = "",
    multiple: Annotated[
        int, typer.Option(help="widths are multiples of this; 0 chooses by the device", rich_help_panel=RARE)
    ] = 0,
    most_widths: Annotated[int, typer.Option(help="of one group", rich_help_panel=RARE)] = 16,
    conv_groups: Annotated[
        Literal["whole", "offsets"],
        typer.Option(help="grouped convolutions lose whole groups, or the same offset in each", rich_help_panel=RARE),
    ] = "whole",
    attention: Annotated[
        Literal["heads", "head-dims"],
        typer.Option(help="attention loses whole heads, or the same dimension of each", rich_help_panel=RARE),
    ] = "heads",
    held_out: Annotated[
        int,
        typer.Option(help="random networks a model that tell the table's error; 0: none", rich_help_panel=RARE),
    ] = CHECKED,
    seed: Annotated[int, typer.Option(help="of the order and of the random networks", rich_help_panel=RARE)] = 0,
) -> None:
    """Measure the latency of layers over their widths on DEVICE; stop and start it as you like.

    Without --model: resnet18, resnet50, mobilenet_v2, efficientnet_b0, regnet_x_400mf and resnext50_32x4d.

    What a table has already is never measured again.
    """
    _check_one_thing(
        {"--show": show_it, "--check": check, "--merge": bool(merge), "--export": bool(export)},
        {"--model": bool(model), "--add-model": bool(add_model)},
    )
    if not device and not (table and (show_it or merge or export)):
        raise HwpruneError("--device is missing", fix="hwprune profile --device cpu")
    settings = Settings(
        "100%",
        device=device or "cpu",
        runtime=runtime,
        precision=precision,
        batch=batch,
        threads=threads,
        multiple=multiple,
        choices=chosen(conv_groups, attention),
        most_widths=most_widths,
        seed=seed,
    )
    path = table or (table_to_read(settings) if show_it or export else table_path(settings))
    if merge:
        if not table:
            check_is_of(LatencyTable.load(merge[0]), settings)
        _report(tables.merged(path, merge), as_json=as_json)
    elif export:
        if (written := tables.exported(LatencyTable.load(path), export)) is not None:
            show.line(f"exported: {written}")
    elif show_it:
        _report(LatencyTable.load(path), as_json=as_json)
    else:
        resolve(device).require_here("profiling")
        if not table:
            begin_with_shipped(path, settings, show.Lines())
        names = _networks(path, model, add_model, check=check)
        lasting_s = seconds(budget) if budget else None
        methods = METHODS if method == "both" else (method,)
        _measure(names, settings, path, methods, held_out=held_out, layers=not check, lasting_s=lasting_s)
        _report(LatencyTable.load(path), as_json=as_json, whole=False)


def _check_one_thing(without_measuring: dict[str, bool], measuring: dict[str, bool]) -> None:
    """Raises HwpruneError where the options ask for several things at once."""
    asked = [name for name, given in without_measuring.items() if given]
    networks = [name for name, given in measuring.items() if given]
    if asked == ["--check"] and networks == ["--model"]:
        return
    asked += networks
    if len(asked) > 1:
        raise HwpruneError(f"{' and '.join(asked)} do not go together", fix=f"give one of {', '.join(asked)}")


def _networks(path: Path, model: Sequence[str] | None, add_model: Sequence[str] | None, *, check: bool) -> list[str]:
    """The networks to measure.

    Raises:
        ProfileError: the table is not there, or is damaged, and something is to be done with a table that is there.
    """
    if not (check or add_model):
        return list(model or DEFAULT_MODELS)
    table = LatencyTable.load(path)
    if add_model or model:
        return list(add_model or model or ())
    known = dict.fromkeys(held.network.removesuffix(" at any widths") for held in table.held_out)
    if not known:
        raise ProfileError(
            "the table does not say which networks it was checked on", where=path, fix="name them with --model"
        )
    return list(known)


def _measure(
    names: Sequence[str],
    settings: Settings,
    path: Path,
    methods: Sequence[Method | None],
    *,
    held_out: int,
    layers: bool,
    lasting_s: float | None,
) -> None:
    with show.progress() as bars, tempfile.TemporaryDirectory(prefix="hwprune-profile-") as folder:
        reporter = Until(bars, lasting_s)
        with _kept_when_time_is_up():
            subjects = [  # all of them first: a name that is wrong shall not show after hours
                Subject(load_model(name), describe_inputs(name), settings, Path(folder) / str(number), reporter, name)
                for number, name in enumerate(names)
            ]
            for subject, method in product(subjects, methods):
                if layers:
                    measured_table(subject, path, method=method)
                if held_out:
                    checked(subject, path, calibration=settings.calibration, count=held_out, method=method)


@contextmanager
def _kept_when_time_is_up() -> Iterator[None]:
    try:
        yield
    except TimeIsUp:
        show.ERR.print("the time is up; what was measured is kept, and the same command goes on", soft_wrap=True)


def _report(table: LatencyTable, *, as_json: bool, whole: bool = True) -> None:
    if as_json:
        show.as_json(tables.as_document(table))
        return
    if whole:
        tables.show_table(table)
    else:
        tables.show_checks(table)
    show.line(f"table: {table.source} ({table.counted})")
