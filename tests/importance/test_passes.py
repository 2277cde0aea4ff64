"""Importances of networks that are not called with one tensor: torchvision's detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator

from hwprune.errors import DataError
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from hwprune.importance.criterion import Criterion, cross_entropy, detector_losses
from hwprune.importance.fisher import Fisher
from hwprune.importance.magnitude import Magnitude
from hwprune.importance.passes import passes
from hwprune.importance.taylor import Taylor
from hwprune.models.detection import rcnn

SIZES = {"min_size": 64, "max_size": 64}


def backbone() -> nn.Module:
    """One feature map of 16 x 16 for a 64 x 64 image."""
    made = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
    )
    made.out_channels = 12  # torchvision asks for it
    return made


def retinanet() -> nn.Module:
    torch.manual_seed(0)
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    model = detection.RetinaNet(backbone(), num_classes=3, anchor_generator=anchors, **SIZES)
    return _loud(model)


def faster_rcnn() -> nn.Module:
    torch.manual_seed(0)
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    return _loud(
        detection.FasterRCNN(
            backbone(), num_classes=3, rpn_anchor_generator=anchors, rpn_post_nms_top_n_test=7, **SIZES
        )
    )


def _loud(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


def images_and_targets(count: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.rand(3, 64, 64) for _ in range(count)]
    corner = [torch.rand(2) * 20 for _ in range(count)]
    boxes = [torch.cat([low, low + 24])[None] for low in corner]
    return images, [{"boxes": box, "labels": torch.tensor([1 + i % 2])} for i, box in enumerate(boxes)]


def hinge(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    """A loss on the heads' outputs: the largest logit of an image should be of its class."""
    return functional.cross_entropy(outputs["cls_logits"].amax(1), targets, reduction="sum")


@pytest.mark.parametrize("criterion", [Fisher(), Taylor(), Magnitude()])
def test_a_loss_on_the_outputs_of_the_heads_scores_a_detector(criterion: Criterion) -> None:
    model = retinanet()
    images = torch.rand(4, 3, 64, 64)
    network = analyze(model, images[:1])

    scores = criterion.scores(model, network, [(images, torch.tensor([0, 1, 2, 1]))], hinge)

    assert scores.keys() == network.widths.keys()
    assert all(values.max() > 0 for name, values in scores.items() if "regression" not in name)
    assert "forward" not in vars(model)


def test_fisher_of_a_retinanet_is_that_of_an_explicit_mask_in_its_heads() -> None:
    model = retinanet().double()
    images, targets = torch.rand(3, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 1, 2])
    network = analyze(model, images[:1])
    mask = torch.ones(3, 12, dtype=torch.float64, requires_grad=True)
    features = model.backbone(images)
    (gradient,) = torch.autograd.grad(hinge(model.head([features * mask[..., None, None]]), targets), mask)

    scores = Fisher().scores(model, network, [(images, targets)], hinge)["backbone.3"]

    np.testing.assert_allclose(scores, (gradient.square().sum(0) / 6).numpy(), rtol=1e-9)


def test_the_rpn_and_all_regions_of_the_box_head_are_summed_before_squaring() -> None:
    model = faster_rcnn().double()
    images, targets = torch.rand(3, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 1, 2])
    network = analyze(model, images[:1])

    def loss(outputs: dict[str, Any], targets: Tensor) -> Tensor:
        logits = outputs["class_logits"].unflatten(0, (len(targets), -1))
        return functional.cross_entropy(logits.mean(1), targets, reduction="sum") + outputs["objectness"][0].sum()

    mask = torch.ones(3, 12, dtype=torch.float64, requires_grad=True)
    with model.backbone.register_forward_hook(lambda m, x, out: out * mask[..., None, None]):
        (gradient,) = torch.autograd.grad(loss(rcnn(model, images), targets), mask)

    scores = Fisher().scores(model, network, [(images, targets)], loss)["backbone.3"]

    np.testing.assert_allclose(scores, (gradient.square().sum(0) / 6).numpy(), rtol=1e-9)


def by_mask(model: nn.Module, network: Network, images: list[Tensor], targets: list[Any]) -> np.ndarray:
    """The whole detector's own losses, one image at a time, with a mask on what the backbone gives."""
    found = []
    for image, target in zip(images, targets, strict=True):
        mask = torch.ones(12, requires_grad=True)
        handle = model.backbone.register_forward_hook(lambda m, x, out, mask=mask: out * mask[:, None, None])
        model.training = True
        for part in ("rpn", "roi_heads"):
            if hasattr(model, part):
                getattr(model, part).training = True
        torch.manual_seed(1)
        loss = sum(model([image], [target]).values())
        found.append(torch.autograd.grad(loss, mask)[0].square().double())
        handle.remove()
        model.eval()
    return (torch.stack(found).sum(0) / (2 * len(images))).numpy()


@pytest.mark.parametrize("make", [retinanet, faster_rcnn])
def test_a_list_of_images_is_scored_by_the_detectors_own_losses(make: Any) -> None:
    model = make()
    images, targets = images_and_targets(3)
    network = analyze(model, torch.rand(1, 3, 64, 64))

    def seeded(losses: dict[str, Tensor], target: Any) -> Tensor:
        torch.manual_seed(1)  # the next image samples its anchors as the explicit mask's does
        return detector_losses(losses, target)

    torch.manual_seed(1)
    scores = Fisher().scores(model, network, [(images[:2], targets[:2]), (images[2:], targets[2:])], seeded)

    np.testing.assert_allclose(scores["backbone.3"], by_mask(model, network, images, targets), rtol=1e-4)
    assert not any(module.training for module in model.modules())


def test_taylor_takes_a_detectors_own_losses_too() -> None:
    model = faster_rcnn()
    images, targets = images_and_targets(2)
    network = analyze(model, torch.rand(1, 3, 64, 64))

    scores = Taylor().scores(model, network, [(images, targets)], detector_losses)

    assert scores["backbone.3"].max() > 0


def test_lists_are_for_detectors() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    network = analyze(model, torch.rand(1, 3, 4, 4))

    with pytest.raises(DataError, match="do not fit Sequential"):
        list(passes(model, network, [([torch.rand(3, 4, 4)], [{}])], cross_entropy))
