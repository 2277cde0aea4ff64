"""What can be known to go wrong before a run begins, so that it does not go wrong in the middle of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwprune import methods
from hwprune.catalogue import Kind
from hwprune.data.batches import Data
from hwprune.data.fits import check_fits
from hwprune.device import resolve
from hwprune.errors import DeviceError
from hwprune.latency.profiler import open_table
from hwprune.loop.goal import amount_of, needs_table
from hwprune.loop.prediction import stored_table
from hwprune.loop.subject import Subject, check_multiples
from hwprune.loop.unmeasured import required_mixture
from hwprune.target import Target


def check_all(subject: Subject, data: Data, table: Path | None) -> None:
    """Look at everything that the run will need; writes nothing.

    Args:
        table: None where a mixture stands in for it.

    Raises:
        DataError: network and data do not go together.
        ModelError, NumericsError, TargetError: the network cannot be pruned, or not to this target.
        DeviceError, EngineError, MissingPackageError: the runtime cannot be used.
        ProfileError: the latency table cannot be used.
    """
    settings = subject.settings
    check_fits(data, subject.model)
    chosen: Mapping[Kind, str] = {
        "importance": settings.criterion,
        "regularizer": settings.regularizer,
        "allocation": settings.allocation,
        "inheritance": settings.inheritance,
        "transform": settings.transform,
    }
    for kind, text in chosen.items():
        if text:
            methods.make(kind, text)
    if settings.transform and not subject.runtime.can_time:
        raise DeviceError(
            f"{settings.device} is not in this machine, so nothing tells whether a rewritten layer is faster",
            fix="prune on a machine that has it, or leave --transform out",
        )
    loosest = Target.parse_all(settings.target)[0]
    if loosest.relative:
        loosest.ratio(1.0)
    for spec in (subject.spec, *subject.validators):
        spec.open()
    check_multiples(settings.multiples, subject.network)
    dense = subject.work()
    if loosest.quantity != "latency":
        loosest.ratio(float(amount_of(dense, loosest)))
    if settings.normalisation == "correlated":
        required_mixture(settings)
    if table is not None and needs_table(subject):
        if subject.runtime.can_time:
            open_table(subject.runtime, table, resolve(subject.spec.device))
        else:
            stored_table(subject, table)
