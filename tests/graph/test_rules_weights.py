"""The law for weights that are computed on the way: standardised, normalised, parametrised."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from hwprune.errors import HwpruneError
from hwprune.graph.coupling import analyze
from tests.graph.laws import IMAGE, Case, check, conv


class Standardised(nn.Conv2d):
    """Weights normalised over their inputs on the way, as in normaliser-free networks."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        new = functional.batch_norm(rows, None, None, training=True).reshape_as(self.weight)
        return functional.conv2d(x, new, self.bias, padding=self.padding)


class ByHand(nn.Conv2d):
    """The same with mean and variance written out."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias, padding=self.padding)


def normalised(make) -> Case:
    return Case(lambda: nn.Sequential(conv(3, 8), nn.ReLU(), make(), conv(6, 2)), "2:6")


WEIGHTS = {
    "standardised": normalised(lambda: Standardised(8, 6, 3, padding=1)),
    "standardised_by_hand": normalised(lambda: ByHand(8, 6, 3, padding=1)),
}


PARAMETRISED = {
    "weight_norm": lambda: parametrizations.weight_norm(conv(8, 6, 3)),
    "weight_norm_of_everything": lambda: parametrizations.weight_norm(conv(8, 6, 3), dim=None),
    "spectral_norm": lambda: parametrizations.spectral_norm(conv(8, 6, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(conv(8, 6)),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_normalised_on_the_way_keep_the_law(name: str) -> None:
    check(WEIGHTS[name])


@pytest.mark.parametrize("name", PARAMETRISED)
def test_parametrised_weights_are_handled_or_refused(name: str) -> None:
    """A parametrisation holds the weight in parts of its own: cut rightly, kept with a reason, or refused in words."""
    case = Case(lambda: nn.Sequential(conv(3, 8), PARAMETRISED[name](), conv(6, 2)))
    try:
        analyze(case.build(), IMAGE)
    except HwpruneError:
        return
    check(case)
