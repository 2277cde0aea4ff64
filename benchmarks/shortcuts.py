"""What ONNX Runtime takes for a CIFAR ResNet whose zero-padded shortcuts are convolutions that compute the same.

    python benchmarks/shortcuts.py [--out DIR]

The paired test of `hwprune certify` (rebuilt engines by turns, one thread, batch 1, fp32), random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.device import resolve
from hwprune.models import cifar_resnet
from hwprune.models.cifar_resnet import without_padding
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import spec_for
from hwprune.units import format_percent
from hwprune.validation.certify import certify

NETWORKS = ("resnet20", "resnet56", "resnet110")


def main() -> int:
    """Measure all, record, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    spec, inputs, found = spec_for(resolve("cpu"), "onnxruntime"), (torch.zeros(1, 3, 32, 32),), {}
    with tempfile.TemporaryDirectory() as folder:
        padded, rewritten = (Path(folder) / name for name in ("padded.onnx", "rewritten.onnx"))
        for name in NETWORKS:
            torch.manual_seed(0)
            network = getattr(cifar_resnet, name)().eval()
            padded.write_bytes(export(network, inputs))
            rewritten.write_bytes(export(without_padding(network), inputs))
            found[name] = asdict(certify(padded, rewritten, spec, batch=1).comparison)
    record(out / "shortcuts.json", {"fingerprint": fingerprint(), "networks": found})
    rows = [
        (name, format_percent(one["ratio"]), f"{format_percent(one['low'])} to {format_percent(one['high'])}")
        for name, one in found.items()
    ]
    print(markdown(("network", "rewritten / padded", "95 % interval"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
