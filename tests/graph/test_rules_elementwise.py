"""The law for element-wise operators, and for what makes new tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from hwprune.graph.rules import RULES
from tests.graph.laws import Case, Net, around, check, keeps


def _names(text: str) -> list[str]:
    return text.split()


UNARY = _names("""
    abs acos angle asin asinh atan atanh bitwise_not ceil conj_physical cos cosh deg2rad digamma erf erfc erfinv exp
    exp2
    expm1 floor frac i0 isfinite isinf isnan isneginf isposinf lgamma log log10 log1p log2 logical_not logit nan_to_num
    neg positive rad2deg reciprocal relu round rsqrt sgn sigmoid sign signbit sin sinc sinh sqrt square tan tanh trunc
""")


ACTIVATIONS = _names("""
    celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 rrelu selu silu softplus
    softshrink softsign tanhshrink dropout alpha_dropout feature_alpha_dropout dropout2d threshold
""")


BINARY = _names("""
    add atan2 copysign div eq float_power floor_divide fmax fmin fmod ge gt heaviside hypot ldexp le logaddexp
    logaddexp2 logical_and logical_or logical_xor lt maximum minimum mul ne nextafter pow remainder sub true_divide
    xlogy bitwise_and bitwise_or bitwise_xor gcd lcm bitwise_left_shift bitwise_right_shift
""")


WHOLE = {
    "bitwise_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "gcd",
    "lcm",
    "bitwise_left_shift",
    "bitwise_right_shift",
}


TERNARY = {
    "addcmul": lambda a, b, c: torch.addcmul(a, b, c, value=0.5),
    "addcdiv": lambda a, b, c: torch.addcdiv(a, b, c),
    "lerp": torch.lerp,
    "where": lambda a, b, c: torch.where(a > 0.5, b, c),
    "clamp": lambda a, b, c: torch.clamp(a, torch.minimum(b, c), torch.maximum(b, c)),
    "masked_fill": lambda a, b, c: (a * c).masked_fill(b > 0.5, 2.0),
}


def _positive(t: torch.Tensor) -> torch.Tensor:
    return t.sigmoid() * 0.8 + 0.1


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tensor_pass_channels(name: str) -> None:
    function, whole = getattr(torch, name), name in WHOLE

    def run(t: torch.Tensor) -> torch.Tensor:
        given = _positive(t)
        return function((given * 9).int() if whole else given).to(t.dtype)

    check(keeps(run, free="a:8"), plans=1)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_pass_channels(name: str) -> None:
    function = getattr(functional, name)
    limits = (0.1, 0.2) if name == "threshold" else ()
    off = {"training": False} if "dropout" in name else {}

    check(keeps(lambda t: function(t, *limits, **off), free="a:8"), plans=1)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_tensors_tie_their_channels(name: str) -> None:
    function, whole = getattr(torch, name), name in WHOLE

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        given = [_positive(net.a(x)), _positive(net.b(x))]
        return net.c(function(*((2 + t * 9).int() if whole else t for t in given)).to(x.dtype))

    case = Case(lambda: Net(run, a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(3, 6, 1), c=nn.Conv2d(6, 2, 1)), free="a:6")
    assert check(case, plans=1).widths == {"a": 6}


@pytest.mark.parametrize("name", TERNARY)
def test_functions_of_three_tensors_tie_their_channels(name: str) -> None:
    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        return net.d(TERNARY[name](*(_positive(layer(x)) for layer in (net.a, net.b, net.c))))

    layers = {key: nn.Conv2d(3, 6, 1) for key in "abc"}
    assert check(Case(lambda: Net(run, **layers, d=nn.Conv2d(6, 2, 1)), free="a:6"), plans=1).widths == {"a": 6}


def pointwise() -> Iterator[str]:
    """Names of the operators that torch itself declares to be element-wise, as a trace has them."""
    for qualified in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = qualified.partition("::")
        name, _, overload = rest.partition(".")
        operator = getattr(getattr(torch.ops.aten, name, None), overload or "default", None)
        if namespace == "aten" and operator is not None and torch.Tag.pointwise in operator.tags and name != "equal":
            yield name if name.startswith("_") or not name.endswith("_") else name.rstrip("_")


def test_every_operator_that_torch_calls_element_wise_has_a_rule() -> None:
    without = {name for name in pointwise() if name not in RULES}

    assert not {name for name in without if not name.startswith("special_") and not name.endswith("_backward")}


MADE = {
    "zeros_like": keeps(lambda t: t + torch.zeros_like(t)),
    "like_and_joined": keeps(lambda t: torch.cat([t, torch.full_like(t, 0.5)], 1)),
    "ones_of_its_shape": keeps(lambda t: t * torch.ones(t.shape, dtype=t.dtype)),
    "new_zeros": keeps(lambda t: torch.cat([t, t.new_zeros(t.shape[0], t.shape[1], 1, 4)], 2)),
    "mask_of_space": keeps(lambda t: t * torch.ones(1, 1, 4, 4).to(t)),
    "numbered_channels": Case(lambda: around(lambda t: t * torch.arange(t.shape[1]).to(t).view(-1, 1, 1)), stays="a"),
    "buffer": Case(
        lambda: Net(
            lambda n, x: n.b(n.a(x) * n.gain), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1), gain=torch.randn(1, 8, 1, 1)
        ),
        "a:8",
    ),
    "buffer_of_one": Case(
        lambda: Net(lambda n, x: n.b(n.a(x) * n.gain), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1), gain=torch.ones(1)),
        "a:8",
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_new_tensors_keep_the_law(name: str) -> None:
    check(MADE[name])
