"""The picture of the coupling: a snapshot, and what Graphviz itself says of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwprune.graph.coupling import analyze
from hwprune.graph.drawing import dot
from hwprune.graph.network import Network
from tests.graph.networks import build


class Residual(nn.Module):
    """A block whose path around it ties two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = (x + self.norm(self.block(x))).relu()
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def picture(model: nn.Module, side: int = 32) -> tuple[Network, str]:
    network = analyze(model.eval(), torch.zeros(1, 3, side, side), model_reference="tiny")
    return network, dot(network)


def graph(text: str) -> dict[str, Any]:
    """What Graphviz reads, as boxes and edges."""
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    run = subprocess.run(["dot", "-Tdot_json"], input=text.encode(), capture_output=True, check=True, timeout=60)
    assert not run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def test_the_picture_of_a_residual_block() -> None:
    _, text = picture(Residual(), side=4)
    plain = re.sub(r', (label)?tooltip="[^"]*"', "", text)

    assert plain.splitlines()[-13:] == [
        '  n0 [label="input\\n1×3×4×4", color="#9a9a9a", fillcolor="#9a9a9a22"];',
        '  n1 [label="stem\\nconv 1×1, 3 → 8", color="#1f77b4", fillcolor="#1f77b422"];',
        '  n2 [label="block\\nconv 3×3, 8 → 8", color="#1f77b4", fillcolor="#1f77b422"];',
        '  n3 [label="+", shape=circle, width=0.25, height=0.25, margin="0.04,0.02", '
        'color="#1f77b4", fillcolor=white];',
        '  n4 [label="head\\nlinear, 8 → 4", color="#9a9a9a", fillcolor="#9a9a9a22"];',
        '  n5 [label="output\\n1×4", color="#9a9a9a", fillcolor="#9a9a9a22"];',
        '  n0 -> n1 [color="#9a9a9a", label=" 3", fontcolor="#9a9a9a", weight=4];',
        '  n1 -> n2 [color="#1f77b4", label=" 8", fontcolor="#1f77b4", weight=4];',
        '  n1 -> n3 [color="#1f77b4"];',
        '  n2 -> n3 [color="#1f77b4", label=" 8", fontcolor="#1f77b4", weight=4];',
        '  n3 -> n4 [color="#1f77b4", label=" 8", fontcolor="#1f77b4", weight=4];',
        '  n4 -> n5 [color="#9a9a9a", label=" 4", fontcolor="#9a9a9a", weight=4];',
        "}",
    ]
    assert "stem: 8 channels\\n  made or scaled by stem, block, norm\\n  read by block, head" in text
    assert "head: 4 channels\\n  stay: reaches the network's output" in text


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "shufflenet_v2_x0_5", "googlenet"])
def test_graphviz_reads_it_and_every_layer_and_group_is_in_it(name: str) -> None:
    network, text = picture(build(name))
    document = graph(text)
    titles = [box["label"].split("\\n")[0] for box in document["objects"]]
    layers = {layer.name for layer in network.layers if layer.dense.kind in ("conv", "linear")}
    tips = "".join(edge["tooltip"] for edge in document["edges"])

    assert layers <= set(titles)
    assert len(titles) == len(set(titles) - {"+", "×", "concat"}) + sum(
        title in ("+", "×", "concat") for title in titles
    )
    assert all(group.name in tips for group in network.free)
    assert dot(network) == text


def test_a_dense_block_is_a_chain_and_no_hairball() -> None:
    document = graph(picture(build("densenet121"))[1])

    assert len(document["edges"]) < 1.6 * len(document["objects"])


def test_names_that_are_hard_to_write_are_escaped() -> None:
    model = nn.Sequential()
    model.add_module('say "hi"\\n', nn.Conv2d(3, 4, 1))
    model.add_module("->{};", nn.Conv2d(4, 2, 1))
    document = graph(picture(model, side=4)[1])

    assert [box["label"] for box in document["objects"]][1:3] == [
        'say \\"hi\\"\\\\n\\nconv 1×1, 3 → 4'.replace('\\"', '"'),
        "->{};\\nconv 1×1, 4 → 2",
    ]


def test_calls_of_one_module_are_told_apart() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(self.conv(x))
            return out

    text = picture(Shared(), side=4)[1]

    assert 'label="conv\\n' in text
    assert 'label="conv (call 2)\\n' in text
