"""The latency table of the run, and its calibration on random networks measured whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from hwprune.device import GPUS, is_product, resolve
from hwprune.errors import DeviceError, ProfileError
from hwprune.latency.choosing import Method, predictor_of, usual_method
from hwprune.latency.predictor import Predictor, Widths
from hwprune.latency.profiler import profile
from hwprune.latency.table import LatencyTable
from hwprune.latency.wanted import wanted_layers
from hwprune.loop.beside import Beside, in_passes
from hwprune.loop.job import Job
from hwprune.loop.sampling import sampled_table, structure
from hwprune.loop.subject import Subject


def method_of(subject: Subject) -> Method:
    """How the subject's table is measured: as its settings say, else as is usual for the runtime.

    Samples of whole networks tell what memory an engine takes, not what a layer does: dividing by that needs layers.
    """
    settings = subject.settings
    if not settings.method and settings.normalisation == "memory-measured":
        return "isolated"
    return settings.method or usual_method(subject.spec.name)


def measured_table(
    subject: Subject, path: Path, *, method: Method | None = None, samples: int | None = None
) -> LatencyTable:
    """The table with all that the search may ask for; measures what is missing where the device is here.

    Args:
        method: "isolated" measures every layer at all of its widths, "in-context" whole networks.
        samples: how many of these; None lets `sampled_table` decide.

    Raises:
        DeviceError: the device is not here and there is no table for it.
        ProfileError: the table was measured on another device.
        NotMeasuredError: the device is not here and its table lacks layers of this network.
    """
    method = method or method_of(subject)
    if subject.runtime.can_time and method == "in-context":
        return sampled_table(subject, path, count=samples)
    if subject.runtime.can_time:
        layers = wanted_layers(subject.network.layers, subject.choices)
        subject.reporter.stage(f"measuring layers on {subject.spec.device} with {subject.spec.name}")
        return profile(
            layers,
            subject.runtime,
            path,
            device=resolve(subject.spec.device),
            seed=subject.settings.seed,
            on_progress=subject.reporter.advance,
        )
    return stored_table(subject, path, method=method)


def stored_table(subject: Subject, path: Path, *, method: Method | None = None) -> LatencyTable:
    """The table of a device that is not here. Errors are those of `measured_table`."""
    if not path.exists():
        raise DeviceError(
            f"there is no latency table for {subject.spec.device} and the device is not in this machine",
            where=path,
            effect="its latency can neither be measured nor predicted",
            fix=f"run `hwprune profile --device {subject.spec.device}` where the device is and pass the file as "
            "--table, or give a target in macs, params or memory with --normalisation memory",
        )
    table = LatencyTable.load(path)
    _check_device(subject, table, path)
    predictor = uncalibrated(subject, table, method)
    if not predictor.contexts:
        for layer in wanted_layers(subject.network.layers, subject.choices):
            table.lookup(layer)
        return table
    for ends in (min, max):  # between these everything is known that is known at both
        predictor.predict_ms({name: ends(widths) for name, widths in subject.choices.items()})
    return table


def measure_settings(
    subject: Subject,
    settings: Sequence[Widths],
    *,
    title: str,
    known: Sequence[float] = (),
    keep: Callable[[list[float]], None] | None = None,
) -> list[float]:
    """Latency of whole networks at these widths over the dense one's, each timed by turns with it.

    In several passes over all of them, each with new engines; the median counts. So a neighbour on the machine that
    stays for a minute meets every network alike.

    Args:
        known: single measurements from before, pass by pass.
        keep: called with all of them after each.
    """
    ratios = list(known)
    subject.reporter.stage(title)
    with closing(Beside(subject)) as bench:
        total = bench.passes * len(settings)
        for place in range(len(ratios), total):
            widths = settings[place % len(settings)]
            with bench.timed(subject.small(subject.first_channels(widths))) as (_, turns):
                ratios.append(turns.ratio.ratio)
            subject.reporter.advance(len(ratios), total)
            if keep is not None:
                keep(ratios)
    return [median(own) for own in in_passes(ratios[:total], len(settings))]


def uncalibrated(subject: Subject, table: LatencyTable, method: Method | None = None) -> Predictor:
    """The predictor that the table gives for the network by itself."""
    return predictor_of(
        table,
        subject.network.layers,
        structure=structure(subject),
        network=subject.reference,
        method=method or method_of(subject),
    )


def predictor_for(
    subject: Subject,
    table: LatencyTable,
    dense_ms: float,
    measured: Sequence[tuple[Widths, float]],
    *,
    method: Method | None = None,
) -> Predictor:
    """A predictor whose coefficients fit networks measured whole: (widths, latency over the dense one's)."""
    known = [(widths, ratio * dense_ms) for widths, ratio in measured]
    return uncalibrated(subject, table, method).calibrate([(subject.network.widths, dense_ms), *known])


def calibrated(job: Job, table: LatencyTable, dense_ms: float | None) -> Predictor:
    """A predictor of this network whose dense latency is ``dense_ms``; None where the device is not here.

    What calibrates is measured once per run and kept in it, so that the search is the same after a kill.
    """
    subject = job.subject
    if dense_ms is None:
        return uncalibrated(subject, table)

    def measure() -> list[dict[str, Any]]:
        settings = subject.random_widths(job.settings.calibration, seed=job.settings.seed)
        ratios = measure_settings(
            subject,
            settings,
            title=f"calibrating on whole networks{f' with {job.name}' if job.name else ''}",
            known=job.run.kept(job.stage("calibration")) or (),
            keep=partial(job.run.keep, job.stage("calibration")),
        )
        return [{"widths": widths, "ratio": ratio} for widths, ratio in zip(settings, ratios, strict=True)]

    found = job.run.once(job.stage("calibration"), measure)
    return predictor_for(subject, table, dense_ms, [(item["widths"], item["ratio"]) for item in found])


def _check_device(subject: Subject, table: LatencyTable, path: Path) -> None:
    """A table made elsewhere says "cuda:0" and the card's product name; the job says "rtx3090"."""
    wanted, measured_on = subject.spec.device, table.fingerprint.get("device", "")
    product = table.fingerprint.get("gpu", "")
    if wanted != measured_on and not (wanted in GPUS and is_product(product, wanted)):
        raise ProfileError(
            f"the table was measured on {product or measured_on or 'an unknown device'}, not on {wanted}",
            where=path,
            fix="pass the table of the right device as --table",
        )
