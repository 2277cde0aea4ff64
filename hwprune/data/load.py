"""From what the user types to `Data`.

npz:PATH              uint8 images and labels
cifar10:PATH          CIFAR-10, as npz files or as the python version
imagefolder:PATH      PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg
digits                the handwritten digits of scikit-learn, nothing to download
package.module:factory  the user's function; returns (train_loader, validation_loader) or Data
"""

from __future__ import annotations

import math
from pathlib import Path

from hwprune.data.arrays import read_cifar10, read_digits, read_npz
from hwprune.data.batches import Data, Loading
from hwprune.data.folders import read_imagefolder
from hwprune.data.loaders import from_loaders
from hwprune.errors import DataError
from hwprune.models.resolve import call_factory

_FORMS = "npz:PATH, cifar10:PATH, imagefolder:PATH, digits or package.module:factory"


def load_data(
    spec: str,
    *,
    batch_size: int = 128,
    input_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    workers: int = 0,
    holdout: float = 0.2,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Data:
    """The data set that ``spec`` names; see the head of this module, and `Loading` for the options.

    A factory gets those of ``batch_size``, ``seed`` and ``workers`` that it has parameters for. Raises
    `DataError` where there is nothing to read, or it does not have the shape that is wanted.
    """
    loading = Loading(batch_size, input_shape, seed, workers, holdout, mean, std)
    _check_options(loading)
    kind, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    if spec == "digits":
        return read_digits(loading)
    if kind in ("npz", "cifar10", "imagefolder"):
        if not rest or not path.exists():
            raise DataError(f"no such file or folder: {rest!r}", where=spec, fix=f"write {kind}:PATH")
        if kind == "npz":
            return read_npz(path, loading)
        return read_cifar10(path, loading) if kind == "cifar10" else read_imagefolder(path, loading)
    if not rest:
        raise DataError(f"unknown data {spec!r}", fix=f"write {_FORMS}")
    return _from_factory(spec, loading)


def _from_factory(spec: str, loading: Loading) -> Data:
    options = {"batch_size": loading.batch_size, "seed": loading.seed, "workers": loading.workers}
    made = call_factory(spec, options, error=DataError)
    if isinstance(made, Data):
        return made
    if isinstance(made, tuple | list) and len(made) == 2:
        return from_loaders(made[0], made[1], seed=loading.seed, name=spec)
    raise DataError(
        f"the factory returned {type(made).__name__}",
        where=spec,
        fix="return (train_loader, validation_loader), or hwprune's Data",
    )


def _check_options(loading: Loading) -> None:
    for name, values in (("mean", loading.mean), ("std", loading.std)):
        if values is not None and not all(math.isfinite(value) for value in values):
            raise DataError(f"{name} is not finite: {values}")
    wrong = {
        "batch_size": loading.batch_size < 1,
        "seed": loading.seed < 0,
        "workers": loading.workers < 0,
        "holdout": not 0 < loading.holdout < 1,
        "std": loading.std is not None and min(loading.std) <= 0,
    }
    for name, bad in wrong.items():
        if bad:
            raise DataError(f"{name} cannot be {getattr(loading, name)}", fix=f"choose another {name}")
