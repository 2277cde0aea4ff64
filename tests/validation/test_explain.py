"""Real engines of ONNX Runtime and OpenVINO whose widths are at fault, and what `explain` finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import hwprune
from hwprune.device import resolve
from hwprune.errors import EngineError
from hwprune.latency.profiler import profile
from hwprune.layer import Layer
from hwprune.models.cifar_resnet import resnet20
from hwprune.runtimes.base import LayerTime
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.alignment import Rule, rule_for
from hwprune.validation.explain import Prices, Profile, explain, profiled
from hwprune.validation.structure import Node, Structure, of_onnx

CPU = resolve("cpu")
INPUTS = (torch.zeros(1, 3, 32, 32),)
UNALIGNED = "layer2.1.conv1"  # the group whose width the test spoils


def narrowed(width: int) -> bytes:
    """ResNet-20 with one group at this width, as ONNX."""
    model = resnet20().eval()
    network = hwprune.analyze(model, INPUTS)
    group = next(group for group in network.free if group.name == UNALIGNED)
    plan = hwprune.Plan.keeping(network, {group.name: range(width)})
    return export(hwprune.cut(model, plan, network), INPUTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    found = folder / "dense.onnx", folder / "pruned.onnx"
    for file, width in zip(found, (32, 29), strict=True):
        file.write_bytes(narrowed(width))
    return found


def measured(files: tuple[Path, Path], runtime: str) -> tuple[Profile, Profile]:
    spec = RuntimeSpec(runtime, "cpu")
    return profiled(*files, spec, (of_onnx(files[0]), of_onnx(files[1])), rounds=1)


def test_an_odd_width_is_blamed_on_the_layers_that_write_and_read_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    spec = RuntimeSpec("onnxruntime", "cpu")
    asked: list[Layer] = []

    def price(layers: Sequence[Layer]) -> Prices:
        asked.extend(layers)
        table = profile(layers, spec.open(), tmp_path / "table.parquet")
        return {layer: table.ms(layer) for layer in layers}

    rule = rule_for(spec, CPU, CPU.fingerprint()["flags"])
    assert rule is not None
    dense, pruned = measured(files, "onnxruntime")
    found = explain(dense, pruned, rule=rule, price=price)

    writes, reads = "layer2.1.conv1/Conv", "layer2.1.conv2/Conv"
    assert {one.off.node for one in found.misfits} == {writes, reads}
    assert {one.off.widths for one in found.misfits} == {(32, 29), (29, 32)}
    assert all(one.off.at_fault == (29,) and one.off.leaves_layout for one in found.misfits)
    causes = {cause.name: cause for cause in found.causes}
    assert causes["off alignment"].dense_count == causes["off alignment"].pruned_count == 2
    assert {name for name, _ in causes["off alignment"].parts} == {writes, reads}
    aligned = {layer for one in found.misfits for layer in (one.off.up, one.off.down) if layer is not None}
    assert {29} <= {width for layer in asked for width in (layer.c_in, layer.c_out)} and aligned <= set(asked)
    assert all(one.up_ms is not None and one.down_ms is not None for one in found.misfits)
    assert sum(c.difference_ms for c in found.causes) == pytest.approx(pruned.measured_ms - dense.measured_ms)  # type: ignore[operator]


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs OpenVINO")
def test_openvino_s_layers_stand_for_whole_fusions(files: tuple[Path, Path]) -> None:
    dense, pruned = measured(files, "openvino")
    found = explain(dense, pruned)

    first = next(layer for layer in dense.layers if "layer1.0.conv1/Conv" in layer.nodes and layer.kind == "layer")
    assert set(first.nodes) == {"layer1.0.conv1/Conv", "layer1.0.bn1/BatchNormalization", "layer1.0.relu1/Relu"}
    assert found.refused == ()
    both = [region for region in found.regions if region.dense and region.pruned]
    assert len(both) == len(found.regions) >= 20, "every layer is found on both sides, whatever its time"


def test_modules_of_pytorch_are_compared_by_their_nodes(files: tuple[Path, Path]) -> None:
    model = resnet20().eval()
    structure = of_onnx(files[0])
    sources = ((model, INPUTS), (model, INPUTS))
    dense, pruned = profiled(*sources, RuntimeSpec("pytorch", "cpu"), (structure, structure), rounds=1)
    found = explain(dense, pruned)

    main = next(cause for cause in found.causes if cause.name == "main")
    assert main.dense_count == main.pruned_count == 20, "19 convolutions and the classifier"
    assert found.measured and found.misfits == ()


def by_hand(widths: tuple[int, int], ms: float) -> Profile:
    layer = Layer("conv", *widths, size=(4, 4), kernel=(1, 1), out_size=(4, 4))
    structure = Structure({"a/Conv": Node("Conv", widths, layer)})
    return Profile((LayerTime("a/Conv", ms, nodes=("a/Conv",)),), structure, ms + 0.1)


def test_prices_are_differences_to_the_layer_as_it_is() -> None:
    dense, pruned = by_hand((32, 32), 1.0), by_hand((32, 20), 0.9)
    prices = {"16": 0.5, "20": 0.9, "24": 0.6}

    def price(layers: Sequence[Layer]) -> Prices:
        return {layer: prices[str(layer.c_out)] for layer in layers}

    found = explain(dense, pruned, rule=Rule(8, "blocks"), price=price)

    assert found.misfits[0].up_ms == pytest.approx(-0.3) and found.misfits[0].down_ms == pytest.approx(-0.4)
    assert explain(dense, pruned, rule=Rule(8, "blocks")).misfits[0].up_ms is None
    assert explain(dense, pruned, rule=Rule(4, "blocks")).misfits == ()


def test_the_document_has_all_that_people_are_told() -> None:
    found = explain(by_hand((32, 32), 1.0), by_hand((32, 20), 0.9), rule=Rule(8, "blocks"), fingerprint={"gpu": "x"})
    document = found.as_dict()

    assert (
        document["summary"]
        == found.summary
        == (
            "The pruned engine takes 100 µs less than the dense one (latency 1.1 ms → 1 ms). "
            "Saved by convolutions and products off the device's alignment 100 µs."
        )
    )
    assert document["difference_ms"] == pytest.approx(-0.1)
    assert document["causes"][-1]["name"] == "off alignment"
    assert document["misfits"][0]["off"]["up"] == "conv 32→24 1×1 on 4×4"
    assert document["regions"][0]["difference_ms"] == pytest.approx(-0.1)
    assert document["fingerprint"] == {"gpu": "x"}


def test_without_latencies_the_sums_of_layers_are_compared() -> None:
    dense, pruned = (replace(by_hand((32, width), 1.0), measured_ms=None) for width in (32, 24))
    found = explain(dense, pruned)

    assert not found.measured and (found.dense_ms, found.pruned_ms) == (1.0, 1.0)
    assert "sum of layers" in found.summary and "rest" not in {cause.name for cause in found.causes}


def test_a_profile_without_layers_explains_nothing() -> None:
    with pytest.raises(EngineError, match="profile of the pruned engine has no layers"):
        explain(by_hand((32, 32), 1.0), Profile((), Structure()))


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_an_engine_of_a_card_that_is_not_here_is_not_explained(files: tuple[Path, Path]) -> None:
    if resolve("rtx3090").here:
        pytest.skip("needs a machine without an RTX 3090")

    with pytest.raises(EngineError, match="--from-profiles"):
        profiled(*files, RuntimeSpec("tensorrt_rtx", "rtx3090"), (Structure(), Structure()))
