"""The proof of a table: whole networks at random widths that it has not seen, predicted beforehand, then measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from hwprune.device import resolve
from hwprune.latency.choosing import Method
from hwprune.latency.held_out import HeldOut
from hwprune.latency.predictor import Predictor
from hwprune.latency.profiler import profile
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measure_settings, method_of, predictor_for
from hwprune.loop.sampling import structure
from hwprune.loop.subject import Subject

CHECKED = 30  # settings: enough for a 95th percentile that is more than the worst one


def checked(
    subject: Subject,
    path: Path,
    *,
    calibration: int,
    count: int = CHECKED,
    again: int | None = None,
    anywhere: int = 0,
    method: Method | None = None,
) -> tuple[HeldOut, ...]:
    """Measure random networks against their predictions, and store the errors in the table.

    The predictor is calibrated on other random networks alone, as a run calibrates on networks of the widths that it
    may choose: off the grid on networks off the grid, whose layers pay other layout changes. These, the unseen ones and
    the unseen ones again are measured in the same passes, so that all of them meet the machine in the same states.

    With the isolated method layers at widths off the table's grid are measured and put into the table before anything
    is predicted, so that nothing is interpolated; in context the surfaces say it. On the grid nothing but whole
    networks is measured, so this repeats the check of a table that is there.

    Args:
        path: of a table of this network, measured by ``method``.
        calibration: random networks to calibrate on.
        count: random networks at widths of the table's grid, none of them among its samples.
        again: so many of each kind are built and measured a second time, to know what no prediction can be better
            than; all of them unless said.
        anywhere: random networks at any widths from each group's smallest choice to its largest.
        method: of the predictor; None takes the settings', or what is usual for the runtime.

    Returns:
        The check on the grid, then the one off it where there is one.
    """
    seed, method = subject.settings.seed, method or method_of(subject)
    fitting = {subject.reference: subject.random_widths(calibration, seed=seed)}
    unseen = {subject.reference: _unseen(subject, LatencyTable.load(path), count, seed=seed + 1)}
    if anywhere:
        name = f"{subject.reference} at any widths"
        fitting[name] = any_widths(subject, calibration, seed=seed + 3)
        unseen[name] = any_widths(subject, anywhere, seed=seed + 2)
        if method == "isolated":
            _measure_layers(subject, [*fitting[name], *unseen[name]], path)
    table = LatencyTable.load(path)
    dense_ms = _dense_ms(subject)
    checks = []
    for name, widths in unseen.items():
        everything = [*fitting[name], *widths, *widths[:again]]
        ratios = measure_settings(subject, everything, title=f"{name}: measuring unseen networks")
        known = list(zip(fitting[name], ratios, strict=False))
        predictor = predictor_for(subject, table, dense_ms, known, method=method)
        found_ms = [ratio * dense_ms for ratio in ratios[len(known) :]]
        checks.append(_held_out(name, predictor, widths, found_ms, method))
    for check in checks:
        table = table.with_held_out(check)
    table.save(path)
    return tuple(checks)


def _unseen(subject: Subject, table: LatencyTable, count: int, *, seed: int) -> list[dict[str, int]]:
    """Random settings that are not among the table's samples, as far as a small network has any."""
    seen = [dict(sample.widths) for sample in table.samples_of(structure(subject))]
    drawn = subject.random_widths(2 * count + len(seen), seed=seed)
    unseen = [widths for widths in drawn if widths not in seen]
    return (unseen if len(unseen) >= count else drawn)[:count]


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
    name: str, predictor: Predictor, settings: list[dict[str, int]], found_ms: Sequence[float], method: Method
) -> HeldOut:
    """What was predicted, beside what was found: of every setting, then once more of the first ones."""
    return HeldOut(
        network=name,
        widths=tuple(settings),
        predicted_ms=tuple(predictor.predict_ms(widths) for widths in settings),
        measured_ms=tuple(found_ms[: len(settings)]),
        again_ms=tuple(found_ms[len(settings) :]),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        method=method,
    )


def _dense_ms(subject: Subject) -> float:
    with closing(subject.engine(subject.model)) as engine:
        return median(engine.time(warmup=5, repeats=30))
