"""Sampling whole networks: resumable, adaptive, and nothing measured is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprune.latency.choosing import Method
from hwprune.latency.table import LatencyTable
from hwprune.loop.prediction import measured_table, method_of, stored_table, uncalibrated
from hwprune.loop.profiling import checked
from hwprune.loop.reporter import Silent
from hwprune.loop.sampling import measure_samples, most_to_learn, sampled_around, sampled_table, structure
from hwprune.loop.settings import Settings
from hwprune.loop.subject import Subject
from tests import tiny


def subject_of(folder: Path, runtime: str = "onnxruntime", *, method: Method = "in-context") -> Subject:
    settings = Settings("100%", runtime=runtime, multiple=8, method=method)
    return Subject(tiny.network(), (3, tiny.SIDE, tiny.SIDE), settings, folder / "s", Silent(), tiny.REFERENCE)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return subject_of(tmp_path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_samples_tell_every_layer_and_their_check_is_kept_with_the_table(tmp_path: Path, runtime: str) -> None:
    subject, path = subject_of(tmp_path, runtime), tmp_path / "t.parquet"
    table = measured_table(subject, path, samples=12)

    (held,) = checked(subject, path, calibration=1, count=3)

    predictor = uncalibrated(subject, LatencyTable.load(path))
    assert (len(table.samples), len(table)) == (12, 0)
    assert {"0", "3", "6"} <= set(predictor.contexts[0].surfaces)
    assert (held.method, held.error.count, len(held.again_ms)) == ("in-context", 3, 3)
    assert LatencyTable.load(path).held_out == (held,)
    assert not [widths for widths in held.widths if dict(widths) in [dict(s.widths) for s in table.samples]]
    assert all(0 < ms < 1e3 for ms in held.predicted_ms)


def test_a_sampler_that_was_stopped_goes_on_where_it_was(subject: Subject, tmp_path: Path) -> None:
    straight = [dict(s.widths) for s in sampled_table(subject, tmp_path / "whole.parquet", count=8).samples]
    path = tmp_path / "t.parquet"

    first = sampled_table(subject, path, count=3)
    second = sampled_table(subject, path, count=8)

    assert [dict(sample.widths) for sample in second.samples] == straight
    assert first.samples == second.samples[:3]
    assert sampled_table(subject, path, count=8).samples == second.samples


def test_what_was_measured_before_ctrl_c_is_in_the_file(subject: Subject, tmp_path: Path) -> None:
    path, done = tmp_path / "t.parquet", []

    class Interrupting(Silent):
        def advance(self, number: int, total: int, remaining_s: float | None = None) -> None:
            done.append(number)
            if number == 3:
                raise KeyboardInterrupt

    subject.reporter = Interrupting()
    wanted = subject.random_widths(6, seed=0)
    with pytest.raises(KeyboardInterrupt):
        measure_samples(subject, wanted, path, title="", flush_s=1e9)

    assert [dict(s.widths) for s in LatencyTable.load(path).samples] == wanted[:3]


def test_later_samples_are_where_the_table_is_least_sure_and_around_what_a_search_chooses(
    subject: Subject, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    table = sampled_table(subject, path, count=9)
    chosen = most_to_learn(subject, uncalibrated(subject, table).contexts[0], 4)
    around = sampled_around(subject, path, table.samples[2].widths, count=3)

    assert len(chosen) == 4
    assert all(setting[name] in subject.choices[name] for setting in chosen for name in setting)
    assert dict(around.samples[9].widths) == dict(table.samples[2].widths)
    assert len(around.samples_of(structure(subject))) == 12


def test_the_method_is_the_users_or_the_runtimes_usual_one(tmp_path: Path) -> None:
    assert method_of(subject_of(tmp_path, method="isolated")) == "isolated"
    for runtime, method in (("onnxruntime", "in-context"), ("pytorch", "isolated")):
        settings = Settings("100%", runtime=runtime)
        unsaid = Subject(tiny.network(), (3, tiny.SIDE, tiny.SIDE), settings, tmp_path / "s", Silent())
        assert method_of(unsaid) == method
    by_memory = Settings("100%", runtime="tensorrt", normalisation="memory-measured")
    unsaid = Subject(tiny.network(), (3, tiny.SIDE, tiny.SIDE), by_memory, tmp_path / "s", Silent())
    assert method_of(unsaid) == "isolated"


def test_a_stored_table_of_samples_serves_without_measuring(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    sampled_table(subject, path, count=12)
    before = path.read_bytes()

    table = stored_table(subject, path)

    assert len(table.samples) == 12
    assert path.read_bytes() == before
