"""Builder options, and a timing cache that several processes share. Its content is TensorRT's; here it is lines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.errors import EngineError, StorageError
from hwprune.runtimes.tensorrt_options import BuilderOptions, TimingCache


def union(there: bytes, new: bytes) -> bytes:
    return b"\n".join(sorted({*there.split(b"\n"), *new.split(b"\n")} - {b""}))


def build(cache: TimingCache, tactic: bytes) -> None:
    """What a build does: read, time one more tactic, keep."""
    known = cache.read()
    cache.add(known, union(known, tactic), union)


def test_a_cache_without_a_file_lives_as_long_as_its_runtime() -> None:
    cache = TimingCache()
    assert cache.hash == "empty"

    build(cache, b"conv1")
    build(cache, b"conv2")

    assert cache.read() == b"conv1\nconv2"
    assert TimingCache().read() == b""


def test_the_hash_is_that_of_what_is_known_and_stays_while_nothing_new_is_timed(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "deep" / "timing.cache")
    build(cache, b"conv1")
    before = cache.hash
    build(cache, b"conv1")

    assert cache.hash == before == TimingCache(cache.path).hash
    build(cache, b"conv2")
    assert cache.hash != before


@given(order=st.permutations(range(6)))
@settings(max_examples=20)
def test_what_others_have_timed_meanwhile_is_kept(order: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cache") / "timing.cache"
    started = [(TimingCache(path), TimingCache(path).read()) for _ in order]  # all have read before any writes
    for number in order:
        cache, known = started[number]
        cache.add(known, union(known, b"layer%d" % number), union)

    assert TimingCache(path).read() == b"\n".join(b"layer%d" % number for number in range(6))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: build(TimingCache(path), b"layer%02d" % number), range(40)))

    assert TimingCache(path).read() == b"\n".join(b"layer%02d" % number for number in range(40))


def test_a_place_that_cannot_be_read_or_written_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")

    with pytest.raises(EngineError, match="timing cache cannot be read"):
        TimingCache(tmp_path).read()
    with pytest.raises(StorageError):
        TimingCache(file / "timing.cache").add(b"", b"conv1", union)


@pytest.mark.parametrize(
    "wrong",
    [{"optimization_level": 6}, {"timing_iterations": 0}, {"workspace_bytes": -1}, {"only_cached": True}],
)
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(EngineError):
        BuilderOptions(**wrong)  # type: ignore[arg-type]


def test_the_fingerprint_tells_every_option_that_decides_the_engine() -> None:
    plain, other = BuilderOptions(), BuilderOptions(5, workspace_bytes=1 << 30, timing_iterations=1, aux_streams=0)

    assert plain.as_fingerprint().keys() == other.as_fingerprint().keys()
    assert all(plain.as_fingerprint()[key] != other.as_fingerprint()[key] for key in plain.as_fingerprint())
