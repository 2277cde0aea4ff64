"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hwprune

OPTIONAL = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda", "pynvml", "timm")


def test_the_public_names_are_sorted_and_found_where_type_checkers_see_them() -> None:
    tree = ast.parse(Path(hwprune.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {name.asname: node.module for node in imports for name in node.names if name.asname}

    assert list(hwprune.__all__) == sorted(seen)
    assert set(hwprune.__all__) <= set(dir(hwprune))
    for name, module in seen.items():
        assert getattr(hwprune, name) is getattr(importlib.import_module(str(module)), name)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'hwprune' has no attribute 'prunes'"):
        hwprune.prunes  # noqa: B018


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in hwprune.__all__ if not getattr(hwprune, name).__doc__] == []


def test_the_package_imports_no_optional_runtime() -> None:
    # torch itself imports pynvml where it is installed.
    code = "import sys, torch; known = set(sys.modules); from hwprune import *; "
    code += f"print(sorted(set({OPTIONAL}) & (set(sys.modules) - known)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
