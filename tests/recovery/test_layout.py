from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprune.data.batches import Data
from hwprune.data.load import load_data
from hwprune.recovery.batchnorm import reestimate
from hwprune.recovery.evaluate import evaluate
from hwprune.recovery.finetune import finetune
from hwprune.recovery.layout import channels_last
from hwprune.recovery.recipe import Recipe


class ViewsMaps(nn.Module):
    """Turns feature maps into rows by `view`, as many hand-written networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = functional.max_pool2d(self.norm(self.conv(x)).relu(), 8)
        return self.head(maps.view(maps.size(0), -1))


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", batch_size=32)


@pytest.mark.parametrize(
    ("model", "images", "expected"),
    [
        (nn.Conv2d(4, 4, 3), torch.zeros(1, 4, 5, 5), True),
        (nn.Conv3d(4, 4, 3), torch.zeros(1, 4, 5, 5, 5), False),
        (ViewsMaps(), torch.zeros(1, 3, 32, 32), False),
    ],
    ids=["convolution", "in three dimensions", "views maps"],
)
def test_the_layout_is_taken_where_the_network_runs_in_it_and_taken_back(
    model: nn.Module, images: Tensor, expected: bool
) -> None:
    weight = next(model.parameters())

    with channels_last(model, images):
        inside = weight.stride(1) == 1
        model(images)

    assert inside == expected
    assert weight.is_contiguous()


def test_weights_that_change_meanwhile_keep_their_new_values() -> None:
    model = nn.Conv2d(4, 4, 3)

    with channels_last(model, torch.zeros(1, 4, 5, 5)), torch.no_grad():
        model.weight.copy_(torch.arange(144.0).reshape(4, 4, 3, 3))

    torch.testing.assert_close(model.weight.detach(), torch.arange(144.0).reshape(4, 4, 3, 3))


def test_a_network_that_has_the_layout_already_keeps_it() -> None:
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    with channels_last(model, torch.zeros(1, 4, 5, 5)):
        pass

    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_layout_is_taken_back_after_an_error() -> None:
    model = nn.Conv2d(4, 4, 3)

    with pytest.raises(ZeroDivisionError), channels_last(model, torch.zeros(1, 4, 5, 5)):
        _ = 1 / 0

    assert model.weight.is_contiguous()


def test_a_network_that_views_maps_is_trained_evaluated_and_estimated(digits: Data) -> None:
    model = ViewsMaps()

    result = finetune(model, digits, Recipe(epochs=1, lr=0.05))
    used = reestimate(model, digits.calibration)
    top1 = evaluate(model, digits.validation).top1

    assert used > 0
    assert result.final is not None
    assert min(result.final.top1, top1) > 0.5


def test_accuracy_and_statistics_are_those_of_the_usual_layout(digits: Data) -> None:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *head).eval()
    batches = list(digits.calibration)

    reestimate(model, batches, most_batches=len(batches))
    evaluation = evaluate(model, batches)

    with torch.no_grad():
        maps = [model[0](images) for images, _ in batches]
        losses = [functional.cross_entropy(model(images), labels, reduction="sum") for images, labels in batches]
    means = torch.stack([one.mean((0, 2, 3)) for one in maps]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means, rtol=1e-4, atol=1e-4)
    assert evaluation.loss == pytest.approx(float(sum(losses)) / evaluation.count, rel=1e-5)
