"""What a correlation study measures, and that a stopped one goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from hwprune.cost.points import family_of
from hwprune.device import resolve
from hwprune.errors import HwpruneError, ProfileError
from hwprune.loop.reporter import Silent
from hwprune.loop.settings import Settings
from hwprune.loop.study import NETWORKS, Asked, matched_plans, measured_points, random_levels
from hwprune.loop.study_points import Points
from hwprune.loop.subject import Subject
from hwprune.models.cifar_resnet import resnet20
from hwprune.runtimes.pytorch import PyTorchRuntime
from tests import tiny

SETTINGS = Settings("100%", runtime="pytorch", multiple=2)
TINY = Asked(networks=(tiny.REFERENCE,), of=(tiny.REFERENCE,), widths=3, matched=2, macs=0.6)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small residual network."""
    model: nn.Module = resnet20().eval()
    return Subject(model, (3, 32, 32), SETTINGS, tmp_path_factory.mktemp("study"), Silent(), "resnet20")


def test_the_usual_networks_are_sixty_or_more_of_twenty_families() -> None:
    assert len(set(NETWORKS)) == len(NETWORKS) >= 60
    assert len({family_of(name) for name in NETWORKS}) >= 20


def test_random_settings_come_in_all_sizes_and_a_longer_list_begins_like_a_shorter_one(subject: Subject) -> None:
    settings = random_levels(subject, 40)
    shares = [subject.work(widths).macs / subject.work().macs for widths in settings]

    assert settings[:7] == random_levels(subject, 7)
    assert min(shares) < 0.15
    assert max(shares) > 0.75
    for widths in settings:
        assert all(width in subject.choices[name] for name, width in widths.items())


def test_matched_plans_differ_and_have_the_same_macs(subject: Subject) -> None:
    plans = matched_plans(subject, 0.5, 6)
    shares = [subject.work(widths).macs / subject.work().macs for widths in plans]
    activations = [subject.work(widths).activation_elements for widths in plans]

    assert all(0.49 <= share <= 0.5 for share in shares)
    assert len({tuple(plan.items()) for plan in plans}) == 6
    assert max(activations) > 1.1 * min(activations)
    with pytest.raises(HwpruneError, match="cannot be cut to"):
        matched_plans(subject, 0.0001, 1)


def test_every_network_is_measured_counted_and_not_measured_again(tmp_path: Path) -> None:
    points = measured_points(TINY, SETTINGS, tmp_path, Silent())
    first = (tmp_path / "points.csv").read_bytes()

    assert points.summary()["points"] == {"networks": 1, "widths": 4, "matched": 3}
    for row in points.rows.values():
        assert row.ratio > 0
        assert row.macs > 0
    dense = points.rows["widths", tiny.REFERENCE]
    assert dense.macs == points.rows["networks", tiny.REFERENCE].macs

    measured_points(TINY, SETTINGS, tmp_path, Silent())
    assert (tmp_path / "points.csv").read_bytes() == first

    lines = first.decode().splitlines()
    (tmp_path / "points.csv").write_text("\n".join(lines[:-2]) + "\n")
    again = measured_points(TINY, SETTINGS, tmp_path, Silent())
    assert (tmp_path / "points.csv").read_text().splitlines()[:-2] == lines[:-2]
    assert set(again.rows) == set(points.rows)
    for key, row in points.rows.items():
        assert again.rows[key].macs == row.macs


def test_latencies_of_a_study_are_at_one_time_of_the_reference(tmp_path: Path) -> None:
    points = measured_points(TINY, SETTINGS, tmp_path, Silent())
    reference = float(np.median([row.reference_ms for row in points.rows.values()]))

    for point in points.points("widths"):
        assert point.latency_ms == pytest.approx(points.rows["widths", point.name].ratio * reference)


class Notes(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_network_that_cannot_be_measured_is_noted_and_the_others_are_measured(tmp_path: Path) -> None:
    heard = Notes()
    asked = Asked(networks=("no.such:network", tiny.REFERENCE), of=(), widths=0, matched=0)
    points = measured_points(asked, SETTINGS, tmp_path, heard)

    assert list(points.rows) == [("networks", tiny.REFERENCE)]
    assert len(heard.notes) == 1
    assert "no.such:network is left out" in heard.notes[0]


def test_points_of_another_batch_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    asked = Asked(networks=(tiny.REFERENCE,), of=())
    measured_points(asked, SETTINGS, tmp_path, Silent())
    before = (tmp_path / "points.csv").read_bytes()

    with pytest.raises(ProfileError, match="measured with batch 1, not 2"):
        Points.open(tmp_path, resolve("cpu"), PyTorchRuntime(), 2)
    assert (tmp_path / "points.csv").read_bytes() == before
    (tmp_path / "points.csv").write_text("part,name\nnetworks,x\n")
    with pytest.raises(ProfileError, match="damaged"):
        Points.read(tmp_path)
