"""The latency table of the run, and its calibration on random networks measured whole."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from hwprune.errors import DeviceError, ProfileError
from hwprune.latency.predictor import Predictor
from hwprune.latency.profiler import profile
from hwprune.latency.table import LatencyTable
from hwprune.latency.wanted import wanted_layers
from hwprune.loop.job import Job
from hwprune.validation.engine import measure_ratio

Setting = dict[str, Any]
"""One network measured whole: {"widths": ..., "ratio": latency over the dense network's, timed by turns}."""


def measured_table(job: Job) -> LatencyTable:
    """The table with every layer that the search may ask for; measures what is missing where the device is here.

    Raises:
        DeviceError: the device is not here and there is no table for it.
        NotMeasuredError: the device is not here and its table lacks layers of this network.
    """
    layers = wanted_layers(job.network.layers, job.choices)
    if job.runtime.can_time:
        job.reporter.stage(f"measuring layers on {job.spec.device} with {job.spec.name}")
        return profile(layers, job.runtime, job.table, seed=job.settings.seed, on_progress=job.reporter.advance)
    if not job.table.exists():
        raise DeviceError(
            f"there is no latency table for {job.spec.device} and the device is not in this machine",
            where=job.table,
            effect="its latency can neither be measured nor predicted",
            fix=f"run `hwprune profile --device {job.spec.device}` where the device is and pass the file as --table, "
            "or give a target in macs, params or memory",
        )
    table = LatencyTable.load(job.table)
    for layer in layers:
        table.lookup(layer)
    return table


def measure_settings(
    job: Job, count: int, *, seed: int, title: str, done: list[Setting] | None = None
) -> list[Setting]:
    """Measure random networks whole, each by turns with the dense one; ``done`` are not measured again."""
    settings = list(done or [])
    job.reporter.stage(title)
    with closing(job.engine(job.model)) as dense:
        for widths in job.random_widths(count, seed=seed)[len(settings) :]:
            with closing(job.engine(job.small(job.first_channels(widths)))) as engine:
                settings.append({"widths": widths, "ratio": measure_ratio(dense, engine).ratio})
            job.reporter.advance(len(settings), count)
    return settings


def calibrated(job: Job, table: LatencyTable, dense_ms: float) -> Predictor:
    """A predictor of this network whose dense latency is ``dense_ms`` and whose coefficients fit measured networks.

    What calibrates is measured once per run and kept in it, so that the search is the same after a kill.
    """
    predictor = Predictor(table, job.network.layers)
    if not job.runtime.can_time:
        return predictor

    def measure() -> list[Setting]:
        return measure_settings(
            job, job.settings.calibration, seed=job.settings.seed, title="calibrating on whole networks"
        )

    found = job.run.once("calibration", measure)
    known = [(job.network.widths, dense_ms), *((item["widths"], item["ratio"] * dense_ms) for item in found)]
    return predictor.calibrate(known)


def check_table_fits(job: Job, table: LatencyTable) -> None:
    """Raises ProfileError where the table belongs to another device than the job's."""
    device = table.fingerprint.get("device", "")
    if device and not job.runtime.can_time and job.spec.device not in device:
        raise ProfileError(
            f"the table was measured on {device}, not on {job.spec.device}",
            where=job.table,
            fix="pass the table of the right device as --table",
        )
