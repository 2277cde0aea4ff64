"""The proof of a table: whole networks at random widths that it has not seen, predicted beforehand, then measured."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from hwprune.latency.held_out import HeldOut
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measure_settings, predictor_for
from hwprune.loop.subject import Subject

NOISE_SETTINGS = 6  # measured a second time, to know what no prediction can be better than


def checked(subject: Subject, path: Path, *, calibration: int, count: int) -> HeldOut:
    """Measure ``count`` random networks against their predictions, and store the error in the table.

    The predictor is calibrated on ``calibration`` other random networks first.
    """
    table = LatencyTable.load(path)
    fitting = subject.random_widths(calibration, seed=subject.settings.seed)
    unseen = subject.random_widths(count, seed=subject.settings.seed + 1)
    fitted = measure_settings(subject, fitting, title=f"{subject.reference}: calibrating on whole networks")
    dense_ms = _dense_ms(subject)
    predictor = predictor_for(subject, table, dense_ms, list(zip(fitting, fitted, strict=True)))
    predicted = [predictor.predict_ms(widths) for widths in unseen]
    measured = measure_settings(subject, unseen, title=f"{subject.reference}: measuring unseen widths")
    again = measure_settings(subject, unseen[:NOISE_SETTINGS], title=f"{subject.reference}: measuring the noise")
    noise = median([abs(a / b - 1) for a, b in zip(again, measured, strict=False)]) if again else 0.0
    held = HeldOut(
        network=subject.reference,
        widths=tuple(unseen),
        predicted_ms=tuple(predicted),
        measured_ms=tuple(ratio * dense_ms for ratio in measured),
        noise=noise,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    table.with_held_out(held).save(path)
    return held


def _dense_ms(subject: Subject) -> float:
    with closing(subject.engine(subject.model)) as engine:
        return median(engine.time(warmup=5, repeats=30))
