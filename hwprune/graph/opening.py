"""What hwprune can take apart: refusals by name with what to do, and facts about a model's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from hwprune.errors import ModelError
from hwprune.graph.trace import Forward
from hwprune.models import detection
from hwprune.modes import modules_of

_CONVS = nn.modules.conv._ConvNd
_WRAPPERS = (torch.jit.ScriptModule, nn.DataParallel, nn.parallel.DistributedDataParallel)


def opened(model: nn.Module, forward: Forward | None) -> Forward | None:
    """The forward to run, None for the model's own: the given one, or that of a torchvision detector.

    Raises:
        ModelError: the model, or a part of it, is compiled, scripted, exported, wrapped for parallel training,
            quantised, or has weights that are computed by hooks.
    """
    _refuse_programs(model)
    for name, module in modules_of(model).items():
        if isinstance(module, _WRAPPERS) or "_orig_mod" in module._modules:
            _refuse_wrappers(name, module)
        tensors = [x for store in (module._parameters, module._buffers) for x in store.values() if x is not None]
        _refuse_lazy(name, module, tensors)
        _refuse_quantised(name, module, tensors)
        _refuse_weight_hooks(name, module)
    return forward or detection.forward_of(model)


def kernels(model: nn.Module) -> frozenset[str]:
    """Names of convolution weights, whose dimensions from the third on are kernel positions."""
    found = set()
    for name, module in modules_of(model).items():
        if isinstance(module, _CONVS):
            before = f"{name}." if name else ""
            found.add(f"{before}weight")
            if parametrize.is_parametrized(module, "weight"):
                found |= {f"{before}parametrizations.weight.original{i}" for i in ("", 0, 1)}
    return frozenset(found)


def fixed_weights(model: nn.Module) -> dict[str, str]:
    """Names of weights none of whose channels may go, with the reason: all of them share a number of the dense one."""
    why = "is divided by the largest singular value of the whole weight (spectral_norm)"
    lists = [(n, m) for n, m in modules_of(model).items() if isinstance(m, parametrize.ParametrizationList)]
    spectral = [(n, m) for n, m in lists if any(isinstance(part, _SpectralNorm) for part in m)]
    return {f"{name}.{inner}": why for name, module in spectral for inner, _ in module.named_parameters()}


def _refuse_programs(model: object) -> None:
    if isinstance(model, torch.export.ExportedProgram):
        raise ModelError(
            "the model is a program made by torch.export",
            effect="its weights and sizes are fixed and cannot be cut",
            fix="give the torch.nn.Module that was exported, and export the pruned one",
        )
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the model is of type {type(model).__name__}",
            effect="there are no modules whose channels could go",
            fix="give a torch.nn.Module",
        )


def _refuse_wrappers(name: str, module: nn.Module) -> None:
    what = "the model" if not name else "a part of the model"
    where = f"{type(module).__name__} {name!r}" if name else type(module).__name__
    if isinstance(module, torch._dynamo.OptimizedModule):
        raise ModelError(
            f"{what} is compiled by torch.compile",
            where=where,
            effect="its modules cannot be cut",
            fix="give the module that was compiled (._orig_mod; for the whole model model._orig_mod), and compile the "
            "pruned one",
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{what} is a TorchScript module",
            where=where,
            effect="its modules cannot be cut",
            fix="give the eager module it was made from, and script or export the pruned model",
        )
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ModelError(
            f"{what} is wrapped for parallel training",
            where=where,
            effect="the wrapper's copies would keep the old widths",
            fix="give the module inside (.module; for the whole model model.module), and wrap the pruned one",
        )


def _refuse_lazy(name: str, module: nn.Module, tensors: Sequence[Tensor]) -> None:
    if any(is_lazy(tensor) for tensor in tensors):
        raise ModelError(
            "a module has not got its sizes yet",
            where=f"{type(module).__name__} {name!r}",
            effect="weights without a size cannot be cut",
            fix="run the model once on an example input, then analyse it",
        )


def _refuse_quantised(name: str, module: nn.Module, tensors: Sequence[Tensor]) -> None:
    packages = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao.quantization")
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
