"""Torch-Pruning's half of the zoo: a pruner that halves every layer in one step, as its documentation shows it.

By default the classifier is ignored and all else left at the defaults. `by_hand` is what its examples do beyond that:
the number of heads of every attention layer, timm's attention with the forward of its example, the widths that
torchvision's ViT keeps in attributes, YOLOv8's blocks rewritten without a chunk. Detectors ignore the layers that its
torchvision example ignores, in both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from zoo_child import Report, measuring
from zoo_networks import Entry, build

IGNORED = {
    "retinanet_resnet50_fpn": ("head.classification_head.cls_logits", "head.regression_head.bbox_reg"),
    "fcos_resnet50_fpn": (
        "head.classification_head.cls_logits",
        "head.regression_head.bbox_reg",
        "head.regression_head.bbox_ctrness",
    ),
    "fasterrcnn_resnet50_fpn": ("rpn.head.cls_logits", "rpn.head.bbox_pred", "backbone.fpn", "roi_heads"),
    "maskrcnn_resnet50_fpn": (
        "rpn.head.cls_logits",
        "rpn.head.bbox_pred",
        "roi_heads.box_predictor",
        "roi_heads.mask_predictor",
    ),
    "keypointrcnn_resnet50_fpn": (
        "rpn.head.cls_logits",
        "backbone.fpn.layer_blocks",
        "rpn.head.bbox_pred",
        "roi_heads.box_head",
        "roi_heads.box_predictor",
        "roi_heads.keypoint_predictor",
    ),
    "ssd300_vgg16": ("head",),
    "ssdlite320_mobilenet_v3_large": ("head",),
}
CLASSES = (1000, 21)  # of the classifiers and of the segmentation networks
QUERIES = ("qkv", "q", "k", "v", "kv", "query", "key", "value", "q_proj", "k_proj", "v_proj", "in_proj")


def run(entry: Entry, report: Report) -> None:
    """Its defaults."""
    _run(entry, report, by_hand=False)


def run_by_hand(entry: Entry, report: Report) -> None:
    """What its examples do by hand; timm's attention unfused, as they ask."""
    import timm.layers

    timm.layers.set_fused_attn(False)
    _run(entry, report, by_hand=True)


def _run(entry: Entry, report: Report, *, by_hand: bool) -> None:
    model, inputs = build(entry)
    changed = _rewritten(model) if by_hand else []
    heads = _heads(model) if by_hand else {}
    if by_hand and not heads and not changed:
        return report("skipped", {})
    parameters = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        shapes = _shapes(model(*inputs))
    _warm_up()
    report(
        "built", {"parameters": parameters, "by_hand": changed + [f"num_heads of {len(heads)} layers"] * bool(heads)}
    )
    with measuring() as meter:
        pruner = _prune(model, inputs, _ignored(entry, model), heads)
    _repair(model, pruner, heads)
    report("cut", {"wall_s": meter.wall_s, "cpu_s": meter.cpu_s, "peak_bytes": meter.peak_bytes})
    left = sum(p.numel() for p in model.parameters()) / parameters
    with torch.no_grad():
        outputs = model(*inputs)
    same = entry.source == "detection" or _shapes(outputs) == shapes  # a detector finds as many boxes as it likes
    report("checked", {"left": left, "runs": True, "same_shapes": same})
    return None


def _prune(model: nn.Module, inputs: tuple[Tensor, ...], ignored: list[nn.Module], heads: dict[nn.Module, int]) -> Any:
    import torch_pruning

    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    options: dict[str, Any] = {"num_heads": heads} if heads else {}
    pruner = torch_pruning.pruner.MagnitudePruner(
        model, inputs, importance=importance, pruning_ratio=0.5, ignored_layers=ignored, **options
    )
    pruner.step()
    return pruner


def _warm_up() -> None:
    """Whatever Python and torch do at a first call belongs to no network."""
    _prune(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)), (torch.zeros(1, 3, 8, 8),), [], {})


