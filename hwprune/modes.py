"""A model's modules, tensors, modes and place; what is changed is restored after use."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its first path, as ``named_modules`` finds them, without its nested generators."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for path, module in _paths(model):
        if id(module) not in seen:
            seen.add(id(module))
            found[path] = module
    return found


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by every one of its names, parameters first."""
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    for path, module in _paths(model):
        before = f"{path}." if path else ""
        for found, store in ((parameters, module._parameters), (buffers, module._buffers)):
            for name, tensor in store.items():
                if tensor is not None:
                    found[before + name] = tensor
    return {**parameters, **buffers}


def _paths(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module by every one of its paths."""
    found: list[tuple[str, nn.Module]] = []
    waiting = [("", model)]
    while waiting:
        path, module = one = waiting.pop()
        found.append(one)
        if children := module._modules:
            before = f"{path}." if path else ""
            for name, child in reversed(children.items()):
                if child is not None:
                    waiting.append((before + name, child))
    return found


def first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Every name of a tensor -> the first name of the same one."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and every module's own mode afterwards."""
    modes = [(module, module.training) for module in modules_of(model).values()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks that are gone afterwards; ``handles`` may register them as it is read."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for reference cycles meanwhile: it looks at every object of every imported package each time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter is; the CPU for a network without parameters."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
