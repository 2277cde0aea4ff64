"""Certificates of a network against itself: "not faster" must come out, nearly always.

A 95 % interval lets 2.5 % of such certificates say "faster" and 2.5 % "slower" by chance; asked is "not faster" in at
least 19 of 20. Rebuilds and blocks are those of `hwprune certify`.

    python benchmarks/certify_identical.py                20 repeats, about four minutes; an idle machine, please
    python benchmarks/certify_identical.py --repeats 3    to try; with another number than 20 nothing is recorded
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from recording import RESULTS, fingerprint, markdown, record

from hwprune.models.resolve import describe_inputs, load_model
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RuntimeSpec
from hwprune.units import format_ms, format_percent
from hwprune.validation.certify import Certificate, certify

MODEL = "hwprune.models.cifar_resnet:resnet20"
REPEATS, WANTED = 20, 19
HEADS = ("repeat", "verdict", "ratio", "95 % interval", "median", "spread (CV)")


def repeated(count: int, spec: RuntimeSpec) -> list[Certificate]:
    """Certificates of the same ONNX file against itself."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(export(load_model(MODEL), (torch.zeros(1, *describe_inputs(MODEL)),)))
        certificates = []
        for number in range(1, count + 1):
            certificates.append(certify(file, file, spec))
            print(f"{number} of {count}: {certificates[-1].verdict} {certificates[-1].comparison}", flush=True)
    return certificates


def row(number: int, found: Certificate) -> tuple[str, ...]:
    ratio = found.comparison
    interval = f"{format_percent(ratio.low)} to {format_percent(ratio.high)}"
    median, spread = format_ms(found.dense.median_ms), format_percent(found.dense.cv)
    return (str(number), found.verdict, format_percent(ratio.ratio), interval, median, spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    chosen = parser.parse_args()
    certificates = repeated(chosen.repeats, RuntimeSpec(chosen.runtime, chosen.device, chosen.precision))
    verdicts = {name: sum(c.verdict == name for c in certificates) for name in ("not faster", "faster", "slower")}
    table = markdown(HEADS, [row(number, found) for number, found in enumerate(certificates, start=1)])
    enough = len(certificates) - verdicts["faster"] >= WANTED
    heading = f"{MODEL} against itself, {chosen.runtime} {chosen.precision} on {chosen.device}: {verdicts}"
    print(f"\n{heading}\n\n{table}")
    if chosen.repeats != REPEATS:
        return
    name = "certify_identical" if chosen.device == "cpu" else f"certify_identical_{chosen.runtime}_{chosen.device}"
    document = {
        "model": MODEL,
        "runtime": certificates[0].runtime,
        "verdicts": verdicts,
        "not called faster": len(certificates) - verdicts["faster"],
        "wanted": WANTED,
        "enough": enough,
        "certificates": [
            {
                "ratio": c.comparison.ratio,
                "low": c.comparison.low,
                "high": c.comparison.high,
                "verdict": c.verdict,
                "median_ms": c.dense.median_ms,
                "cv": c.dense.cv,
            }
            for c in certificates
        ],
        "clocks": certificates[-1].clocks.note,
        "fingerprint": fingerprint(chosen.device),
    }
    record(RESULTS / f"{name}.json", document)
    (RESULTS / f"{name}.md").write_text(f"{heading} (`benchmarks/certify_identical.py`)\n\n{table}\n")


if __name__ == "__main__":
    main()
