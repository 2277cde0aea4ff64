"""The correlated cost: fitted, stored, shipped, and over the layers of a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwprune.cost.mixture import SUFFIX, Correlated, Mixture, MixtureError, find_mixture
from hwprune.cost.normalisation import NORMALISATIONS, price
from hwprune.cost.work import parameter_names, weight_elements, work
from hwprune.device import GPUS
from hwprune.errors import ProfileError
from hwprune.files import PROFILES
from hwprune.graph.coupling import analyze
from hwprune.models.cifar_resnet import resnet20
from tests.graph.networks import build

ERROR = MixtureError(0.1, 0.9, 0.2, 0.8, 40, 5)
MIXTURE = Mixture("rtx3090", 2e-11, 1e-8, 3e-10, 0.25, ERROR, {"source": "a table", "date": "2026-01-01"})


def test_a_mixture_is_found_again_and_its_errors_are_those_of_its_predictions() -> None:
    rng = np.random.default_rng(0)
    counted = rng.uniform(0.1, 1, (40, 3)) * [4e9, 1e7, 3e7]
    exact = np.array([MIXTURE.latency_ms(*row) for row in counted])
    families = [f"family {i % 5}" for i in range(40)]
    rows = [(row[0], row[1], row[2]) for row in counted.tolist()]

    found = Mixture.fit(rows, exact.tolist(), families, device="rtx3090")
    assert found.macs_ms == pytest.approx(MIXTURE.macs_ms, rel=1e-4)
    assert found.constant_ms == pytest.approx(MIXTURE.constant_ms, rel=1e-4)
    assert found.error.held_out_mape < 1e-6

    noisy = exact * rng.uniform(0.8, 1.2, 40)
    rough = Mixture.fit(rows, noisy.tolist(), families, device="rtx3090")
    off = np.mean([abs(rough.latency_ms(*row) / ms - 1) for row, ms in zip(rows, noisy, strict=True)])
    assert rough.error.mape == pytest.approx(off)
    assert rough.error.mape < rough.error.held_out_mape < 0.2
    assert (rough.error.networks, rough.error.families) == (40, 5)


@pytest.mark.parametrize(("count", "families"), [(7, 7), (20, 1)])
def test_too_few_networks_or_families_are_refused(count: int, families: int) -> None:
    names = [str(i % families) for i in range(count)]

    with pytest.raises(ProfileError, match=f"{count} networks of {families} families"):
        Mixture.fit([(1.0, 1.0, 1.0)] * count, [1.0] * count, names, device="x")


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "resnext50_32x4d"])
def test_over_layers_it_is_the_mixture_of_the_network_counted_whole(name: str) -> None:
    model = resnet20() if name == "resnet20" else build(name)
    shape = (2, 3, 32, 32) if name == "resnet20" else (1, 3, 64, 64)
    network = analyze(model, torch.zeros(shape))
    rng = np.random.default_rng(0)
    for widths in (network.widths, {n: int(rng.integers(1, w + 1)) for n, w in network.widths.items()}):
        counted = work(network, parameter_names(model), widths)
        weights = sum(weight_elements(layer.at(widths)) for layer in network.layers)
        expected = MIXTURE.latency_ms(counted.macs, counted.activation_elements, weights)

        assert Correlated(MIXTURE, network).predict_ms(widths) == pytest.approx(expected)
        assert weights <= counted.parameters
    assert Correlated(MIXTURE, network).share(network.widths) == 1


def test_as_a_price_it_is_the_cost_without_its_constant() -> None:
    network = analyze(resnet20(), torch.zeros(1, 3, 32, 32))
    cost = Correlated(MIXTURE, network)
    ops = price(network, "correlated", parameters=frozenset(), measured=None, correlated=cost)
    narrow = {name: max(1, width // 3) for name, width in network.widths.items()}

    assert "correlated" in NORMALISATIONS
    assert sum(op.at(narrow) for op in ops) + cost.constant_ms == pytest.approx(cost.predict_ms(narrow))
    for normalisation, words in (("correlated", "mixture"), ("latency", "measured table")):
        with pytest.raises(ValueError, match=words):
            price(network, normalisation, parameters=frozenset(), measured=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a mixture"):
        price(network, "memory-measured", parameters=frozenset(), measured=cost)


def test_stored_and_read_again_it_is_the_same(tmp_path: Path) -> None:
    MIXTURE.save(tmp_path / f"rtx3090{SUFFIX}")

    assert find_mixture("rtx3090", tmp_path) == MIXTURE
    assert find_mixture("orin", tmp_path) is None
    assert "40 networks of 5 families (a table, 2026-01-01): 10.0 % off on average, 20.0 %" in str(MIXTURE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 7}, "schema 1"),
        ({"error": None}, "cannot be read"),
        ({"macs_ms": -1.0}, "negative"),
        ({"flavour": "sweet"}, "flavour"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / f"rtx3090{SUFFIX}"
    path.write_text(json.dumps(MIXTURE.as_json() | change))

    with pytest.raises(ProfileError, match=words):
        find_mixture("rtx3090", tmp_path)
    path.write_text("{")
    with pytest.raises(ProfileError, match="damaged"):
        Mixture.load(path)


def test_what_ships_has_its_device_its_source_its_licence_and_its_error() -> None:
    files = sorted(PROFILES.glob(f"*{SUFFIX}"))

    assert {"rtx3090", "rtx4090", "rtx5090"} <= {path.name.removesuffix(SUFFIX) for path in files}
    for path in files:
        mixture = Mixture.load(path)
        assert mixture.device == path.name.removesuffix(SUFFIX)
        assert mixture.device in GPUS
        assert {"source", "licence", "rows", "batch", "precision", "layout", "date"} <= set(mixture.provenance)
        assert mixture.error.mape <= mixture.error.held_out_mape < 0.25
        assert replace(mixture, macs_ms=0.0) != mixture
