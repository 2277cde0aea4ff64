from __future__ import annotations

import pytest
import torch
from torch import nn

import hwprune
from hwprune.models.cifar_resnet import resnet20
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.tensorrt_layers import from_information
from hwprune.validation.structure import Structure, of_layers, of_onnx


class Kinds(nn.Module):
    """Grouped, depthwise, transposed and strided convolutions, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, (3, 1), padding=(1, 0), groups=16, bias=False)
        self.wide = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.linear = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(self.wide(self.depthwise(self.grouped(x))).mean((2, 3)))
        return y


@pytest.mark.parametrize(
    ("model", "shape"), [(resnet20(), (1, 3, 32, 32)), (Kinds(), (2, 8, 12, 12))], ids=["resnet20", "kinds"]
)
def test_the_graph_has_the_layers_of_the_analysis(model: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = (torch.zeros(shape),)
    analysed = {layer.name: layer.dense for layer in hwprune.analyze(model.eval(), inputs).layers}
    structure = of_onnx(export(model, inputs))
    found = {name.rpartition("/")[0]: node.layer for name, node in structure.nodes.items() if node.layer is not None}

    assert found == {name: layer for name, layer in analysed.items() if layer.kind in ("conv", "linear")}


def test_a_module_means_all_its_nodes() -> None:
    structure = of_onnx(export(nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU()).eval(), (torch.zeros(1, 3, 4, 4),)))

    assert structure.names("0") == ("0/Conv",)
    assert set(structure.names("1")) == {"1/Sigmoid", "1/Mul"}
    assert structure.names("1/Mul") == ("1/Mul",)
    assert structure.names("unknown") == ("unknown",)


def test_an_inspector_s_shapes_give_widths_in_either_format() -> None:
    def tensor(name: str, channels: int, **formats: str) -> dict[str, object]:
        return {"Name": name, "Dimensions": [1, channels, 8, 8], **formats}

    old = {"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}
    new = {"Format": "Channel major format where channel % 8 == 0", "Datatype": "Half"}
    for formats in (old, new):
        layer = {"Name": "a/Conv + a/Relu", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: a/Conv]"}
        layer |= {"Inputs": [tensor("x", 13, **formats)], "Outputs": [tensor("y", 24, **formats)]}
        structure = of_layers(from_information({"Layers": [layer]}))

        assert structure["a/Conv"].widths == (13, 24)


def test_without_a_graph_names_tell_the_operator() -> None:
    assert [Structure()[name].role for name in ("a/MatMul@3", "b/Mul_2", "Conv_12", "c/Resize", "c")] == [
        "main",
        "pointwise",
        "main",
        "other",
        "other",
    ]
