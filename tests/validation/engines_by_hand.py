"""Two TensorRT engines as trtexec writes them, made up by hand, with the traits of one that a rewrite made slower.

The dense engine runs convolution and SiLU as one layer and splits the result by copies. In the pruned one the split
convolution has become two, which TensorRT merged into one without their activations: these stand alone now.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal


def silu(module: str) -> str:
    return f"PWN(PWN(/{module}/act/Sigmoid), PWN(/{module}/act/Mul))"


FUSED = f"/1/cv1/conv/Conv + {silu('1/cv1')}"
Times = Sequence[tuple[str, float]]
DENSE: Times = (
    ("Reformatting CopyNode for Input Tensor 0 to /0/conv/Conv", 0.040),
    ("/0/conv/Conv", 0.100),
    (silu("0"), 0.030),
    (FUSED, 0.050),
    ("/1/Split_output_0 copy", 0.010),
    ("/1/Split_output_1 copy", 0.010),
    ("/2/Resize", 0.020),
    ("/2/Reshape", 0.0),
    ("/2/Reshape_copy_output", 0.005),
)
PRUNED: Times = (
    ("Reformatting CopyNode for Input Tensor 0 to /0/conv/Conv", 0.040),
    ("/0/conv/Conv", 0.096),
    (silu("0"), 0.030),
    ("/1/cv0/conv/Conv || /1/cv1/conv/Conv", 0.049),
    (f"Reformatting CopyNode for Output Tensor 0 to {silu('1/cv0')}", 0.002),
    (silu("1/cv0"), 0.015),
    (silu("1/cv1"), 0.016),
    ("/2/Resize", 0.020),
    ("/2/Reshape", 0.0),
    ("/2/Reshape_copy_output", 0.005),
)
NODES = {  # what the inspector's metadata says of the layers that the tests ask about
    "/0/conv/Conv": ("/0/conv/Conv",),
    FUSED: ("/1/cv1/conv/Conv", "/1/cv1/act/Sigmoid", "/1/cv1/act/Mul"),
    "/1/cv0/conv/Conv || /1/cv1/conv/Conv": ("/1/cv0/conv/Conv", "/1/cv1/conv/Conv"),
    silu("1/cv1"): ("/1/cv1/act/Sigmoid", "/1/cv1/act/Mul"),
}


def write_profile(path: Path, times: Times, *, medians: bool = True) -> Path:
    """What ``trtexec --exportProfile`` writes: mean times are a tenth above the medians here."""
    entries: list[dict[str, object]] = [{"count": 200}]
    for name, ms in times:
        entry: dict[str, object] = {"name": name, "timeMs": 220 * ms, "averageMs": 1.1 * ms}
        entries.append({**entry, "medianMs": ms, "percentage": 1.0} if medians else {**entry, "percentage": 1.0})
    path.write_text(json.dumps(entries))
    return path


def write_layers(path: Path, times: Times, form: Literal["names", "10", "11"], *, widths: tuple[int, int]) -> Path:
    """What ``trtexec --exportLayerInfo`` writes: bare names, or objects as TensorRT 10 or 11 has them.

    ``widths`` are the input and output channels of every convolution.
    """
    if form == "names":
        path.write_text(json.dumps({"Layers": [name for name, _ in times], "Bindings": ["images", "output0"]}))
        return path
    layers = [_layer(name, form, widths) for name, _ in times]
    ends = (
        {"Bindings": ["images"]} if form == "10" else {"I/O Tensors": [{"Name": "images", "Dimensions": [1, 3, 8, 8]}]}
    )
    path.write_text(json.dumps({"Layers": layers, **ends}))
    return path


def _layer(name: str, form: Literal["10", "11"], widths: tuple[int, int]) -> dict[str, object]:
    kind = "Reformat" if name.startswith("Reformatting") else "CaskConvolution" if "Conv" in name else "NoOp"
    formats = {"Format/Datatype": "Row major linear FP16 format"}
    if form == "11":
        formats = {"Format": "Row major linear format", "Datatype": "Half"}
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in NODES.get(name, ()))
    ends = ([{"Name": "tensor", "Dimensions": [1, channels, 8, 8], **formats}] for channels in widths)
    inputs, outputs = ends
    return {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": outputs, "Metadata": metadata}
