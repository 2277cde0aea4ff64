"""Detectors, segmentation and video networks of torchvision: analysed, cut, verified, and still what they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torchvision.models import detection, get_model, get_model_weights, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from hwprune import analyze, cut, verify
from hwprune.cost.work import parameter_names, work
from hwprune.errors import ModelError
from hwprune.graph.network import Network
from hwprune.graph.trace import running
from hwprune.models.detection import forward_of, returning_losses
from hwprune.plan import Plan
from tests.graph.networks import awake

SMALL = {"min_size": 128, "max_size": 128}
FEW = {**SMALL, "rpn_post_nms_top_n_test": 6, "rpn_post_nms_top_n_train": 16, "box_detections_per_img": 3}


def pyramid(**options: Any) -> nn.Module:
    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, **{"norm_layer": nn.BatchNorm2d, **options})


def retinanet(**options: Any) -> nn.Module:
    backbone = pyramid(returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256), **options)
    return detection.RetinaNet(backbone, num_classes=5, **SMALL)


def fcos() -> nn.Module:
    backbone = pyramid(returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return detection.FCOS(backbone, num_classes=5, **SMALL)


def faster_rcnn(**options: Any) -> nn.Module:
    return detection.FasterRCNN(pyramid(**options), num_classes=5, **FEW)


def mask_rcnn() -> nn.Module:
    return detection.MaskRCNN(pyramid(), num_classes=5, **FEW)


def keypoint_rcnn() -> nn.Module:
    return detection.KeypointRCNN(pyramid(), num_classes=2, num_keypoints=4, **FEW)


def ssd300() -> nn.Module:
    return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5)


def ssdlite() -> nn.Module:
    return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)


DETECTORS = [retinanet, fcos, faster_rcnn, mask_rcnn, keypoint_rcnn, ssd300, ssdlite]
LAST = re.compile(r"(cls_logits|bbox_(reg|pred|ctrness)|cls_score|logits|kps_score_lowres|module_list\.\d(\.1)?)$")
TARGET = {
    "boxes": torch.tensor([[10.0, 10.0, 90.0, 70.0]]),
    "labels": torch.tensor([1]),
    "masks": torch.ones(1, 128, 128, dtype=torch.uint8),
    "keypoints": torch.tensor([[[20.0, 20.0, 1.0]] * 4]),
}


def prepared(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """A detector whose signal reaches every output, and one image. SSD300's last feature map vanishes below 272."""
    torch.manual_seed(0)
    model, images = make(), torch.rand(1, 3, *(2 * [272 if make is ssd300 else 128]))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    with running(model, forward_of(model)):
        awake(model, torch.rand(2, *images.shape[1:]))
    return model.eval(), images


def halves(network: Network, first: int = 0) -> Plan:
    return Plan.keeping(network, {group.name: range(first, group.width - 1 + first, 2) for group in network.free})


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad(), running(model, forward_of(model)):
        return tree_flatten(model(images))[0]


def check_whole(small: nn.Module, dense: nn.Module) -> None:
    """The detector itself, with its boxes, runs as the dense one: on images of two sizes, and for its losses."""
    with torch.no_grad():
        found, expected = (model.eval()([torch.rand(3, 128, 100), torch.rand(3, 90, 128)]) for model in (small, dense))
    assert [image.keys() for image in found] == [image.keys() for image in expected]
    assert all(len(image["boxes"]) and image["boxes"].isfinite().all() for image in found)
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    losses, expected_losses = (model.train()(images, [TARGET, TARGET]) for model in (small, dense))
    assert losses.keys() == expected_losses.keys()
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in small.parameters())
    dense.eval()


@pytest.mark.parametrize("make", DETECTORS)
def test_a_detector_is_cut_to_half_and_still_detects_and_trains(make: Callable[[], nn.Module]) -> None:
    model, images = prepared(make)
    network = analyze(model, images)
    plan = halves(network)
    small = cut(model, plan, network)

    right, wrong = verify(model, small, plan, network), verify(model, small, halves(network, first=1), network)
    assert right.equal
    assert wrong.error > 0.01
    for dense, narrow in zip(outputs(model, images), outputs(small, images), strict=True):
        assert dense.shape == narrow.shape  # logits, regressions, centerness, masks and keypoints stay
        assert float((dense - narrow).abs().max()) > 1e-3 * float(dense.abs().max())  # and hear of the cut
    pinned = [name for group in network.groups if group.pinned for name in group.members]
    assert pinned and all(LAST.search(name) for name in pinned)
    check_whole(small, model)


def test_every_channel_between_the_image_and_the_outputs_is_free() -> None:
    model, images = prepared(faster_rcnn)
    network = analyze(model, images)
    last = ["rpn.head.cls_logits", "rpn.head.bbox_pred"]
    last += ["roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"]

    pinned = [group for group in network.groups if group.pinned]
    assert [name for group in pinned[1:] for name in group.members] == last
    assert pinned[0].consumers == ("backbone.body.conv1",)


