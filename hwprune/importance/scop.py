"""Channels against knockoffs (Tang et al., "SCOP: Scientific Control for Reliable Network Pruning", NeurIPS 2020)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwprune.errors import DataError, HwpruneError, check_options
from hwprune.graph.makers import Rows, makers, mean_scales, rows_of
from hwprune.graph.network import Network
from hwprune.graph.trace import running
from hwprune.importance.criterion import Batches, Loss, Scores, check_finite
from hwprune.importance.knockoffs import Generator, NewImages, SwappedPatches
from hwprune.models.resolve import import_factory
from hwprune.modes import device_of, hooked

ADAM = (0.5, 0.9)  # as in the authors' code


@dataclass(frozen=True)
class Scop:
    """How much the network prefers a channel to what a knockoff of the image gives in its place.

    The weights are frozen. Behind every convolution that makes a coupled channel, before its norm, a gate beta mixes
    the features of the images with those of their knockoffs, beta * A + (1 - beta) * A~, which run beside them in the
    same batch; the gates train on the loss of the images, from 1/2, clamped to [0, 1]. Then

        I = |gamma| * (beta - (1 - beta))

    with the mean |gamma| of the norms behind. What the knockoffs do better is worth less than nothing in the paper;
    here the least of the network is taken as zero, since nothing can be gained in a search. Coupled channels share
    their gate. The authors train 20 epochs and take one share from every layer. From their code (huawei-noah/Pruning);
    its knockoffs are pictures of a generative network that come with it.

    The gates train at every milestone, so that of 500 training steps on ResNet-20 200 were left for the fine-tuning,
    which ended at 55 ± 5 % of top-1; magnitude, with all 500, ended at 72.4 ± 0.3 %, from as much before it
    (`benchmarks/methods.py`, three seeds). How much of that is the steps' doing has not been measured apart.

    Attributes:
        knockoffs: "new" for Gaussian images with the data's mean and covariance, "patches" for second-order knockoffs
            of each image (see `hwprune.importance.knockoffs`), or package.module:factory for one's own generator.
        steps: of training the gates; batches are used again where there are fewer.
        lr: of Adam.
        seed: of the knockoffs.
    """

    knockoffs: str = "new"
    steps: int = 100
    lr: float = 4e-3
    seed: int = 0
    name: str = "scop"

    def __post_init__(self) -> None:
        check_options(
            "importance",
            self,
            steps=(self.steps > 0, "at least 1"),
            lr=(self.lr > 0, "above 0"),
            knockoffs=(
                ":" in self.knockoffs or self.knockoffs in ("new", "patches"),
                "new, patches, or package.module:factory for your own generator",
            ),
        )

    def scores(self, model: nn.Module, network: Network, batches: Batches, loss: Loss) -> Scores:
        """See `Criterion.scores`. Raises DataError for batches that are no images."""
        known = list(batches)
        if not known or not all(isinstance(inputs, Tensor) and inputs.dim() == 4 for inputs, _ in known):
            raise DataError("importance 'scop' needs batches of images", where="(n, channels, height, width)")
        frozen, scales = copy.deepcopy(model).requires_grad_(False), mean_scales(model, network, self.name)
        gates = self._trained(frozen, network, known, loss).double().cpu().numpy()
        raw = {group.name: scales[group.name] * (2 * gates[group.numbers] - 1) for group in network.free}
        least = min((float(values.min()) for values in raw.values()), default=0.0)
        scores = {name: np.asarray(values - least) for name, values in raw.items()}
        check_finite(scores, self.name)
        return scores

    def _trained(self, model: nn.Module, network: Network, batches: list[tuple[Any, Any]], loss: Loss) -> Tensor:
        """The gates, (coupled channels,)."""
        device, generator = device_of(model), self._generator(torch.cat([images for images, _ in batches]))
        gates = torch.full((network.count,), 0.5, device=device, requires_grad=True)
        optimizer = torch.optim.Adam([gates], lr=self.lr, betas=ADAM)
        with running(model, network.forward), torch.enable_grad(), _mixing(model, network, gates):
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.train()  # the knockoffs are in its statistics too
            for images, targets in islice(cycle(batches), self.steps):
                both = torch.cat([images, generator(images)]).to(device)
                labels = targets.to(device) if isinstance(targets, Tensor) else targets
                optimizer.zero_grad()
                (loss(model(both)[: len(images)], labels) / len(images)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                with torch.no_grad():
                    gates.clamp_(0, 1)
        return gates.detach()

    def _generator(self, images: Tensor) -> Generator:
        if self.knockoffs == "new":
            return NewImages.of(images, self.seed)
        if self.knockoffs == "patches":
            return SwappedPatches.of(images, self.seed)
        found: Generator = import_factory(self.knockoffs, error=HwpruneError)()
        return found


@contextmanager
def _mixing(model: nn.Module, network: Network, gates: Tensor) -> Iterator[None]:
    """In the first half of each batch the features of whatever makes a coupled channel, mixed with the other half's."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    modules = dict(model.named_modules())
    makes = [
        (modules[names[id(rows.parameter)].rpartition(".")[0]], rows)
        for rows in rows_of(makers(model, network), network)
    ]
    with hooked(module.register_forward_hook(_mixed(rows, gates)) for module, rows in makes):
        yield


def _mixed(rows: Rows, gates: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or len(rows.channel_of) != output.shape[1]:
            return output  # an embedding, or a transposed convolution in groups: no filter of its own for each channel
        share = torch.where(rows.channel_of >= 0, gates[rows.channel_of], 1.0)
        share = share.view(-1, *(1,) * (output.dim() - 2))
        real, knockoff = output.chunk(2)
        return torch.cat([share * real + (1 - share) * knockoff, knockoff])

    return hook
