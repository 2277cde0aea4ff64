"""What users ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import TargetError
from hwprune.target import QUANTITIES, Target


@pytest.mark.parametrize(
    ("text", "quantity", "value", "relative"),
    [
        ("60%", "latency", 0.6, True),
        (" 12.5 % ", "latency", 0.125, True),
        ("1.5ms", "latency", 1.5, False),
        ("800us", "latency", 0.8, False),
        ("800 µs", "latency", 0.8, False),
        ("0.002s", "latency", 2.0, False),
        ("latency:70%", "latency", 0.7, True),
        ("macs:2G", "macs", 2e9, False),
        ("macs=50%", "macs", 0.5, True),
        ("params: 10M", "params", 1e7, False),
        ("memory:500k", "memory", 5e5, False),
        ("params:12345", "params", 12345.0, False),
    ],
)
def test_what_people_type_is_read(text: str, quantity: str, value: float, relative: bool) -> None:
    found = Target.parse(text)

    assert (found.quantity, found.relative) == (quantity, relative)
    assert found.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "60", "fast", "-5%", "0%", "0ms", "60%%", "macs:2ms", "2G", "flops:50%", "params:1KB", "nan%", "1e3ms"]
)
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(TargetError, match="cannot read the target") as caught:
        Target.parse(text)
    assert "macs:2G" in str(caught.value)


@given(st.sampled_from(QUANTITIES), st.floats(0.01, 99.99))
def test_a_share_means_the_same_of_any_dense_network(quantity: str, percent: float) -> None:
    target = Target.parse(f"{quantity}:{percent:.4f}%")

    assert target.ratio(1.0) == target.ratio(123.0) == pytest.approx(percent / 100, abs=1e-6)


@given(st.floats(0.001, 1e6), st.floats(0.001, 0.999))
def test_an_amount_becomes_its_share_of_the_dense_network(dense: float, share: float) -> None:
    assert Target("macs", dense * share, False).ratio(dense) == pytest.approx(share)


@pytest.mark.parametrize("target", [Target("latency", 1.0, True), Target("macs", 100.0, False)])
def test_a_target_that_is_met_already_is_refused(target: Target) -> None:
    with pytest.raises(TargetError, match="not below"):
        target.ratio(100.0)
