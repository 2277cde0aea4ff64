"""What a built wheel holds, beside the modules."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from hwprune.files import PROFILES
from tests import tiny

BUILD = "import setuptools.build_meta as build, sys; build.build_wheel(sys.argv[1])"


def test_every_shipped_profile_is_in_the_wheel_where_the_package_looks_for_it(tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "wheel"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(tiny.ROOT / name, copy)
    shutil.copytree(tiny.ROOT / "profiles", copy / "profiles")
    shutil.copytree(
        tiny.ROOT / "hwprune", copy / "hwprune", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("a-card.json", "a-card.parquet"):
        (copy / "profiles" / name).touch()
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=copy, check=True, capture_output=True, timeout=200)

    (wheel,) = out.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    folder = PROFILES.relative_to(PROFILES.parents[1])
    assert {str(folder / path.name) for path in (copy / "profiles").iterdir()} <= inside
