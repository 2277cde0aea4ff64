"""From a trace to coupled channels: which channels live and die together, and which must stay."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor, nn

from hwprune.errors import ModelError, UnknownOpError
from hwprune.graph.call import Call, Rule
from hwprune.graph.labels import Book, Dims, Labels
from hwprune.graph.lowering import lower
from hwprune.graph.mixing import convolve, multiply_matrices
from hwprune.graph.network import ChannelGroup, Consumer, Network, Padding, Slot
from hwprune.graph.rules import RULES, pin_all
from hwprune.graph.trace import Trace, trace

OnUnknown = Literal["pin", "refuse"]


@dataclass
class Flow:
    """Labels of every value of a trace after all rules have run."""

    book: Book
    labels: dict[int, Dims]
    contracted: list[Labels] = field(default_factory=list)
    pads: list[tuple[str, Labels, Labels]] = field(default_factory=list)


def fresh_labels(record: Trace, book: Book) -> dict[int, Dims]:
    """Every index of every dimension of every parameter gets a label of its own."""
    numbers = {value.number: value for value in record.parameters.values()}
    return {number: tuple(book.fresh(size) for size in value.shape) for number, value in numbers.items()}


def propagate(
    record: Trace, rules: Mapping[str, Rule], on_unknown: OnUnknown, book: Book, parameters: Mapping[int, Dims]
) -> Flow:
    """Let the labels of the parameters, by value number, flow through every operator.

    Raises:
        UnknownOpError: with ``on_unknown="refuse"``, an operator without a rule meets channels.
    """
    flow = Flow(book, dict(parameters))
    for value in record.inputs:
        # Batch first, channels second, space behind: channels of the network's own input stay.
        dims: list[Labels | None] = [None] * len(value.shape)
        if len(value.shape) > 1:
            dims[1] = channels = book.fresh(value.shape[1])
            book.pin(channels, "is the network's input")
        flow.labels[value.number] = tuple(dims)
    for op in record.ops:
        call = Call(op, book, flow.labels)
        rule = rules.get(op.name)
        if rule is None:
            reached = sum(len(x) for value in op.inputs for x in call.dims(value) if x is not None)
            if on_unknown == "refuse" and reached:
                raise UnknownOpError(op.name, where=str(op), channels=reached)
            rule = pin_all
        for value, dims_out in zip(op.outputs, rule(call), strict=True):
            flow.labels[value.number] = dims_out
        flow.contracted += call.contracted
        flow.pads += [(op.module, before, after) for before, after in call.pads]
    for value in record.outputs:
        for labels in flow.labels[value.number]:
            if labels is not None:
                book.pin(labels, "reaches the network's output")
    return flow


def analyze(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...] | Tensor,
    *,
    rules: Mapping[str, Rule] = RULES,
    exclude: Sequence[str] = (),
    on_unknown: OnUnknown = "pin",
    model_reference: str = "",
) -> Network:
    """Find the coupled channels of ``model``; the model is left as it was.

    Args:
        model: any module that runs on the example inputs.
        example_inputs: tensors of the shapes that the network will be deployed with, batch first.
        rules: channel rules by operator; pass a larger mapping to teach hwprune an operator.
        exclude: patterns of module names ("head.*") whose channels stay.
        on_unknown: keep the channels that reach an operator without a rule, or refuse the network.
        model_reference: how to load the model again, for plans and reports.

    Raises:
        ModelError: the forward fails, or an exclude pattern matches nothing.
        UnknownOpError: see ``on_unknown``.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    record = trace(model, inputs)
    book = Book()
    flow = propagate(record, rules, on_unknown, book, fresh_labels(record, book))
    _exclude(model, record, flow, exclude)
    shapes = tuple(tuple(value.shape) for value in record.inputs)
    return _Coupling(record, flow).network(model, shapes, model_reference or type(model).__name__)


def _exclude(model: nn.Module, record: Trace, flow: Flow, patterns: Sequence[str]) -> None:
    """Pin what the matched modules (and all inside them) make; what they read may still be narrowed."""
    modules = [name for name, _ in model.named_modules()]
    summed = set() if not flow.contracted else set(np.concatenate([x.ravel() for x in flow.contracted]).tolist())
    for pattern in patterns:
        if not fnmatch.filter(modules, pattern):
            raise ModelError(
                f"the exclude pattern {pattern!r} matches no module", fix="`hwprune inspect` lists the modules"
            )
        for name, value in record.parameters.items():
            parts = name.split(".")[:-1]
            owners = [".".join(parts[: i + 1]) for i in range(len(parts))]
            if not fnmatch.filter(owners, pattern):
                continue
            for labels in flow.labels[value.number]:
                if labels is not None and len(labels) and int(labels[0]) not in summed:
                    flow.book.pin(labels, f"is excluded by {pattern!r}")


