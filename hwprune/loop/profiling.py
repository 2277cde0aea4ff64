"""The proof of a table: whole networks at random widths that it has not seen, predicted beforehand, then measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from hwprune.device import resolve
from hwprune.latency.held_out import HeldOut
from hwprune.latency.predictor import Predictor
from hwprune.latency.profiler import profile
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measure_settings, predictor_for
from hwprune.loop.subject import Subject

NOISE_SETTINGS = 6  # measured a second time, to know what no prediction can be better than


def checked(
    subject: Subject, path: Path, *, calibration: int, count: int, again: int = NOISE_SETTINGS, anywhere: int = 0
) -> tuple[HeldOut, ...]:
    """Measure random networks against their predictions, and store the errors in the table.

    The predictor is calibrated on other random networks first, as a run calibrates on networks of the widths that it
    may choose: off the grid on networks off the grid, whose layers pay other layout changes. Layers at widths off the
    table's grid are measured and put into the table before anything is predicted, so that nothing is interpolated.

    Args:
        path: of a table with all layers at the widths of ``subject.choices``.
        calibration: random networks to calibrate on.
        count: random networks at widths of the table's grid.
        again: so many of each kind are built and measured a second time.
        anywhere: random networks at any widths from each group's smallest choice to its largest.

    Returns:
        The check on the grid, then the one off it where there is one.
    """
    seed = subject.settings.seed
    fitting = {subject.reference: subject.random_widths(calibration, seed=seed)}
    unseen = {subject.reference: subject.random_widths(count, seed=seed + 1)}
    if anywhere:
        name = f"{subject.reference} at any widths"
        fitting[name] = any_widths(subject, calibration, seed=seed + 3)
        unseen[name] = any_widths(subject, anywhere, seed=seed + 2)
        _measure_layers(subject, [*fitting[name], *unseen[name]], path)
    table = LatencyTable.load(path)
    dense_ms = _dense_ms(subject)
    checks = []
    for name, widths in unseen.items():
        fitted = measure_settings(subject, fitting[name], title=f"{name}: calibrating on whole networks")
        predictor = predictor_for(subject, table, dense_ms, list(zip(fitting[name], fitted, strict=True)))
        checks.append(_held_out(subject, name, predictor, dense_ms, widths, again))
    for check in checks:
        table = table.with_held_out(check)
    table.save(path)
    return tuple(checks)


def any_widths(subject: Subject, count: int, *, seed: int) -> list[dict[str, int]]:
    """Random settings of all groups at any width from the smallest choice to the largest, even or odd."""
    rng = np.random.default_rng(seed)
    return [
        {name: int(rng.integers(min(widths), max(widths) + 1)) for name, widths in subject.choices.items()}
        for _ in range(count)
    ]


def _measure_layers(subject: Subject, settings: Sequence[dict[str, int]], path: Path) -> None:
    """Exactly the layers that networks of these widths have."""
    subject.reporter.stage(f"{subject.reference}: measuring layers at any widths")
    layers = {layer.at(widths) for layer in subject.network.layers if not layer.fused for widths in settings}
    device = resolve(subject.spec.device)
    profile(layers, subject.runtime, path, device=device, on_progress=subject.reporter.advance)


def _held_out(
    subject: Subject, name: str, predictor: Predictor, dense_ms: float, settings: list[dict[str, int]], again: int
) -> HeldOut:
    predicted = [predictor.predict_ms(widths) for widths in settings]
    measured = measure_settings(subject, settings, title=f"{name}: measuring unseen networks")
    repeated = measure_settings(subject, settings[:again], title=f"{name}: measuring the noise") if again else []
    return HeldOut(
        network=name,
        widths=tuple(settings),
        predicted_ms=tuple(predicted),
        measured_ms=tuple(ratio * dense_ms for ratio in measured),
        again_ms=tuple(ratio * dense_ms for ratio in repeated),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _dense_ms(subject: Subject) -> float:
    with closing(subject.engine(subject.model)) as engine:
        return median(engine.time(warmup=5, repeats=30))
