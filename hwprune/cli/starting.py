"""A run begun or gone on with, with progress shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwprune.cli import show
from hwprune.cli.opening import Origin
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.loop.tables import usual_table
from hwprune.pruning import Result, begun, go_on
from hwprune.run import Run


def started(origin: Origin, settings: Settings, out: Path, *, force: bool) -> tuple[Result, ...]:
    """A new run in ``out``; nothing is written before all that can be checked is."""
    Run.check_free(out, force=force)
    model, data = origin.open_model(), origin.open_data()
    table = Path(origin.table) if origin.table else usual_table(settings)
    with show.progress() as bars:
        subject = Subject(model, data.input_shape, settings, out, bars, origin.model)
        with _told_how_to_resume(out):
            return begun(subject, data, table, origin=origin.as_json(), force=force)


def resumed(path: Path) -> tuple[Result, ...]:
    """The run in ``path``, from where it was stopped."""
    run = Run.resume(path)
    origin = Origin.from_json(run.origin)
    settings = Settings.from_json(run.settings)
    model, data = origin.open_model(), origin.open_data()
    with show.progress() as bars, _told_how_to_resume(path):
        return go_on(
            model, data, settings, run, table=origin.table or None, model_reference=origin.model, reporter=bars
        )


@contextmanager
def _told_how_to_resume(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not (path / "run.json").exists():
            raise KeyboardInterrupt("nothing was begun") from None
        raise KeyboardInterrupt(f"what is done is kept: `hwprune prune --resume {path}` goes on") from None
