"""One-layer models: their shapes and numbers against PyTorch, and their frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import ProfileError
from hwprune.latency.eager import ACTIVATIONS
from hwprune.latency.isolated import (
    MOST_IMAGE_CHANNELS,
    frame_key,
    frame_onnx,
    framed,
    input_shapes,
    layer_module,
    layer_onnx,
    reference_module,
    reference_onnx,
)
from hwprune.latency.onnx_ops import ACTIVATIONS as ONNX_ACTIVATIONS
from hwprune.latency.onnx_ops import NORMS, POOLS, RESIZES
from hwprune.layer import KINDS, Layer

ort = pytest.importorskip("onnxruntime", exc_type=ImportError)

CONV = Layer("conv", 16, 8, size=(6, 5), kernel=(3, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2), out_size=(3, 1))
ON_2X3 = {"size": (2, 3), "out_size": (2, 3)}
SHAPES = [
    CONV,
    replace(CONV, variant="bias", batch=3),
    replace(CONV, group_width=4),
    replace(CONV.at(16, 16), group_width=1),
    Layer("conv", 6, 4, size=(9,), kernel=(3,), stride=(2,), padding=(1,), dilation=(1,), out_size=(5,)),
    Layer("conv", 6, 4, size=(4, 4, 4), kernel=(2, 2, 2), stride=(2, 2, 2), out_size=(2, 2, 2)),
    Layer("conv", 6, 4, size=(4, 4), kernel=(2, 2), stride=(2, 2), variant="transposed", out_size=(8, 8)),
    Layer(
        "conv", 6, 4, size=(4, 4), kernel=(3, 3), stride=(2, 2), padding=(1, 1), variant="transposed", out_size=(8, 8)
    ),
    Layer("linear", 10, 7, batch=2, variant="bias"),
    Layer("linear", 10, 7, batch=2, size=(5,), out_size=(5,)),
    Layer("linear", 10, 7, batch=2, size=(5,), variant="bias", out_size=(5,)),
    *(Layer("norm", 8, 8, variant=variant, group_width=4, **ON_2X3) for variant in NORMS),
    Layer("norm", 8, 8, batch=2, variant="batch_norm"),
    Layer("add", 8, 8, **ON_2X3),
    Layer("mul", 8, 8, variant="broadcast", **ON_2X3),
    Layer("cat", 9, 9, **ON_2X3),
    Layer("pool", 8, 8, size=(7, 7), kernel=(3, 3), stride=(2, 2), variant="max", out_size=(3, 3)),
    Layer("pool", 8, 8, size=(8, 8), kernel=(3, 3), stride=(2, 2), variant="max", out_size=(4, 4)),  # rounded up
    Layer("pool", 8, 8, size=(7, 7), kernel=(2, 2), stride=(2, 2), variant="avg", out_size=(3, 3)),
    Layer("pool", 8, 8, size=(7, 7), variant="adaptive_avg", out_size=(1, 1)),
    Layer("pool", 8, 8, size=(7, 7), variant="adaptive_avg", out_size=(7, 7)),
    Layer("pool", 8, 8, size=(13, 13), variant="adaptive_max", out_size=(6, 6)),
    *(Layer("activation", 8, 8, size=(3, 3), variant=variant, out_size=(6, 6)) for variant in RESIZES),
    Layer("activation", 8, 8, size=(5,), variant="native_layer_norm", out_size=(5,)),
    *(Layer("activation", 8, 8, variant=variant, **ON_2X3) for variant in ACTIVATIONS),
]


def bare(layer: Layer) -> Layer:
    """The same kind of layer where it has no frame."""
    return replace(layer, size=(*layer.size, 1), out_size=(*layer.out_size, 1)) if framed(layer) else layer


def run(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


@pytest.mark.parametrize("layer", SHAPES, ids=lambda layer: f"{layer} {layer.variant}")
def test_the_module_and_the_onnx_model_have_the_sizes_that_the_layer_states(layer: Layer) -> None:
    module, inputs = layer_module(layer)
    output = module(*inputs)
    model = onnx.load_from_string(layer_onnx(layer))
    inner = list(model.graph.value_info) + list(model.graph.output)
    shapes = {tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in inner}

    assert [tuple(x.shape) for x in inputs] == input_shapes(layer)
    assert tuple(output.shape) in shapes
    assert output.shape[-1 if layer.kind == "linear" else 1] == layer.c_out
    onnx.checker.check_model(model, full_check=True)


SAME_NUMBERS = sorted(set(ACTIVATIONS) & set(ONNX_ACTIVATIONS) - {"prelu", "_prelu_kernel"})


@pytest.mark.parametrize("variant", SAME_NUMBERS)
def test_onnx_and_pytorch_mean_the_same_function(variant: str) -> None:
    layer = Layer("activation", MOST_IMAGE_CHANNELS, MOST_IMAGE_CHANNELS, variant=variant, **ON_2X3)
    module, inputs = layer_module(layer)
    positive = [x.abs() + 0.1 for x in inputs]

    (found,) = run(layer_onnx(layer), [x.numpy() for x in positive])

    np.testing.assert_allclose(found, module(*positive).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("variant", sorted(POOLS))
def test_pools_mean_the_same_function(variant: str) -> None:
    out = (2, 2)
    layer = Layer("pool", 3, 3, size=(4, 4), kernel=(2, 2), stride=(2, 2), variant=variant, out_size=out)
    module, inputs = layer_module(layer)

    (found,) = run(layer_onnx(layer), [x.numpy() for x in inputs])

    np.testing.assert_allclose(found, module(*inputs).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("activation", "norm", "pool", "conv")])
def test_an_unknown_variant_is_refused_by_name(kind: str) -> None:
    layer = Layer(kind, 8, 8, size=(4, 4), kernel=(1, 1), variant="frobnicate", out_size=(4, 4))  # type: ignore[arg-type]

    with pytest.raises(ProfileError, match="frobnicate"):
        layer_onnx(layer)
    with pytest.raises(ProfileError, match="frobnicate"):
        layer_module(layer)


@given(data=st.data())
def test_layers_with_equal_keys_have_equal_frames(data: st.DataObject) -> None:
    kinds = st.sampled_from(["conv", "pool", "add", "norm", "cat", "mul"])
    images = st.builds(
        lambda kind, c_in, c_out, size: Layer(
            kind, c_in, c_out, size=(size, size), kernel=(1, 1), variant="max" if kind == "pool" else "",
            out_size=(size, size),
        ),
        kinds, st.integers(5, 7), st.integers(5, 6), st.integers(2, 3),
    )  # fmt: skip
    one, other = data.draw(images), data.draw(images)

    assert (frame_key(one) == frame_key(other)) == (frame_onnx(one) == frame_onnx(other))


def test_a_frame_is_the_layers_own_model_without_the_layer() -> None:
    with_layer, without = onnx.load_from_string(layer_onnx(CONV)), onnx.load_from_string(frame_onnx(CONV) or b"")

    assert [node.op_type for node in with_layer.graph.node] == ["Conv", "Conv", "Relu", "MaxPool"]
    assert [node.op_type for node in without.graph.node] == ["Conv", "MaxPool"]
    assert with_layer.graph.input == without.graph.input


def test_what_reads_the_networks_input_or_tokens_has_no_frame() -> None:
    stem = Layer("conv", 3, 64, size=(8, 8), kernel=(3, 3), out_size=(6, 6))
    tokens = Layer("linear", 64, 64, size=(16,))

    assert frame_onnx(stem) is None and frame_onnx(tokens) is None


def test_the_same_layer_gives_the_same_model() -> None:
    one, other = layer_module(CONV)[0], layer_module(CONV)[0]

    assert layer_onnx(CONV) == layer_onnx(CONV)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_making_a_module_leaves_the_random_numbers_of_the_user_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    layer_module(CONV)

    torch.testing.assert_close(torch.randn(3), expected)


def test_the_reference_is_the_same_work_for_both_kinds_of_runtime() -> None:
    module, inputs = reference_module()
    (found,) = run(reference_onnx(), [x.numpy() for x in inputs])

    assert found.shape == tuple(module(*inputs).shape) == (1, 64, 40, 40)
