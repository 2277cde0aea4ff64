from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from hwprune.errors import EngineError
from hwprune.validation.alignment import Rule
from hwprune.validation.explain import explain
from hwprune.validation.trtexec import read_profile
from tests.validation.engines_by_hand import DENSE, FUSED, PRUNED, silu, write_layers, write_profile

Form = Literal["names", "10", "11"]


@pytest.fixture
def profiles(tmp_path: Path) -> tuple[Path, Path]:
    return write_profile(tmp_path / "dense.json", DENSE), write_profile(tmp_path / "pruned.json", PRUNED)


def test_a_profile_is_read_as_it_stands(profiles: tuple[Path, Path]) -> None:
    profile = read_profile(profiles[0], measured_ms=0.31)

    assert [(layer.name, layer.median_ms) for layer in profile.layers] == list(DENSE)
    assert [layer.kind for layer in profile.layers] == ["reformat", *["layer"] * 3, "copy", "copy", *["layer"] * 3]
    assert profile.layers[3].nodes == ("/1/cv1/conv/Conv", "/1/cv1/act/Sigmoid", "/1/cv1/act/Mul")
    assert profile.measured_ms == 0.31


def test_means_are_taken_when_asked_and_where_there_are_no_medians(tmp_path: Path, profiles: tuple[Path, Path]) -> None:
    old = write_profile(tmp_path / "old.json", DENSE, medians=False)
    means = [pytest.approx(1.1 * ms) for _, ms in DENSE]

    assert [layer.median_ms for layer in read_profile(profiles[0], statistic="mean").layers] == means
    assert [layer.median_ms for layer in read_profile(old).layers] == means


@pytest.mark.parametrize("form", [None, "names", "10", "11"])
def test_the_explanation_finds_the_pointwise_layers_that_stand_alone(
    form: Form | None, tmp_path: Path, profiles: tuple[Path, Path]
) -> None:
    infos: list[Path | None] = [None, None]
    if form is not None:
        for place, times in enumerate((DENSE, PRUNED)):
            infos[place] = write_layers(tmp_path / f"{place}.json", times, form, widths=(16, 16))
    dense, pruned = (
        read_profile(profile, info, measured_ms=ms)
        for profile, info, ms in zip(profiles, infos, (0.300, 0.320), strict=True)
    )
    found = explain(dense, pruned)
    causes = {cause.name: cause for cause in found.causes}

    assert found.causes[0].name == "pointwise", "the costliest first"
    assert (causes["pointwise"].dense_count, causes["pointwise"].pruned_count) == (1, 3)
    assert causes["pointwise"].difference_ms == pytest.approx(0.031)
    assert (causes["reformat"].dense_count, causes["reformat"].pruned_count) == (1, 2)
    assert (causes["copy"].dense_count, causes["copy"].pruned_count) == (3, 1)
    assert causes["main"].difference_ms == pytest.approx(-0.005)
    assert sum(cause.difference_ms for cause in found.causes) == pytest.approx(0.020)
    assert [one.dense for one in found.refused] == [FUSED]
    assert found.refused[0].pruned == ("/1/cv0/conv/Conv || /1/cv1/conv/Conv", silu("1/cv1"))
    assert "Added by stand-alone pointwise layers 31 µs (1 → 3)" in found.summary


@pytest.mark.parametrize("form", ["10", "11"])
def test_widths_come_from_detailed_layer_information(form: Form, tmp_path: Path, profiles: tuple[Path, Path]) -> None:
    infos = (
        write_layers(tmp_path / "a.json", DENSE, form, widths=(16, 16)),
        write_layers(tmp_path / "b.json", PRUNED, form, widths=(16, 13)),
    )
    dense, pruned = (read_profile(profile, info) for profile, info in zip(profiles, infos, strict=True))
    found = explain(dense, pruned, rule=Rule(8, "tensor cores in fp16"))

    assert {one.off.node for one in found.misfits} == {"/0/conv/Conv", "/1/cv0/conv/Conv", "/1/cv1/conv/Conv"}
    assert {one.off.at_fault for one in found.misfits} == {(13,)}
    assert "off alignment" in {cause.name for cause in found.causes}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("5", "no profile of trtexec"),
        ('[{"count": 2}]', "has no layers"),
        ('[{"name": "a"}]', "no profile of trtexec"),
        ('{"Layers": []}', "no profile of trtexec"),
    ],
)
def test_other_files_are_refused(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(EngineError, match=words):
        read_profile(path)


def test_layer_information_that_is_none_is_refused(tmp_path: Path, profiles: tuple[Path, Path]) -> None:
    (tmp_path / "info.json").write_text(json.dumps([1]))

    with pytest.raises(EngineError, match="no engine information"):
        read_profile(profiles[0], tmp_path / "info.json")
