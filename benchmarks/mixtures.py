"""The correlated cost of devices that nobody here owns, fitted to published measurements of convolutional networks.

    python benchmarks/mixtures.py --data FOLDER [--out profiles]

FOLDER holds benchmark files of huggingface/pytorch-image-models (``results/benchmark-infer-*.csv``, Apache-2.0; a
prefix before "benchmark" does no harm). Per card that the files name, each file is fitted; the one whose fit errs least
on families that it has not seen is written to ``profiles/CARD.mixture.json``. Only coefficients, errors and where they
come from are written: no row of the files.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from recording import markdown

from hwprune.cost.mixture import SUFFIX, Mixture
from hwprune.cost.points import read_points

SOURCE = "huggingface/pytorch-image-models @ aa4b5850, results/"
NAME = re.compile(r"(benchmark-infer-(amp|fp32)-(nchw|nhwc)-pt(\d)(\d)(\d)-cu(\d\d)(\d)-(?:rtx)?(\d{4})\.csv)$")


def main() -> int:
    """Fit all, write the best of each card, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "profiles")
    options = parser.parse_args()
    files = [path for path in sorted(options.data.glob("*.csv")) if NAME.search(path.name)]
    fits = [_fit(path) for path in files]
    for device in sorted({fit.device for fit in fits}):
        best = min((fit for fit in fits if fit.device == device), key=lambda fit: fit.error.held_out_mape)
        best.save(options.out / f"{device}{SUFFIX}")
    heads = ("device", "layout", "networks", "families", "error", "unseen families", "r", "unseen r")
    print(markdown(heads, [_row(fit) for fit in fits]))
    return 0 if fits else 1


def _fit(path: Path) -> Mixture:
    found = NAME.search(path.name)
    assert found is not None
    file, precision, layout, *digits, card = found.groups()
    points, batches = read_points(path), pd.read_csv(path)["infer_batch_size"]
    provenance: dict[str, Any] = {
        "source": SOURCE + file,
        "licence": "Apache-2.0",
        "rows": f"{len(points)} of {len(batches)}: convolutional networks by hwprune.cost.points.is_convolutional",
        "latency": "time per image of the largest batch that fitted the card; a batch of one is not in it",
        "batch": f"batch {batches.min()} to {batches.max()}",
        "precision": "float16 autocast" if precision == "amp" else "float32",
        "layout": layout.upper(),
        "runtime": f"PyTorch {'.'.join(digits[:3])} eager, CUDA {digits[3]}.{digits[4]}",
        "fit": "least squares of the relative error, coefficients not negative; made by benchmarks/mixtures.py",
        "date": datetime.now(UTC).date().isoformat(),
    }
    work = [(point.macs, point.activations, point.parameters) for point in points]
    families = [point.family for point in points]
    return Mixture.fit(work, [p.latency_ms for p in points], families, device=f"rtx{card}", provenance=provenance)


def _row(fit: Mixture) -> tuple[str, ...]:
    error = fit.error
    shares = (f"{100 * error.mape:.1f} %", f"{100 * error.held_out_mape:.1f} %")
    ranks = (f"{error.r:.3f}", f"{error.held_out_r:.3f}")
    return fit.device, str(fit.provenance["layout"]), str(error.networks), str(error.families), *shares, *ranks


if __name__ == "__main__":
    sys.exit(main())
