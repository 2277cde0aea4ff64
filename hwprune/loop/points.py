"""The points of a curve: each network that met one of several targets gets a run directory of its own."""

from __future__ import annotations

import shutil
from copy import copy
from dataclasses import replace

from hwprune.errors import StorageError
from hwprune.loop.candidates import ledger_of
from hwprune.loop.goal import Goal
from hwprune.loop.job import Job
from hwprune.loop.place import Place
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from hwprune.loop.unmeasured import passed_on
from hwprune.run import Run

FOLDER = "points"
SHARED = ("dense.onnx", "calibration.npz", "timing.cache")  # that `certify` and `explain` look for beside a network


def point(job: Job, goal: Goal, place: Place) -> Job:
    """The job of ending the network at ``place``, in a run directory below the job's.

    It is a run like any other: what `prune` with that one target leaves, with the candidates on the way to it.
    """
    path = job.run.path / FOLDER / goal.target.slug
    settings = replace(job.settings, target=goal.target.typed)
    if (path / "run.json").exists():
        run = Run.resume(path)
    else:
        run = Run.create(path, settings.as_json(), origin=job.run.origin, force=True)
        passed_on(job.run, run)
    _share(job, run)
    further = tuple(replace(other, run=run) for other in job.further)
    own = replace(job, subject=_aimed(job.subject, settings), run=run, further=further)
    known = {candidate.id for candidate in ledger_of(own).candidates}
    for candidate in ledger_of(job).candidates:
        if candidate.milestone <= place.milestones and candidate.id not in known:
            ledger_of(own).append(candidate)
    return own


def _aimed(subject: Subject, settings: Settings) -> Subject:
    """The same with other settings, and with all that it knows of the network already."""
    found = copy(subject)
    found.settings = settings
    return found


def _share(job: Job, run: Run) -> None:
    for name in SHARED:
        ours, theirs = job.run.path / name, run.path / name
        if ours.exists() and not theirs.exists():
            try:
                shutil.copyfile(ours, theirs)
            except OSError as error:
                raise StorageError(theirs, error=error) from error
