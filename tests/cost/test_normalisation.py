"""Prices are sums over operators; the sums must be what counting the cut network gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwprune.cost.normalisation import mac_ops, memory_ops, parameter_ops, price
from hwprune.cost.work import parameter_names, work
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.models.cifar_resnet import resnet20
from hwprune.plan import Plan
from tests.graph.networks import build

NETWORKS = {
    "resnet20": (resnet20, (1, 3, 32, 32)),
    "resnext50_32x4d": (lambda: build("resnext50_32x4d"), (1, 3, 64, 64)),
    "mobilenet_v2": (lambda: build("mobilenet_v2"), (2, 3, 64, 64)),
    "densenet121": (lambda: build("densenet121"), (1, 3, 64, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_work_is_that_of_the_network_cut_for_real(name: str) -> None:
    make, shape = NETWORKS[name]
    model = make()
    network, names = analyze(model, torch.zeros(shape)), parameter_names(model)
    rng = np.random.default_rng(0)
    widths = {group.name: int(rng.integers(1, group.width + 1)) for group in network.free}
    small = cut(model, Plan.keeping(network, {n: list(range(w)) for n, w in widths.items()}), network)

    predicted = work(network, names, widths)
    counted = work(analyze(small, torch.zeros(shape)), names)

    assert predicted == counted
    assert predicted.parameters == sum(parameter.numel() for parameter in small.parameters())
    assert sum(op.at(widths) for op in mac_ops(network)) == predicted.macs
    assert sum(op.at(widths) for op in parameter_ops(network, names)) == predicted.parameters
    assert sum(op.at(widths) for op in memory_ops(network)) == predicted.activation_elements


def test_a_measured_price_needs_measurements_and_no_price_counts_channels() -> None:
    network = analyze(resnet20(), torch.zeros(1, 3, 32, 32))

    assert price(network, "none", parameters=frozenset(), measured=None) == ()
    with pytest.raises(ValueError, match="measured table"):
        price(network, "latency", parameters=frozenset(), measured=None)
