from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.device import Device
from hwprune.layer import Layer
from hwprune.runtimes.select import RuntimeSpec
from hwprune.validation.alignment import Rule, off_alignment, rule_for

CUDA, CPU = Device("rtx3090", "cuda", None, (8, 6), here=False), Device("cpu", "cpu")
BLOCKS = Rule(16, "blocks", least=4, linear=False)
CONV = Layer("conv", 29, 26, size=(8, 8), kernel=(3, 3), out_size=(8, 8))


@pytest.mark.parametrize(("precision", "multiple"), [("fp16", 8), ("bf16", 8), ("tf32", 4), ("fp8", 16), ("int8", 32)])
def test_tensor_cores_have_a_multiple_for_each_precision(precision: str, multiple: int) -> None:
    rule = rule_for(RuntimeSpec("tensorrt_rtx", "rtx3090", precision), CUDA, "")

    assert rule is not None and rule.multiple == multiple and rule.linear and rule.least == 1


def test_cuda_cores_take_any_width() -> None:
    assert rule_for(RuntimeSpec("tensorrt", "cuda", "fp32"), CUDA, "") is None


@pytest.mark.parametrize(("flags", "block"), [("sse avx2 avx512f avx512_vnni", 16), ("sse avx2", 8), ("", 8)])
def test_processors_work_in_blocks_of_their_vectors(flags: str, block: int) -> None:
    onnxruntime, openvino = (rule_for(RuntimeSpec(name, "cpu"), CPU, flags) for name in ("onnxruntime", "openvino"))

    assert onnxruntime is not None and (onnxruntime.multiple, onnxruntime.least) == (block, 4)
    assert openvino is not None and (openvino.multiple, openvino.least) == (block, 1)


@given(st.integers(1, 600), st.sampled_from([4, 8, 16, 32]))
def test_the_next_multiples_enclose_a_width(width: int, multiple: int) -> None:
    rule = Rule(multiple, "")

    assert rule.down(width) <= width <= rule.up(width)
    assert rule.up(width) - rule.down(width) == (0 if rule.fits(width) else multiple)
    assert rule.fits(rule.up(width)) and rule.fits(rule.down(width))


def test_widths_at_fault_are_named_with_the_layers_on_either_side() -> None:
    found = off_alignment("c", BLOCKS, (29, 26), (32, 32), CONV)

    assert found is not None and found.at_fault == (29, 26) and found.leaves_layout
    assert found.up == CONV.at(32, 32) and found.down == CONV.at(16, 16)


def test_widths_that_the_dense_network_had_are_not_the_pruning_s() -> None:
    assert off_alignment("stem", BLOCKS, (3, 32), (3, 64)) is None
    assert off_alignment("head", BLOCKS, (32, 10), (64, 10)) is None
    found = off_alignment("stem", BLOCKS, (3, 24), (3, 64), CONV.at(3, 24))
    assert found is not None and found.at_fault == (24,) and not found.leaves_layout
    assert found.up == CONV.at(3, 32) and found.down == CONV.at(3, 16)


def test_there_is_no_layer_without_channels() -> None:
    found = off_alignment("c", BLOCKS, (13, 32), (16, 32), CONV.at(13, 32))

    assert found is not None and found.down is None and found.up == CONV.at(16, 32)


def test_depthwise_layers_move_as_a_whole_and_groups_stay_whole() -> None:
    depthwise = Layer("conv", 20, 20, size=(8, 8), kernel=(3, 3), group_width=1, out_size=(8, 8))
    found = off_alignment("d", BLOCKS, (20, 20), (32, 32), depthwise)
    assert found is not None and found.up == depthwise.at(32, 32)

    grouped = Layer("conv", 36, 32, size=(8, 8), kernel=(3, 3), group_width=9, out_size=(8, 8))
    found = off_alignment("g", BLOCKS, (36, 32), (72, 32), grouped)
    assert found is not None and found.up is None and found.down is None


def test_products_on_processors_have_no_such_rule() -> None:
    linear = Layer("linear", 55, 10)

    assert off_alignment("fc", BLOCKS, (55, 10), (64, 10), linear) is None
    assert off_alignment("fc", Rule(8, ""), (55, 10), (64, 10), linear) is not None
