"""What hwprune can take apart: refusals by name with what to do, and facts about a model's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from hwprune.errors import ModelError
from hwprune.graph.trace import Forward
from hwprune.models import detection

_CONVS = nn.modules.conv._ConvNd


def opened(model: nn.Module, forward: Forward | None) -> Forward | None:
    """The forward to run, None for the model's own: the given one, or that of a torchvision detector.

    Raises:
        ModelError: the model is compiled, scripted, wrapped for parallel training, quantised, or has weights that are
            computed by hooks.
    """
    _refuse_wrappers(model)
    for name, module in model.named_modules():
        _refuse_quantised(name, module)
        _refuse_weight_hooks(name, module)
    return forward or detection.forward_of(model)


def kernels(model: nn.Module) -> frozenset[str]:
    """Names of convolution weights, whose dimensions from the third on are kernel positions."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, _CONVS):
            before = f"{name}." if name else ""
            found.add(f"{before}weight")
            if parametrize.is_parametrized(module, "weight"):
                found |= {f"{before}parametrizations.weight.original{i}" for i in ("", 0, 1)}
    return frozenset(found)


def _refuse_wrappers(model: nn.Module) -> None:
    kind = type(model).__name__
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise ModelError(
            "the model is compiled by torch.compile",
            where=kind,
            effect="its modules cannot be cut",
            fix="give the model that was compiled (model._orig_mod), and compile the pruned one",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "the model is a TorchScript module",
            where=kind,
            effect="its modules cannot be cut",
            fix="give the eager model it was made from, and script or export the pruned one",
        )
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ModelError(
            "the model is wrapped for parallel training",
            where=kind,
            effect="the wrapper's copies would keep the old widths",
            fix="give the model inside (model.module), and wrap the pruned one",
        )


def _refuse_quantised(name: str, module: nn.Module) -> None:
    packages = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao.quantization")
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    subclassed = any(type(x).__module__.startswith("torchao") or x.is_quantized for x in tensors)
    if type(module).__module__.startswith(packages) or subclassed:
        raise ModelError(
            "the model is quantised",
            where=f"{type(module).__name__} {name!r}",
            effect="packed integer weights cannot be cut",
            fix="prune the float model first, then quantise the pruned one",
        )


def _refuse_weight_hooks(name: str, module: nn.Module) -> None:
    for hook in module._forward_pre_hooks.values():
        kind = type(hook).__name__
        if kind in ("WeightNorm", "SpectralNorm"):
            modern = {"WeightNorm": "weight_norm", "SpectralNorm": "spectral_norm"}[kind]
            raise ModelError(
                f"a weight is computed by a hook of the old torch.nn.utils.{modern}",
                where=f"{type(module).__name__} {name!r}",
                effect="the hook's weight would keep the old width",
                fix=f"use torch.nn.utils.parametrizations.{modern}, or remove the norm before pruning",
            )
        if type(hook).__module__.startswith("torch.nn.utils.prune"):
            raise ModelError(
                "a weight is masked by torch.nn.utils.prune",
                where=f"{type(module).__name__} {name!r}",
                effect="the mask would keep the old width",
                fix="make the mask permanent with torch.nn.utils.prune.remove",
            )
