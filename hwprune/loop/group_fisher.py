"""Group Fisher Pruning as its paper does it (Liu et al., ICML 2021, algorithm 2): a channel goes every few steps.

All weights train meanwhile, batch norm with its batches' own statistics. Every consumer's input is multiplied by a
mask; the squared gradients of the mask, one for each sample, add up over ``interval`` steps (the formula is in
`hwprune.importance.fisher`). Then the coupled channel of least information per cost goes, and the sums begin anew. The
mask sits behind norm and activation, so a masked network computes what the cut one does.

The paper removes one channel every 25 steps of 256 images for classification, at a learning rate of 0.004 (that of
configurations by others: the paper's appendix is not public), until a share of the MACs is left. Cost is the elements
that the convolutions that make the channel write ("memory"). Here the last channel of a group always stays, which the
released code does not see to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from hwprune.data.batches import Batch, Batches, mix
from hwprune.errors import HwpruneError, NumericsError, RunError
from hwprune.graph.network import ChannelGroup, Network
from hwprune.importance.fisher import Gradients, watching
from hwprune.modes import device_of
from hwprune.plan import Plan
from hwprune.recovery.checkpoint import write_safetensors
from hwprune.search.problem import Op

SCHEMA = "hwprune-group-fisher-1"
Widths = Mapping[str, int]


@dataclass(frozen=True)
class GroupFisher:
    """How the paper prunes.

    Attributes:
        interval: training steps from one removal to the next; 25 for classification, 10 for detection.
        channels: coupled channels that go at once; 1 in the paper.
        lr: learning rate, constant; for batches of 256 images.
        momentum, weight_decay: of SGD.
    """

    interval: int = 25
    channels: int = 1
    lr: float = 0.004
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("interval", "channels"):
            if getattr(self, name) < 1:
                raise HwpruneError(f"{name} of Group Fisher pruning cannot be {getattr(self, name)}", fix="at least 1")
        if not self.lr > 0:
            raise HwpruneError(f"the learning rate cannot be {self.lr}", fix="it is above 0")


@dataclass(frozen=True)
class Removed:
    """Where the pruning is, after a removal.

    Attributes:
        step: training steps so far.
        widths: coupled channels that each group keeps.
        loss: mean over the steps since the removal before.
        plan: tells which ones these are.
    """

    step: int
    widths: Widths
    loss: float
    plan: Callable[[], Plan] = field(compare=False)


def group_fisher(
    model: nn.Module,
    network: Network,
    train: Batches,
    *,
    options: GroupFisher,
    price: tuple[Op, ...],
    done: Callable[[Removed], bool],
    checkpoint: Path | None = None,
    seed: int = 0,
) -> Plan:
    """Prune ``model``'s mask while its weights train in place; returns which channels are left.

    Args:
        model: the dense network, on the device that it trains on; in eval mode afterwards.
        network: its analysis.
        train: training batches, epoch after epoch.
        options: see `GroupFisher`.
        price: what information is divided by; empty for nothing.
        done: asked before the first step and after every removal; the first yes ends it.
        checkpoint: file of the state, written after every epoch and at the end; one that is there is gone on from.
        seed: of the order and the augmentation.

    Raises:
        NumericsError: the loss is not a number.
        HwpruneError: no channel is left that may go.
        RunError: the checkpoint belongs to something else, or is damaged.
    """
    state = _State.new(model, network, options)
    step = 0 if checkpoint is None else state.load(checkpoint, options)
    ended = done(Removed(step, state.widths, float("nan"), state.plan))
    losses: list[Tensor] = []
    model.train()
    with watching(model, network, state.gradients), torch.random.fork_rng(devices=[]):
        while not ended:
            number, within = divmod(step, len(train))
            if within == 0:
                torch.manual_seed(mix(seed, number))
            for batch in islice(train.epoch(number), within, None):
                losses.append(state.step(model, batch))
                step += 1
                if step % options.interval == 0:
                    loss, losses = _mean(losses, step), []
                    for _ in range(options.channels):
                        state.remove(price)
                        ended = done(Removed(step, state.widths, loss, state.plan))
                        if ended:
                            break
                    state.information.zero_()
                    if ended:
                        break
            else:
                if checkpoint is not None:
                    state.save(checkpoint, options, step)
    model.eval()
    if checkpoint is not None:
        state.save(checkpoint, options, step)
    return state.plan()


@dataclass(eq=False)
class _State:
    """The mask, what has been learnt about it since the last removal, and the optimizer."""

    model: nn.Module
    network: Network
    mask: Tensor
    information: Tensor
    gradients: Gradients
    optimizer: torch.optim.Optimizer

    @classmethod
    def new(cls, model: nn.Module, network: Network, options: GroupFisher) -> _State:
        device, count = device_of(model), network.count
        mask = torch.ones(count, device=device)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        information = torch.zeros(count, dtype=torch.float64, device=device)
        return cls(model, network, mask, information, Gradients(count, device, mask), optimizer)

    @property
    def widths(self) -> dict[str, int]:
        return {group.name: int(self._left(group).sum()) for group in self.network.free}

    def plan(self) -> Plan:
        kept = {group.name: torch.nonzero(self._left(group)).flatten().tolist() for group in self.network.free}
        return Plan.keeping(self.network, kept)

    def _left(self, group: ChannelGroup) -> Tensor:
        return self.mask[torch.from_numpy(group.numbers)] > 0

    def step(self, model: nn.Module, batch: Batch) -> Tensor:
        """One training step that also adds to the information; returns the loss."""
        device = self.mask.device
        inputs, labels = (part.to(device, non_blocking=True) for part in batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.gradients.start(len(inputs))
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.gradients.sum is not None:
            self.information += self.gradients.sum.square().sum(0)
        self.optimizer.step()
        return loss.detach()

    def remove(self, price: tuple[Op, ...]) -> None:
        """Mask the channel of least information per cost, in a group that keeps another one."""
        widths, best, least = self.widths, -1, float("inf")
        for group in self.network.free:
            if widths[group.name] < 2:
                continue
            saved = _saved(price, widths, group.name)
            numbers = torch.from_numpy(group.numbers)
            scores = torch.where(self._left(group), self.information[numbers], torch.inf)
            score, place = scores.min(0)
            if saved > 0 and float(score) / saved < least:
                best, least = int(numbers[place]), float(score) / saved
        if best < 0:
            raise HwpruneError(
                "no channel is left whose removal saves anything",
                effect="the target is out of reach",
                fix="raise the target, or free channels with fewer --exclude",
            )
        self.mask[best] = 0

    def save(self, path: Path, options: GroupFisher, step: int) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors[f"momentum.{index}"] = values["momentum_buffer"]
        tensors |= {"mask": self.mask, "information": self.information}
        facts = {"schema": SCHEMA, "options": json.dumps(asdict(options)), "step": str(step)}
        write_safetensors(path, tensors, facts)

    def load(self, path: Path, options: GroupFisher) -> int:
        """Take a saved state over; returns its step, 0 where there is no file."""
        if not path.exists():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
            if facts.get("schema") != SCHEMA or json.loads(facts["options"]) != asdict(options):
                raise ValueError("it was made with other options")
            step = int(facts["step"])
            self.model.load_state_dict(
                {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
            )
            self.mask.copy_(tensors["mask"])
            self.information.copy_(tensors["information"])
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise RunError(
                f"the state of the pruning cannot be read: {error}",
                where=path,
                effect="it cannot go on from there",
                fix="delete the file to start it again",
            ) from error
        momenta: dict[int, dict[str, Any]] = {
            int(name.removeprefix("momentum.")): {"momentum_buffer": value}
            for name, value in tensors.items()
            if name.startswith("momentum.")
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": momenta})
        return step


def _saved(price: tuple[Op, ...], widths: dict[str, int], name: str) -> float:
    """What one channel fewer of a group saves; 1 without a price."""
    if not price:
        return 1.0
    narrower = {**widths, name: widths[name] - 1}
    return sum(op.at(widths) - op.at(narrower) for op in price if name in op.groups)


def _mean(losses: list[Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if mean != mean:
        raise NumericsError(
            f"the loss is NaN in the steps before {step}",
            effect="no channel can be chosen",
            fix="use a smaller learning rate",
        )
    return mean
