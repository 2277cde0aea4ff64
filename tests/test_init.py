"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import hwprune

OPTIONAL = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda", "pynvml", "timm")


def test_the_public_names_are_sorted_and_complete() -> None:
    own = [name for name, value in vars(hwprune).items() if not name.startswith("_") and not _is_module(value)]

    assert list(hwprune.__all__) == sorted(own)


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in hwprune.__all__ if not getattr(hwprune, name).__doc__] == []


def test_the_package_imports_no_optional_runtime() -> None:
    # torch itself imports pynvml where it is installed.
    code = "import sys, torch; known = set(sys.modules); import hwprune; new = set(sys.modules) - known; "
    code += f"print(sorted(set({OPTIONAL}) & new))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"
