"""Rewriting layers in a run, where that is measured to be faster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import hwprune
from hwprune.errors import DeviceError
from hwprune.loop import transforming
from hwprune.loop.transforming import FILE, Written
from hwprune.runtimes.onnxruntime import OnnxRuntime
from hwprune.transform.base import Rewriting
from tests import tiny
from tests.test_pruning import QUICK, prune

HERE = "tests.loop.test_transforming"
ASKED = replace(QUICK, importance="magnitude", normalisation="none")


class Centre:
    """A convolution by the middle of its kernel alone: a ninth of the work."""

    name = "centre"

    def proposals(self, layer: nn.Module) -> Sequence[Mapping[str, int]]:
        wide = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.in_channels > 3
        return ({"middle": 1},) if wide else ()

    def rewritten(self, layer: nn.Module, options: Mapping[str, int]) -> nn.Module:
        assert isinstance(layer, nn.Conv2d)
        found = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None)
        with torch.no_grad():
            found.weight.copy_(layer.weight[..., options["middle"], options["middle"]][..., None, None])
        return found


class Longer(Centre):
    """The same layer and another one behind it."""

    name = "longer"

    def rewritten(self, layer: nn.Module, options: Mapping[str, int]) -> nn.Module:
        assert isinstance(layer, nn.Conv2d)
        return nn.Sequential(layer, nn.Conv2d(layer.out_channels, layer.out_channels, 3, padding=1))


class Dilated(Centre):
    """The same kernel, with holes between its values."""

    name = "dilated"

    def rewritten(self, layer: nn.Module, options: Mapping[str, int]) -> nn.Module:
        assert isinstance(layer, nn.Conv2d)
        found = nn.Conv2d(layer.in_channels, layer.out_channels, 3, layer.stride, 2, 2, bias=layer.bias is not None)
        found.load_state_dict(layer.state_dict())
        return found


@pytest.mark.parametrize("runtime", ["pytorch", "onnxruntime"])
def test_a_faster_layer_is_delivered_counted_certified_and_loaded(tmp_path: Path, runtime: str) -> None:
    result = prune(tmp_path, "macs:60%", replace(ASKED, runtime=runtime, transform=f"{HERE}:Centre"))
    kept = json.loads((tmp_path / "run" / FILE).read_text(encoding="utf-8"))["rewritings"]
    rewritten = {one["module"] for one in kept}
    assert rewritten and rewritten <= {"3", "6"}

    for name in ("3", "6"):
        assert result.model.get_submodule(name).kernel_size == ((1, 1) if name in rewritten else (3, 3))
    searched, delivered = result.candidates[-2:]
    assert delivered.macs == result.pruned.macs < searched.macs and delivered.widths == searched.widths
    assert result.certificate is not None and result.certificate.comparison.ratio < 1
    assert len(result.certificate.dense_blocks_ms) <= 12, "rebuilds of this network alone"
    x = torch.rand(2, 3, tiny.SIDE, tiny.SIDE)
    loaded = hwprune.load(tmp_path / "run", tiny.network())
    torch.testing.assert_close(loaded(x), result.model(x))


@pytest.mark.parametrize("transform", ["Centre", "Dilated", "Longer"])
def test_what_is_delivered_as_a_graph_is_the_rewritten_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str
) -> None:
    # One keeps the names of tensors, one those and the kernels' sizes, one no name.
    rewriting = Rewriting("3", {"middle": 1})
    monkeypatch.setattr(transforming._Timed, "faster_layers", lambda self: [rewriting])
    monkeypatch.setattr(transforming._Timed, "ratio", lambda self, rewritings: 0.9)
    result = prune(tmp_path, "macs:60%", replace(ASKED, runtime="onnxruntime", transform=f"{HERE}:{transform}"))

    assert Written.load(tmp_path / "run").rewritings == (rewriting,)
    delivered = next((tmp_path / "run" / "candidates" / "delivered").glob("*.onnx"))
    x = torch.rand(1, 3, tiny.SIDE, tiny.SIDE)
    for file in (tmp_path / "run" / "model.onnx", delivered):
        (found,) = OnnxRuntime().build_onnx(file).run([x.numpy()])
        torch.testing.assert_close(torch.from_numpy(found), result.model(x).detach(), rtol=1e-4, atol=1e-5)


def test_what_is_not_faster_is_left_as_it_is(tmp_path: Path) -> None:
    result = prune(tmp_path, "macs:60%", replace(ASKED, transform=f"{HERE}:Longer"))

    assert Written.load(tmp_path / "run").rewritings == ()
    assert result.model.get_submodule("3").kernel_size == (3, 3)
    assert result.candidates[-1].macs == result.candidates[-2].macs


def test_layers_that_are_faster_alone_but_not_together_are_taken_back_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = iter([1.02, 0.99])
    both = [Rewriting("6", {"middle": 1}), Rewriting("3", {"middle": 1})]
    monkeypatch.setattr(transforming._Timed, "faster_layers", lambda self: both)
    monkeypatch.setattr(transforming._Timed, "ratio", lambda self, rewritings: next(ratios))
    prune(tmp_path, "macs:60%", replace(ASKED, transform=f"{HERE}:Centre"))

    assert Written.load(tmp_path / "run").rewritings == (both[0],)


def test_the_papers_transform_runs(tmp_path: Path) -> None:
    result = prune(tmp_path, "macs:60%", replace(ASKED, transform="filter-group-approximation,least=8"))
    found = Written.load(tmp_path / "run")

    assert all(one.module in ("3", "6") for one in found.rewritings)
    assert hwprune.load(tmp_path / "run", tiny.network())(torch.rand(1, 3, tiny.SIDE, tiny.SIDE)).shape == (1, 4)
    assert result.pruned.macs <= 0.6 * result.dense.macs


def test_a_device_that_is_not_here_tells_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(DeviceError, match="nothing tells whether a rewritten layer is faster"):
        prune(
            tmp_path,
            "macs:60%",
            replace(ASKED, runtime=None, transform="filter-group-approximation"),
            device="rtx3090",
        )

    assert not (tmp_path / "run").exists()
