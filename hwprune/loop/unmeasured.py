"""Pruning for a device that nobody here has profiled: by the correlated cost, with engines built and nothing timed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hwprune.cost.mixture import SUFFIX, Correlated, Mixture, find_mixture
from hwprune.device import resolve
from hwprune.errors import ProfileError, TargetError
from hwprune.loop.job import Job
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.run import Run
from hwprune.target import Target
from hwprune.units import format_percent

MIXTURE, STANDS_IN = "mixture", "mixture stands in for a table"  # what a run keeps


def user_folder() -> Path:
    """Where a user's own tables and mixtures lie: ``$HWPRUNE_PROFILES``, else ``~/.cache/hwprune/profiles``."""
    folder = os.environ.get("HWPRUNE_PROFILES")
    return Path(folder) if folder else Path.home() / ".cache" / "hwprune" / "profiles"


def user_mixture(device: str) -> Path:
    """Where the user's own mixture of a device lies, or would lie."""
    return user_folder() / f"{resolve(device).slug}{SUFFIX}"


def mixture_of(settings: Settings) -> Mixture | None:
    """The mixture of the settings' device: the user's own, else the shipped one, else None."""
    return find_mixture(resolve(settings.device).slug, user_folder())


def stands_in(subject: Subject, table: Path, *, usual: Path) -> bool:
    """Whether the mixture takes the place of a table: no device here, no table, none asked for, but a mixture.

    Args:
        table: that the run would use.
        usual: where it lies unless the user says another file.

    Raises:
        TargetError: the target is in milliseconds, of which a mixture knows nothing.
    """
    settings = subject.settings
    if subject.runtime.can_time or table.exists() or table != usual or settings.normalisation == "memory-measured":
        return False
    if mixture_of(settings) is None:
        return False
    target = Target.parse_all(settings.target)[0]
    if target.quantity == "latency" and not target.relative:
        raise TargetError(
            f"nobody has measured what {settings.device} needs for this network, so {target} cannot be aimed at",
            where=f"there is no latency table at {table}",
            effect="the correlated cost tells shares, not milliseconds",
            fix=f"give a share such as 60%, or profile where the device is: hwprune profile --device {settings.device}",
        )
    return True


def required_mixture(settings: Settings) -> Mixture:
    """`mixture_of`. Raises `ProfileError` where the device has none."""
    found = mixture_of(settings)
    if found is None:
        raise ProfileError(
            f"there is no mixture for {settings.device}, so its correlated cost is unknown",
            where=user_mixture(settings.device),
            fix=f"fit one where the device is: hwprune correlate --device {settings.device} --keep-mixture",
        )
    return found


def remember(run: Run, mixture: Mixture, *, instead_of_table: bool) -> None:
    """Keep in a new run what it prunes by, so that a resume does the same whatever has been profiled meanwhile."""
    run.keep(MIXTURE, mixture.as_json())
    run.keep(STANDS_IN, instead_of_table)


def passed_on(run: Run, other: Run) -> None:
    """Keep in ``other`` what `remember` kept in ``run``, if it did."""
    for name in (MIXTURE, STANDS_IN):
        if (value := run.kept(name)) is not None:
            other.keep(name, value)


def kept_mixture(run: Run) -> Mixture | None:
    """The mixture that `remember` kept."""
    known = run.kept(MIXTURE)
    return None if known is None else Mixture.from_json(known, where=run.path / "run.json")


def correlated_of(job: Job) -> Correlated | None:
    """The run's mixture over its network; None in a run that has none."""
    mixture = kept_mixture(job.run)
    return None if mixture is None else Correlated(mixture, job.subject.network)


def has_stand_in(job: Job) -> bool:
    """Whether the run's mixture stands for its device's latency itself, not only for the price of channels."""
    return not job.name and bool(job.run.kept(STANDS_IN))


def told(job: Job, widths: Mapping[str, int]) -> str:
    """What a run without any latency says of itself, plainly; "" where latency was measured or came from a table."""
    cost = correlated_of(job) if has_stand_in(job) else None
    if cost is None:
        return ""
    device, target, share = job.settings.device, Target.parse(job.settings.target), format_percent(cost.share(widths))
    if target.quantity == "latency":
        aim = (
            f"The target of {format_percent(target.value)} is of the correlated cost, and the network has {share} of it"
        )
    else:
        aim = f"Channels were priced by the correlated cost, of which the network has {share}"
    return (
        f"Nothing was timed: {device} is not here and has no latency table. {aim}. That cost is a mixture of MACs, "
        f"activations and parameters {cost.mixture}. No latency and no speed-up is claimed."
    )