def _ignored(entry: Entry, model: nn.Module) -> list[nn.Module]:
    """Layers that make the outputs."""
    if entry.source == "detection":
        return [model.get_submodule(name) for name in IGNORED[entry.name]]
    if entry.source == "ultralytics":
        return [module for module in model.modules() if type(module).__name__ == "Detect"]
    return [
        module
        for module in model.modules()
        if (isinstance(module, nn.Linear) and module.out_features in CLASSES)
        or (isinstance(module, nn.Conv2d) and module.out_channels in CLASSES)
    ]


def _shapes(outputs: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in tree_flatten(outputs)[0] if isinstance(leaf, Tensor)]


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    """Layers that make queries, keys and values -> the number of their heads."""
    found: dict[nn.Module, int] = {}
    for module in model.modules():
        count = getattr(module, "num_heads", None)
        if not isinstance(count, int):
            continue
        if isinstance(module, nn.MultiheadAttention):
            found[module] = count
        for name in QUERIES:
            layer = getattr(module, name, None)
            layer = getattr(layer, "conv", getattr(layer, "linear", layer))  # with its norm in one module
            if isinstance(layer, nn.Linear | nn.Conv2d):
                found[layer] = count
    return found


def _repair(model: nn.Module, pruner: Any, heads: dict[nn.Module, int]) -> None:
    """What its examples set by hand after a step, for the networks that they are about and others like them."""
    if not heads:
        return
    from timm.layers.attention import Attention
    from torchvision.models import VisionTransformer

    for module in model.modules():
        qkv = getattr(module, "qkv", None)
        if qkv in heads and isinstance(qkv, nn.Linear):
            module.num_heads = pruner.num_heads[qkv]
            module.head_dim = qkv.out_features // (3 * module.num_heads)
        if isinstance(module, Attention):
            module.forward = _attention_forward.__get__(module, Attention)  # type: ignore[method-assign]
        if isinstance(module, VisionTransformer):
            module.hidden_dim = module.conv_proj.out_channels


def _attention_forward(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """timm's attention where the output may be wider than the heads, as in examples/timm_models."""
    batch, count, _ = x.shape
    qkv = self.qkv(x).reshape(batch, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    q, k = self.q_norm(q) * self.scale, self.k_norm(k)
    x = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    x = x.transpose(1, 2).reshape(batch, count, -1)
    return self.proj_drop(self.proj(self.norm(x)))


def _rewritten(model: nn.Module) -> list[str]:
    """YOLOv8's C2f blocks with two convolutions in place of one and a chunk, as in examples/yolov8."""
    count = 0
    for module in list(model.modules()):
        for name, block in module.named_children():
            if type(block).__name__ == "C2f":
                setattr(module, name, _TwoConvolutions(block))
                count += 1
    return [f"{count} C2f blocks rewritten"] if count else []


class _TwoConvolutions(nn.Module):
    def __init__(self, block: Any) -> None:
        from ultralytics.nn.modules import Conv

        super().__init__()
        self.i, self.f, self.type = block.i, block.f, block.type  # what ultralytics' own forward asks for
        weight, norm = block.cv1.conv.weight.detach(), block.cv1.bn
        self.parts = nn.ModuleList(Conv(weight.shape[1], block.c, 1, 1).eval() for _ in range(2))
        for part, half in zip(self.parts, (slice(0, block.c), slice(block.c, None)), strict=True):
            part.conv.weight.data.copy_(weight[half])
            for name, value in norm.state_dict().items():
                if value.dim():
                    part.bn.state_dict()[name].copy_(value[half])
            part.bn.eps = norm.eps
        self.m, self.cv2 = block.m, block.cv2

    def forward(self, x: Tensor) -> Tensor:
        values = [part(x) for part in self.parts]
        for module in self.m:
            values.append(module(values[-1]))
        return self.cv2(torch.cat(values, 1))
