"""Example inputs of a forward pass: tensors in any nesting, with plain values among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from hwprune.errors import ModelError


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is called with.

    Attributes:
        args: positional arguments, any nesting of tensors and plain values.
        kwargs: keyword arguments, the same.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, example: Any, kwargs: Mapping[str, Any] | None = None) -> Inputs:
        """A tuple holds the positional arguments, anything else is the only one. Raises `ModelError` for no tensor."""
        if isinstance(example, Inputs):
            return example
        args = example if isinstance(example, tuple) else (example,)
        made = cls(*cls(args, kwargs or {}).mapped(Tensor.detach))
        if not made.tensors:
            raise ModelError("the example inputs hold no tensor", fix="pass tensors of the shapes the network will get")
        return made

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, flattened."""
        return tuple(x for x in tree_flatten((self.args, dict(self.kwargs)))[0] if isinstance(x, Tensor))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all tensors."""
        return tuple(tuple(x.shape) for x in self.tensors)

    def mapped(self, convert: Callable[[Tensor], Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments to call the network with, every tensor converted."""
        args, kwargs = tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, (self.args, dict(self.kwargs)))
        return args, kwargs

    def placed(self, like: Tensor | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments on the device of ``like``, floats in its precision."""
        return self.mapped(lambda x: _placed(x, like))

    def random(self, seed: int, like: Tensor | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments with normal random numbers in the place of floats, as ``like``."""
        generator = torch.Generator().manual_seed(seed)

        def draw(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return _placed(x, like)
            return _placed(torch.randn(x.shape, generator=generator, dtype=torch.float64), like)

        return self.mapped(draw)


def tensors_in(tree: Any) -> list[Tensor]:
    """Every tensor in what a forward returns: in any nesting, and in the attributes of objects of other classes."""
    found: list[Tensor] = []
    seen: set[int] = set()

    def collect(part: Any) -> None:
        for leaf in tree_flatten(part)[0]:
            if isinstance(leaf, Tensor):
                found.append(leaf)
            elif id(leaf) not in seen and not isinstance(leaf, type | nn.Module):
                seen.add(id(leaf))
                named = (
                    [field.name for field in fields(leaf)]
                    if is_dataclass(leaf)
                    else list(getattr(leaf, "__dict__", ()))
                )
                collect([getattr(leaf, name, None) for name in named])

    collect(tree)
    return found


def _placed(tensor: Tensor, like: Tensor | None) -> Tensor:
    if like is None:
        return tensor
    return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)
