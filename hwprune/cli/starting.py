"""A run begun or gone on with, with progress shown."""

from __future__ import annotations

from pathlib import Path

from hwprune.cli import show
from hwprune.cli.opening import Origin
from hwprune.data.fits import check_fits
from hwprune.loop.settings import Settings
from hwprune.pruning import Result, go_on
from hwprune.run import Run


def started(origin: Origin, settings: Settings, out: Path, *, force: bool) -> Result:
    """A new run in ``out``; nothing is written before model and data are known to go together."""
    model, data = origin.open_model(), origin.open_data()
    check_fits(data, model)
    run = Run.create(out, settings.as_json(), origin=origin.as_json(), force=force)
    with show.progress() as bars:
        return go_on(
            model, data, settings, run, table=origin.table or None, model_reference=origin.model, reporter=bars
        )


def resumed(path: Path) -> Result:
    """The run in ``path``, from where it was stopped."""
    run = Run.resume(path)
    origin = Origin.from_json(run.origin)
    settings = Settings.from_json(run.settings)
    model, data = origin.open_model(), origin.open_data()
    check_fits(data, model)
    with show.progress() as bars:
        return go_on(
            model, data, settings, run, table=origin.table or None, model_reference=origin.model, reporter=bars
        )