class _Coupling:
    """Turns solved labels into groups; a class because every step needs the same five arrays."""

    def __init__(self, record: Trace, flow: Flow) -> None:
        self.record, self.flow = record, flow
        book = flow.book
        self.roots = book.roots()
        count = int(self.roots.max()) + 1 if len(self.roots) else 0
        self.hidden = np.zeros(count, dtype=bool)
        for labels in book.hidden:
            self.hidden[self.roots[labels]] = True
        self.reason: dict[int, str] = {}
        for labels, why in book.pins:
            for root in np.unique(self.roots[labels]):
                self.reason.setdefault(int(root), why)
        self.contracted = np.zeros(book.size, dtype=bool)
        for labels in flow.contracted:
            self.contracted[labels] = True
        self.number = np.full(count, -1, dtype=np.int64)  # of the coupled channel, for roots that may go

    def network(self, model: nn.Module, shapes: tuple[tuple[int, ...], ...], reference: str) -> Network:
        groups = self._groups()
        group_of = np.zeros(sum(group.width for group in groups), dtype=np.int64)
        for position, group in enumerate(groups):
            group_of[group.numbers] = position
        names = [group.name for group in groups]
        layers, sizes = lower(self.record, self.flow.labels, self._numbers, group_of, names)
        consumers, unwatched = self._consumers(model)
        digest = hashlib.sha256()
        for group in groups:
            digest.update(f"{group.name} {group.width} {group.pinned is None}\n".encode())
            for slot in group.slots:
                digest.update(f"{slot.parameter} {slot.dim} ".encode() + slot.indices.tobytes())
        return Network(
            groups=groups,
            layers=layers,
            parameter_dims=sizes,
            consumers=consumers,
            unwatched=unwatched,
            paddings=tuple(Padding(m, self._numbers(a), self._numbers(b)) for m, a, b in self.flow.pads),
            trace=self.record,
            channel_of={
                name: tuple(None if x is None else self._numbers(x) for x in self.flow.labels[value.number])
                for name, value in self.record.parameters.items()
            },
            input_shapes=shapes,
            model_reference=reference,
            groups_hash=digest.hexdigest()[:16],
        )

    def _numbers(self, labels: Labels) -> Labels:
        """Number of the coupled channel at every label, -1 where it stays."""
        return self.number[self.roots[labels]]

    def _slots_by_root(self) -> dict[int, dict[tuple[int, int], list[int]]]:
        """Per coupled channel: (parameter's value number, dimension) -> indices there."""
        found: dict[int, dict[tuple[int, int], list[int]]] = {}
        for number in dict.fromkeys(value.number for value in self.record.parameters.values()):
            for dim, labels in enumerate(self.flow.labels[number]):
                if labels is None:
                    continue
                roots = self.roots[labels]
                for index in np.flatnonzero(~self.hidden[roots]):
                    found.setdefault(int(roots[index]), {}).setdefault((number, dim), []).append(int(index))
        return found

    def _groups(self) -> tuple[ChannelGroup, ...]:
        channels = self._slots_by_root()
        name_of = {value.number: name for name, value in reversed(list(self.record.parameters.items()))}
        kinds: dict[tuple[object, ...], list[int]] = {}
        for root, slots in channels.items():
            shape = tuple((key, len(indices)) for key, indices in sorted(slots.items()))
            kinds.setdefault((self.reason.get(root), shape), []).append(root)
        drafts = []
        for (why, _), roots in kinds.items():
            reason, lying = None if why is None else str(why), list[Slot]()
            for key in sorted(channels[roots[0]]):
                number, dim = key
                labels = self.flow.labels[number][dim]
                indices = np.array([channels[root][key] for root in roots], dtype=np.int64)
                contracted = labels is not None and bool(self.contracted[labels[indices[0, 0]]])
                lying.append(Slot(name_of[number], dim, indices, contracted))
            if reason is None and len(roots) == 1:
                reason = "is a single coupled channel, and one must stay"
            drafts.append((reason, roots, tuple(lying)))
        drafts.sort(key=lambda draft: draft[0] is not None)  # free ones first, otherwise in forward order
        return self._named(drafts)

    def _named(self, drafts: list[tuple[str | None, list[int], tuple[Slot, ...]]]) -> tuple[ChannelGroup, ...]:
        groups, used, start = [], dict[str, int](), 0
        for reason, roots, slots in drafts:
            maker = next((slot for slot in slots if not slot.contracted), None)
            first = slots[0] if maker is None else maker
            name = first.parameter.rpartition(".")[0] or first.parameter
            name = name if maker is not None else f"input of {name}"
            used[name] = used.get(name, 0) + 1
            name = name if used[name] == 1 else f"{name}#{used[name]}"
            numbers = np.arange(start, start + len(roots))
            if reason is None:
                self.number[roots] = numbers
            start += len(roots)
            groups.append(ChannelGroup(name, len(roots), slots, reason, numbers))
        return tuple(groups)

    def _consumers(self, model: nn.Module) -> tuple[tuple[Consumer, ...], tuple[str, ...]]:
        """Modules whose inputs an importance can watch, and calls that sum over channels outside of such modules."""
        modules = dict(model.named_modules())
        found: dict[str, Consumer] = {}
        unwatched: dict[str, None] = {}
        for op in self.record.ops:
            is_conv = RULES.get(op.name) is convolve
            if not is_conv and RULES.get(op.name) is not multiply_matrices:
                continue
            x = op.inputs[0] if is_conv else op.inputs[-2]
            labels = self.flow.labels.get(x.number, (None,) * len(x.shape))[1 if is_conv else -1]
            if labels is None or not (numbers := self._numbers(labels)).max(initial=-1) >= 0:
                continue
            if isinstance(modules.get(op.module), nn.Linear | nn.modules.conv._ConvNd):
                found[op.module] = Consumer(op.module, numbers)
            else:
                unwatched[str(op)] = None
        return tuple(found.values()), tuple(unwatched)
