from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwprune.cost.work import parameter_names, work
from hwprune.errors import ModelError, UnknownOpError
from hwprune.graph.coupling import analyze
from hwprune.graph.rules import RULES, follow
from hwprune.models.cifar_resnet import resnet20
from tests.graph.networks import build


class Between(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, operation, width: int = 8) -> None:
        super().__init__()
        self.first, self.operation = nn.Conv2d(3, width, 1), operation
        with torch.no_grad():
            channels = operation(self.first(torch.zeros(1, 3, 4, 4))).shape[1]
        self.last = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operation(self.first(x)))


X = torch.zeros(1, 3, 4, 4)


def test_resnet50_has_the_published_work() -> None:
    model = build("resnet50")
    total = work(analyze(model, torch.zeros(1, 3, 224, 224)), parameter_names(model))

    assert (total.macs, total.parameters, total.activation_elements) == (4_089_184_256, 25_557_032, 11_113_984)


def test_residual_blocks_share_one_group_and_name_it_after_the_first_convolution() -> None:
    network = analyze(build("resnet18"), torch.zeros(1, 3, 64, 64))

    assert network.widths["conv1"] == 64
    assert network.group("conv1").members[:2] == ("conv1", "bn1")
    assert set(network.group("conv1").consumers) >= {"layer1.0.conv1", "layer1.1.conv1", "layer2.0.downsample.0"}


def test_a_dense_block_has_one_group_per_producer() -> None:
    network = analyze(build("densenet121"), torch.zeros(1, 3, 64, 64))

    assert network.widths["features.denseblock1.denselayer3.conv2"] == 32
    assert len(network.free) == 120


def test_the_padding_of_a_cifar_resnet_is_free_and_groups_with_the_block_it_feeds() -> None:
    network = analyze(resnet20(), torch.zeros(1, 3, 32, 32))

    assert network.widths["conv1"] == 16  # through all three stages
    assert network.widths["layer2.0.conv2"] == 16  # eight padded channels before and eight behind
    assert network.widths["layer3.0.conv2"] == 32


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda t: t.softmax(1), "mixed over all"),
        (lambda t: t.roll(1, 1), "is rolled"),
        (lambda t: t[:, :4], "a size written into the code: slice"),
        (lambda t: t - t.mean(1, keepdim=True), None),
        (lambda t: t.cumsum(1), "mixed over all"),
        (lambda t: torch.cat([t, torch.ones_like(t)], 1), None),
        (lambda t: nn.functional.pad(t, (0, 0, 0, 0, 1, 1)), None),
        (lambda t: nn.functional.group_norm(t, 2), "a size written into the code: native_group_norm"),
        (lambda t: nn.functional.group_norm(t, 1), None),
    ],
    ids=["softmax", "roll", "slice", "mean", "cumsum", "cat_constant", "literal_pad", "group_norm", "one_group_norm"],
)
def test_what_needs_every_channel_pins_them_and_says_why(operation, reason: str | None) -> None:
    network = analyze(Between(operation), X)
    reasons = " ".join(group.pinned or "" for group in network.groups)

    assert ("first" in network.widths) == (reason is None)
    assert reason is None or reason in reasons


def test_weight_standardisation_spans_the_inputs_of_a_convolution() -> None:
    class Standardised(nn.Conv2d):
        """Weights normalised over their inputs on the way, as in normaliser-free networks."""

        def forward(self, x: Tensor) -> Tensor:
            rows = self.weight.reshape(1, len(self.weight), -1)
            weight = nn.functional.batch_norm(rows, None, None, training=True).reshape_as(self.weight)
            return nn.functional.conv2d(x, weight, self.bias)

    network = analyze(nn.Sequential(nn.Conv2d(3, 8, 1), Standardised(8, 6, 1), nn.Conv2d(6, 2, 1)), X)

    assert network.widths == {"0": 8, "1": 6}
    assert [str(span) for span in network.spanning] == ["a batch norm that averages over channels in '1'"]


def test_an_unknown_op_is_pinned_or_refused_and_never_passed() -> None:
    model = Between(lambda t: torch.special.bessel_j0(t))

    assert "first" not in analyze(model, X).widths
    with pytest.raises(UnknownOpError, match="special_bessel_j0"):
        analyze(model, X, on_unknown="refuse")


def test_a_user_can_teach_an_operator_for_one_call_only() -> None:
    model = Between(lambda t: torch.special.bessel_j0(t))

    assert analyze(model, X, rules={**RULES, "special_bessel_j0": follow}).widths == {"first": 8}
    assert analyze(model, X).widths == {}


def test_excluded_modules_stay_and_a_pattern_that_matches_nothing_is_an_error() -> None:
    model = build("resnet18")
    network = analyze(model, torch.zeros(1, 3, 64, 64), exclude=["layer1.*"])

    assert not any(name.startswith("layer1") for name in network.widths)
    assert "conv1" not in network.widths  # coupled with layer1 through the residual stream
    with pytest.raises(ModelError, match="matches no module"):
        analyze(model, torch.zeros(1, 3, 64, 64), exclude=["layr1"])


def test_the_model_is_left_as_it_was() -> None:
    model = build("mobilenet_v2").train()
    model.features[0][1].eval()
    flags = [module.training for module in model.modules()]
    device = next(model.parameters()).device
    analyze(model, torch.zeros(1, 3, 64, 64))

    assert flags == [module.training for module in model.modules()]
    assert next(model.parameters()).device == device


def test_a_forward_that_reads_values_is_traced_on_real_tensors() -> None:
    class ReadsValues(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) * (2.0 if float(x.sum()) > 0 else 3.0))

    network = analyze(ReadsValues(), torch.ones(1, 3, 4, 4))

    assert network.trace.method == "real"
    assert network.widths == {"a": 8}


def test_inputs_that_the_network_does_not_take_are_one_error() -> None:
    with pytest.raises(ModelError, match="forward fails"):
        analyze(build("resnet18"), torch.zeros(1, 1, 64, 64))
