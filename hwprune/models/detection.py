"""torchvision's detectors without the search for boxes: what a trace, an export and an importance can run.

A whole detector resizes a list of images, decodes boxes and drops overlapping ones: shapes depend on values. All that
has weights runs in fixed shapes all the same, on a batch of images of one size, as each family wires it:

RetinaNet, FCOS, SSD, SSDlite    backbone, then the heads on every feature map
Faster, Mask, Keypoint R-CNN     backbone, RPN head on every feature map, box, mask and keypoint heads on regions

The regions of an R-CNN are whole feature maps, resized as its region pool would and repeated until they are as many as
the detector lets through at most. So every layer gets the channels and the work that it has inside of the detector.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprune.errors import ModelError

_ONE_STAGE = (("retinanet", "RetinaNet"), ("fcos", "FCOS"), ("ssd", "SSD"))
_RCNN = (("generalized_rcnn", "GeneralizedRCNN"),)


def forward_of(model: nn.Module) -> Callable[..., Any] | None:
    """``forward(model, images)`` of a torchvision detector, None for any other network.

    ``images`` is a batch (n, 3, height, width), or a list of images of one size as the detector itself takes them. The
    result nests what the heads return: logits and regressions, before boxes are decoded.
    """
    if _is_one(model, _ONE_STAGE):
        return one_stage
    return rcnn if _is_one(model, _RCNN) else None


def one_stage(model: Any, images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """Backbone and heads of RetinaNet, FCOS, SSD or SSDlite: (n, anchors, values) by the head's names."""
    outputs: dict[str, Tensor] = model.head(list(_features(model, images).values()))
    return outputs


def rcnn(model: Any, images: Tensor | Sequence[Tensor]) -> dict[str, Any]:
    """Backbone, RPN head and region heads of Faster, Mask or Keypoint R-CNN.

    Objectness and its boxes are lists, one entry per feature map. The region heads' rows are (n x regions, ...), those
    of the first image first.
    """
    features, heads = _features(model, images), model.roi_heads
    objectness, deltas = model.rpn.head(list(features.values()))
    logits, regression = heads.box_predictor(
        heads.box_head(_regions(features, heads.box_roi_pool, model.rpn.post_nms_top_n()))
    )
    outputs = {
        "objectness": objectness,
        "rpn_bbox_regression": deltas,
        "class_logits": logits,
        "box_regression": regression,
    }
    if heads.has_mask():
        pooled = _regions(features, heads.mask_roi_pool, heads.detections_per_img)
        outputs["mask_logits"] = heads.mask_predictor(heads.mask_head(pooled))
    if heads.has_keypoint():
        pooled = _regions(features, heads.keypoint_roi_pool, heads.detections_per_img)
        outputs["keypoint_logits"] = heads.keypoint_predictor(heads.keypoint_head(pooled))
    return outputs


@contextmanager
def returning_losses(model: Any) -> Iterator[None]:
    """A detector in eval mode that answers ``model(images, targets)`` with its losses, as in training.

    Only the parts that compute losses are switched: layers, and the choice of an image size, stay as they are.
    """
    parts = [model, *(getattr(model, name) for name in ("rpn", "roi_heads") if hasattr(model, name))]
    before = [part.training for part in parts]
    for part in parts:
        part.training = True
    try:
        yield
    finally:
        for part, training in zip(parts, before, strict=True):
            part.training = training


def _is_one(model: nn.Module, classes: Sequence[tuple[str, str]]) -> bool:
    """Whether the model is of one of these classes; torchvision is not imported: then it cannot be."""
    for module, name in classes:
        known = sys.modules.get(f"torchvision.models.detection.{module}")
        if known is not None and isinstance(model, getattr(known, name)):
            return True
    return False


def _features(model: Any, images: Tensor | Sequence[Tensor]) -> Mapping[str, Tensor]:
    """Feature maps by name, the finest first."""
    found = model.backbone(_batch(images))
    return {"0": found} if isinstance(found, Tensor) else found


def _batch(images: Tensor | Sequence[Tensor]) -> Tensor:
    if isinstance(images, Tensor):
        if images.dim() == 4:
            return images
        images = [images]
    shapes = list(dict.fromkeys(tuple(image.shape) for image in images))
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise ModelError(
            f"a detector is analysed on images of one size, not on {', '.join(map(str, shapes))}",
            fix="pass a batch (n, 3, height, width), or a list of images (3, height, width) of one size",
        )
    return torch.stack(list(images))


def _regions(features: Mapping[str, Tensor], pool: Any, count: int) -> Tensor:
    """``count`` regions of every image, (n x count, channels, *pool's size): feature maps in turn, as a whole."""
    size = tuple(pool.output_size)
    levels = [features[name] for name in pool.featmap_names if name in features]
    pooled = [functional.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels]
    stacked = torch.stack(pooled[:count], 1)
    repeated = stacked.repeat(1, -(-count // stacked.shape[1]), 1, 1, 1)
    return repeated[:, :count].flatten(0, 1)
