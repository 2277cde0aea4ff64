"""Which module is running: a stack kept by forward hooks."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from hwprune.modes import modules_of


class Watching:
    """While entered, knows the innermost module of ``model`` that is running.

    torch's own ModuleTracker also looks through all inputs and outputs for gradients, which is what most of a pass on
    hollow tensors would then cost.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = modules_of(model)
        self.names = {id(module): name for name, module in self.modules.items()}
        self.stack: list[str] = []

    @property
    def innermost(self) -> str:
        """Path of the innermost module that is running, "" for the root."""
        return self.stack[-1] if self.stack else ""

    def __enter__(self) -> Self:
        self.stack.clear()
        self.handles = [
            register_module_forward_pre_hook(self._enters),
            register_module_forward_hook(self._leaves, always_call=True),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()

    def _enters(self, module: nn.Module, inputs: Any) -> None:
        if id(module) in self.names:
            self.stack.append(self.names[id(module)])

    def _leaves(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if id(module) in self.names:
            self.stack.pop()
