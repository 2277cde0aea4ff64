"""Trained weights: reading safetensors files, putting them into a network, or saying why they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hwprune.errors import ModelError, NumericsError, listed

# A ResNet-20 for the handwritten digits at 32 × 32, made by benchmarks/train_digits.py.
RESNET20_DIGITS = Path(__file__).with_name("resnet20_digits.safetensors")

# Auxiliary classifiers (GoogLeNet, Inception, DeepLab, FCN) serve training only, and networks are built without them.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
_CONVERT = "from torch import load; from safetensors.torch import save_file; save_file(load(PATH), NEW_PATH)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU. Raises `ModelError` where it cannot be read."""
    if not path.is_file():
        raise ModelError("no such weights file", where=path, fix="pass the path of a safetensors file")
    if path.suffix != ".safetensors":
        raise ModelError(
            f"weights of type {path.suffix!r} are not read",
            where=path,
            effect="pickled files can run code when they are opened",
            fix=f'convert them once: python -c "{_CONVERT}"',
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights file cannot be read: {error}",
            where=path,
            fix="restore the file, or write it again with safetensors.torch.save_file",
        ) from None
    return tensors


def put_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, where: object) -> None:
    """Copy ``tensors`` into ``model``, in place and strictly.

    Let through: the prefix ``module.`` of data-parallel training, auxiliary classifiers that the model does
    not have, counters of batch norm that the file does not have, and one of two names of a shared tensor.
    Raises `ModelError` listing what is missing, unexpected or of another shape, `NumericsError` where a value
    is not finite.
    """
    own = model.state_dict()
    given = _without_prefix(tensors, own)
    given = {name: value for name, value in given.items() if name in own or not name.startswith(_AUXILIARY)}
    missing = [name for name in _not_covered(own, given) if not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    mismatched = [
        f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
        for name in given
        if name in own and given[name].shape != own[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    if any(kinds.values()):
        raise ModelError(
            "the weights do not fit the network",
            where=where,
            effect="; ".join(f"{kind}: {listed(sorted(names))}" for kind, names in kinds.items() if names),
            fix="pass the weights of this network, or the network (and number of classes) of these weights",
        )
    check_finite(given, where=where)
    model.load_state_dict(given, strict=False)


def check_finite(tensors: Mapping[str, Tensor], *, where: object) -> None:
    """Raise `NumericsError` naming the tensors that have a NaN or an infinity."""
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not _finite(value)]
    if bad:
        raise NumericsError(
            f"weights are not finite: {listed(sorted(bad))}",
            where=where,
            effect="every output of the network would be NaN or infinite",
            fix="take the weights from before the training diverged",
        )


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _without_prefix(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    prefix = "module."
    wrapped = all(name.startswith(prefix) for name in tensors) and not any(n.startswith(prefix) for n in own)
    return {name.removeprefix(prefix) if wrapped else name: value for name, value in tensors.items()}


def _not_covered(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Names of ``own`` that are not given, not even under another name of the same memory."""
    filled = {own[name].data_ptr() for name in given if name in own and own[name].numel()}
    return [name for name, value in own.items() if name not in given and value.data_ptr() not in filled]
