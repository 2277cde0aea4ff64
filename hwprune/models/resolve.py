"""From what the user types to a network.

torchvision:resnet50, resnet50      torchvision's networks for classification, detection, segmentation and video
timm:convnext_tiny                  timm's, where it is installed
package.module:factory              the user's own function or class, called without arguments
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from hwprune.errors import HwpruneError, MissingPackageError, ModelError, listed
from hwprune.models.weights import check_finite, put_weights, read_weights

_DEFAULT_SHAPE = (3, 224, 224)
_DETECTION_SHAPE = (3, 320, 320)  # they take any size from about 300; a small one shows the same channels
_SEGMENTATION_SHAPE = (3, 520, 520)
_VIDEO_FRAMES = 16
_WITH_AUXILIARY = ("googlenet", "inception_v3")  # heads for training only, that no engine needs
_FORMS = "torchvision:resnet50, timm:NAME or package.module:factory"


def load_model(reference: str, *, weights: Path | str | None = None, num_classes: int | None = None) -> nn.Module:
    """The network that ``reference`` names, in eval mode on the CPU.

    Args:
        reference: see the head of this module.
        weights: a safetensors file, or "DEFAULT" for the weights that torchvision or timm downloads.
        num_classes: size of the output; None leaves it to the network. A user's factory gets it only when it
            has a parameter of that name.

    Raises `ModelError` where the network is unknown, cannot be built, or the weights do not fit;
    `NumericsError` where a weight is NaN or infinite; `MissingPackageError` where timm is needed and not
    installed.
    """
    source, name = split_reference(reference)
    download = str(weights) == "DEFAULT"
    if source == "torchvision":
        model = _torchvision_model(name, download=download, num_classes=num_classes)
    elif source == "timm":
        model = _timm_model(name, download=download, num_classes=num_classes)
    elif download:
        raise ModelError(f"{reference} has no default weights", fix="pass --weights FILE.safetensors")
    else:
        model = _own_model(reference, num_classes=num_classes)
    if weights is not None and not download:
        put_weights(model, read_weights(Path(weights)), where=weights)
    else:
        check_finite(model.state_dict(), where=reference)
    return model.eval()


def describe_inputs(reference: str) -> tuple[int, ...]:
    """Shape of one input of the network, without the batch: what it was made for, else (3, 224, 224).

    Detectors have no one size and get (3, 320, 320). A factory says its own by an attribute ``input_shape``.
    """
    source, name = split_reference(reference)
    if source == "torchvision":
        return _torchvision_shape(name)
    if source == "timm":
        described = _timm().models.get_pretrained_cfg(name)
        return tuple(described.input_size) if described is not None else _DEFAULT_SHAPE
    return tuple(getattr(import_factory(reference), "input_shape", _DEFAULT_SHAPE))


def split_reference(reference: str) -> tuple[str, str]:
    """Where a network comes from and its name there.

    >>> split_reference("resnet50"), split_reference("timm:vit_tiny"), split_reference("my.nets:small")
    (('torchvision', 'resnet50'), ('timm', 'vit_tiny'), ('my.nets', 'small'))
    """
    source, separator, name = reference.rpartition(":")
    return (source, name) if separator else ("torchvision", reference)


def import_factory(reference: str, *, error: type[HwpruneError] = ModelError) -> Callable[..., Any]:
    """The object that ``package.module:factory`` names; modules of the current folder are found too.

    Raises ``error`` where the module cannot be imported or has no such function.
    """
    module_name, _, attribute = reference.rpartition(":")
    if not module_name or not attribute:
        raise error(f"{reference!r} names no function", fix="write package.module:factory")
    with _current_folder_importable():
        try:
            module = importlib.import_module(module_name)
        except Exception as problem:  # the module is the user's: it may raise anything
            raise error(
                f"module {module_name!r} cannot be imported: {type(problem).__name__}: {problem}",
                where=reference,
                fix=f"write {_FORMS}; run from the folder that holds the module, or install it",
            ) from problem
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise error(
            f"module {module_name!r} has no function {attribute!r}",
            where=module.__file__,
            fix=_did_you_mean(attribute, [name for name, value in vars(module).items() if callable(value)]),
        )
    return cast(Callable[..., Any], factory)


def call_factory(reference: str, options: Mapping[str, object], *, error: type[HwpruneError] = ModelError) -> object:
    """What the factory returns. It gets those of ``options`` that it has parameters for.

    Raises ``error`` with the factory's own exception as its cause.
    """
    factory = import_factory(reference, error=error)
    with _current_folder_importable():
        try:
            known = inspect.signature(factory).parameters
            return factory(**{name: value for name, value in options.items() if name in known})
        except Exception as problem:  # the factory is the user's: it may raise anything
            raise error(
                f"the factory raised {type(problem).__name__}: {problem}",
                where=reference,
                fix="it must work when it is called without arguments",
            ) from problem


def _own_model(reference: str, *, num_classes: int | None) -> nn.Module:
    options: dict[str, object] = {} if num_classes is None else {"num_classes": num_classes}
    model = call_factory(reference, options)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the factory returned {type(model).__name__}, not a network",
            where=reference,
            fix="return a torch.nn.Module",
        )
    return model


def _torchvision_model(name: str, *, download: bool, num_classes: int | None) -> nn.Module:
    from torchvision import models  # here, because its import takes a second

    dense = {*models.list_models(module=models.detection), *models.list_models(module=models.segmentation)}
    known = [*models.list_models(module=models), *sorted(dense), *models.list_models(module=models.video)]
    if name not in known:
        raise ModelError(f"torchvision has no network {name!r}", fix=_did_you_mean(name, known))
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if name in dense and not download:
        options["weights_backbone"] = None  # else torchvision downloads those of a classifier
    if name in _WITH_AUXILIARY:
        options |= {"aux_logits": download, "init_weights": False}  # downloaded weights have those heads
    with _download_explained(name):
        model: nn.Module = models.get_model(name, weights="DEFAULT" if download else None, **options)
    return _without_auxiliary(model)


def _torchvision_shape(name: str) -> tuple[int, ...]:
    from torchvision import models

    if name in models.list_models(module=models.detection):
        return (3, 300, 300) if name.startswith("ssd300") else _DETECTION_SHAPE
    if name in models.list_models(module=models.segmentation):
        return _SEGMENTATION_SHAPE
    if name in models.list_models(module=models.video):
        return (3, _VIDEO_FRAMES, *models.get_model_weights(name).DEFAULT.transforms.keywords["crop_size"])
    return (3, 299, 299) if name == "inception_v3" else _DEFAULT_SHAPE


def _without_auxiliary(model: nn.Module) -> nn.Module:
    """GoogLeNet, Inception and segmentation networks without their training heads; any other network as it is."""
    for head in ("aux1", "aux2", "AuxLogits"):
        if isinstance(getattr(model, head, None), nn.Module):
            setattr(model, head, None)
            model.aux_logits = cast(Any, False)
    if isinstance(getattr(model, "aux_classifier", None), nn.Module):
        model.aux_classifier = cast(Any, None)
    return model


def _timm_model(name: str, *, download: bool, num_classes: int | None) -> nn.Module:
    timm = _timm()
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ModelError(f"timm has no network {name!r}", fix=_did_you_mean(architecture, timm.list_models()))
    options = {} if num_classes is None else {"num_classes": num_classes}
    with _download_explained(name):
        model: nn.Module = timm.create_model(name, pretrained=download, **options)
    return model


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        needed_for = "timm:NAME names a network of that package"
        raise MissingPackageError("timm", extra="timm", needed_for=needed_for) from None
    return timm


@contextlib.contextmanager
def _download_explained(name: str) -> Iterator[None]:
    """Whatever goes wrong while a registry builds a network, as one `ModelError`."""
    try:
        yield
    except Exception as problem:  # network, disk, checksum, or options that do not go together
        raise ModelError(
            f"{name} cannot be built: {type(problem).__name__}: {problem}",
            fix="where the weights cannot be downloaded, pass them as --weights FILE.safetensors",
        ) from problem


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """The current folder first on the import path, as ``python -m`` has it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=4, cutoff=0.6)
    return f"did you mean {listed(near)}?" if near else f"write {_FORMS}"