def test_the_first_convolution_of_the_rpn_and_the_first_linear_layer_of_the_box_head_read_the_same_channels() -> None:
    model, images = prepared(faster_rcnn)
    network = analyze(model, images)

    group = next(group for group in network.free if "rpn.head.conv.0.0" in group.consumers)
    assert "roi_heads.box_head.fc6" in group.consumers
    slots = {slot.parameter: slot for slot in group.slots}
    channels = np.arange(256)
    np.testing.assert_array_equal(slots["rpn.head.conv.0.0.weight"].indices[:, 0], channels)
    positions = slots["roi_heads.box_head.fc6.weight"].indices  # a flatten of 7 x 7 comes between
    np.testing.assert_array_equal(positions, channels[:, np.newaxis] * 49 + np.arange(49))
    makers = {f"backbone.fpn.layer_blocks.{level}.0" for level in range(4)}
    assert set(group.members) == makers


@pytest.mark.parametrize(
    "name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2"]
)
def test_a_detectors_work_is_what_torchvision_says(name: str) -> None:
    """Counted there in a run of the whole detector at 800 x 800, with all its regions."""
    with torch.device("meta"):
        model = get_model(name, weights=None, weights_backbone=None)
    macs = work(analyze(model, torch.zeros(1, 3, 800, 800)), parameter_names(model)).macs

    assert round(macs / 1e9, 3) == get_model_weights(name).DEFAULT.meta["_ops"]


def test_region_heads_have_the_work_of_as_many_regions_as_the_detector_lets_through() -> None:
    model, images = prepared(mask_rcnn)
    layers = {layer.name: layer.dense for layer in analyze(model, torch.cat([images, images])).layers}

    box, mask = layers["roi_heads.box_head.fc6"], layers["roi_heads.mask_head.0.0"]
    assert box.batch * box.size[0] == 2 * 6
    assert mask.batch == 2 * 3


@pytest.mark.parametrize("make", [retinanet, faster_rcnn])
def test_frozen_batch_norms_are_cut_like_others(make: Callable[..., nn.Module]) -> None:
    model, images = prepared(lambda: make(norm_layer=FrozenBatchNorm2d))
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for buffer, low in ((module.weight, 0.3), (module.running_var, 0.5), (module.bias, -0.5)):
                buffer.uniform_(low, low + 0.5)
    network = analyze(model, images)
    plan = halves(network)

    assert verify(model, cut(model, plan, network), plan, network).equal
    assert not verify(model, cut(model, plan, network), halves(network, first=1), network).equal


def test_bookkeeping_follows_the_cut_and_the_rest_stays() -> None:
    model, images = prepared(faster_rcnn)
    network = analyze(model, images)
    small = cut(model, halves(network), network)

    assert small.roi_heads.box_predictor.cls_score.in_features == 512  # what users read to put a new predictor in
    assert small.backbone.out_channels == small.rpn.head.conv[0][0].in_channels == 128
    assert small.rpn.anchor_generator.num_anchors_per_location() == [3] * 5
    assert small.roi_heads.box_roi_pool.output_size == (7, 7)
    assert model.backbone.out_channels == 256


def test_images_may_be_a_batch_or_a_list_of_one_size() -> None:
    model, images = prepared(retinanet)
    batch = torch.cat([images, images])
    network = analyze(model, list(batch))

    assert network.groups_hash == analyze(model, batch).groups_hash
    plan = halves(network)
    assert verify(model, cut(model, plan, network), plan, network).equal
    with pytest.raises(
        ModelError, match=r"^a detector .* not on \(3, 128, 128\), \(3, 64, 128\)\n  fix     pass a batch"
    ):
        analyze(model, [images[0], images[0, :, :64]])


def test_other_networks_run_by_their_own_forward_and_a_callers_forward_wins() -> None:
    model, images = prepared(retinanet)
    network = analyze(model, images, forward=lambda model, images: list(model.backbone(images).values()))

    assert forward_of(model.backbone) is None
    assert not any("head" in layer.name for layer in network.layers)


def test_a_detector_in_eval_mode_returns_losses_while_it_is_asked_to() -> None:
    model, images = prepared(faster_rcnn)
    modes = [module.training for module in model.modules()]

    with returning_losses(model):
        losses = model([images[0]], [TARGET])
        assert not model.backbone.training and not model.transform.training
    assert losses.keys() == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert [module.training for module in model.modules()] == modes


def deeplab() -> nn.Module:
    return segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4, aux_loss=True)


def fcn() -> nn.Module:
    return segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=4)


def lraspp() -> nn.Module:
    return segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


@pytest.mark.parametrize("make", [deeplab, fcn, lraspp])
def test_segmentation_networks_need_no_forward_of_their_own(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    model = awake(make(), images)
    network = analyze(model, images[:1])
    plan = halves(network)
    small = cut(model, plan, network)

    assert network.forward is None
    assert verify(model, small, plan, network).equal
    assert not verify(model, small, halves(network, first=1), network).equal
    assert {name: out.shape for name, out in small(images).items()} == {
        name: out.shape for name, out in model(images).items()
    }


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_video_networks_are_analysed_cut_and_verified(name: str) -> None:
    torch.manual_seed(0)
    clips = torch.randn(2, 3, 4, 32, 32)
    model = awake(get_model(name, weights=None, num_classes=4), clips)
    network = analyze(model, clips[:1])
    plan = halves(network)

    assert verify(model, cut(model, plan, network), plan, network).equal
    assert not verify(model, cut(model, plan, network), halves(network, first=1), network).equal
    assert {group.pinned for group in network.groups} == {
        None,
        "is the network's input",
        "reaches the network's output",
    }
