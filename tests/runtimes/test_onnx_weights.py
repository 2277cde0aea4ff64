"""A graph that took a pruned network's weights is the graph that the pruned network exports."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwprune.errors import EngineError
from hwprune.runtimes.onnx_export import export, with_weights
from hwprune.runtimes.onnxruntime import OnnxRuntime
from tests.runtimes.networks import Small, images, trained

DENSE = export(trained(Small()), (images(),))


def outputs(graph: bytes, x: Tensor) -> np.ndarray:
    return OnnxRuntime().build_onnx(graph).run([x.numpy()])[0]


@settings(max_examples=15)
@given(st.integers(1, 16), st.integers(1, 24), st.integers(0, 99))
def test_the_graph_computes_what_the_narrower_network_computes(width: int, hidden: int, seed: int) -> None:
    narrow = trained(Small(width, hidden), seed)
    got = outputs(with_weights(DENSE, narrow), images())

    np.testing.assert_allclose(got, narrow(images()).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_resnet18_with_narrower_blocks_equals_its_own_export() -> None:
    x = images(size=32)
    dense = torchvision.models.resnet18(num_classes=10).eval()
    graph = export(dense, (x,))
    for stage, width in ((dense.layer1, 24), (dense.layer2, 100), (dense.layer4, 77)):
        for block in stage:
            inner = block.conv1.out_channels
            kept = torch.arange(inner)[:width]
            block.conv1 = _cut(block.conv1, kept, 0)
            block.bn1 = _cut_norm(block.bn1, kept)
            block.conv2 = _cut(block.conv2, kept, 1)
    got = outputs(with_weights(graph, dense), x)

    np.testing.assert_allclose(got, outputs(export(dense, (x,)), x), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(got, dense(x).detach().numpy(), rtol=1e-3, atol=1e-5)


def test_convolution_groups_follow_the_pruned_module() -> None:
    def grouped(width: int) -> nn.Module:
        middle = nn.Conv2d(width, width, 3, groups=width // 4)
        return nn.Sequential(nn.Conv2d(3, width, 1), middle, nn.Conv2d(width, 5, 1))

    narrow = trained(grouped(12))
    got = outputs(with_weights(export(trained(grouped(32)), (images(),)), narrow), images())

    np.testing.assert_allclose(got, narrow(images()).detach().numpy(), rtol=1e-4, atol=1e-5)


class Shuffled(nn.Module):
    """A channel shuffle: its sizes are constants of the graph."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        batch, width, height, length = x.shape
        x = x.view(batch, 2, width // 2, height, length).transpose(1, 2)
        return self.second(x.reshape(batch, width, height, length))


class Attention(nn.Module):
    """The scale of attention is a constant worked out from the width of a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, width) for _ in range(3))
        self.out = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (project(x).unsqueeze(1) for project in (self.q, self.k, self.v))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1))


class Sliced(nn.Module):
    """Halves taken at a place that the code worked out from the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, width, 1), nn.Conv2d(width // 2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        half = x.shape[1] // 2
        return self.second(x[:, :half] * x[:, half:])


@pytest.mark.parametrize(
    ("kind", "x"),
    [(Shuffled, images()), (Attention, torch.randn(1, 5, 6)), (Sliced, images())],
    ids=["shuffle", "attention", "slice"],
)
def test_a_graph_with_widths_in_its_constants_is_refused_and_taken_at_the_same_width(
    kind: type[nn.Module], x: Tensor
) -> None:
    graph = export(trained(kind(16)), (x,))
    same = trained(kind(16), seed=3)

    with pytest.raises(EngineError, match="cannot take"):
        with_weights(graph, trained(kind(8)))
    np.testing.assert_allclose(outputs(with_weights(graph, same), x), same(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_weights_that_do_not_fit_together_are_refused() -> None:
    broken = trained(Small(8))
    broken.stem = nn.Conv2d(3, 7, 3, padding=1, bias=False)

    with pytest.raises(EngineError, match="cannot take"):
        with_weights(DENSE, broken)


def _cut(conv: nn.Conv2d, kept: Tensor, dim: int) -> nn.Conv2d:
    weight = conv.weight.detach().index_select(dim, kept)
    smaller = nn.Conv2d(weight.shape[1], weight.shape[0], conv.kernel_size, conv.stride, conv.padding, bias=False)
    smaller.weight = nn.Parameter(weight)
    return smaller.eval()


def _cut_norm(norm: nn.BatchNorm2d, kept: Tensor) -> nn.BatchNorm2d:
    smaller = nn.BatchNorm2d(len(kept))
    smaller.load_state_dict(
        {name: tensor[kept] if tensor.dim() else tensor for name, tensor in norm.state_dict().items()}
    )
    return smaller.eval()


def test_kernels_of_another_size_are_refused() -> None:
    dense, other = (nn.Sequential(nn.Conv2d(3, 4, size, padding=size // 2)) for size in (3, 1))
    with pytest.raises(EngineError, match=r"kernels of \(1, 1\)") as caught:
        with_weights(export(dense.eval(), (images(),)), other)

    assert "0.weight" in str(caught.value)


def test_channels_that_a_padding_module_makes_follow_the_pruned_module() -> None:
    torch.manual_seed(0)
    dense, narrow = Padded(8, 2, 4), Padded(6, 1, 3)
    x = torch.randn(1, 3, 8, 8)

    model = with_weights(export(dense, (x,)), narrow)

    assert model.count(b"/pads") > 0
    (found,) = OnnxRuntime().build_onnx(model).run([x.numpy()])
    np.testing.assert_allclose(found, narrow(x).detach().numpy(), rtol=1e-4, atol=1e-5)


class Padded(nn.Module):
    """The option-A shortcut of CIFAR ResNets: a strided slice, and channels of zeros on both sides."""

    def __init__(self, width: int, before: int, after: int) -> None:
        super().__init__()
        self.stem, self.pad = nn.Conv2d(3, width, 1), nn.ZeroPad3d((0, 0, 0, 0, before, after))
        self.body = nn.Conv2d(width, width + before + after, 1, stride=2)
        self.head = nn.Conv2d(width + before + after, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        return self.head(self.body(y) + self.pad(y[:, :, ::2, ::2])).mean((2, 3))


def test_a_layer_in_the_place_of_another_is_refused_where_all_widths_stay() -> None:
    # Its tensors have other names, so the graph would keep the weights of the layer that is gone.
    written = trained(Small())
    written.point = nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.Conv2d(4, 16, 1, bias=False))

    with pytest.raises(EngineError, match="only one of the two networks has") as caught:
        with_weights(DENSE, written)
    assert "point.0.weight, point.1.weight, point.weight" in str(caught.value)


def test_a_graph_that_does_not_name_its_networks_tensors_is_refused() -> None:
    graph = onnx.load_model_from_string(DENSE)
    del graph.metadata_props[:]

    with pytest.raises(EngineError, match="does not say which tensors"):
        with_weights(graph.SerializeToString(), trained(Small()))
