"""From a network to its coupled channels: which live and die together, and which must stay."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from hwprune.errors import ModelError
from hwprune.graph.call import Rule
from hwprune.graph.choices import Choices
from hwprune.graph.flow import Flow, OnUnknown, settle
from hwprune.graph.grouping import Grouping
from hwprune.graph.inputs import Inputs
from hwprune.graph.lowering import lower
from hwprune.graph.mixing import convolve, multiply_matrices
from hwprune.graph.network import Consumer, Network, Spanning
from hwprune.graph.opening import fixed_weights, kernels, opened
from hwprune.graph.probe import Probe
from hwprune.graph.rules import RULES
from hwprune.graph.trace import Forward, Trace, Value, trace
from hwprune.modes import modules_of, uncollected


def analyze(
    model: nn.Module,
    example_inputs: Any,
    *,
    rules: Mapping[str, Rule] = RULES,
    exclude: Sequence[str] = (),
    on_unknown: OnUnknown = "pin",
    choices: Choices = Choices(),  # noqa: B008  # frozen
    forward: Forward | None = None,
    model_reference: str = "",
) -> Network:
    """Find the coupled channels of ``model``; the model is left as it was.

    Args:
        model: any module that runs on the example inputs.
        example_inputs: of the shapes that the network will be deployed with, batch first: a tuple holds the positional
            arguments (tensors in any nesting), anything else is the only one. See also `Inputs`, for keyword arguments.
        rules: channel rules by operator; pass a larger mapping to teach hwprune an operator.
        exclude: patterns of module names ("head.*") whose channels stay.
        on_unknown: keep the channels that reach an operator without a rule, or refuse the network.
        choices: how channels are coupled where there is a choice.
        forward: run as ``forward(model, *example_inputs)`` in the place of the model's own. torchvision's detectors
            get theirs by themselves: backbone, pyramid and heads, without the search for boxes.
        model_reference: how to load the model again, for plans and reports.

    Raises:
        ModelError: the forward fails, an exclude pattern matches nothing, or the model is compiled, wrapped or
            quantised.
        UnknownOpError: see ``on_unknown``.
    """
    with uncollected():
        return _analyzed(
            model,
            Inputs.of(example_inputs),
            rules,
            exclude,
            on_unknown,
            choices,
            opened(model, forward),
            model_reference,
        )


def _analyzed(
    model: nn.Module,
    inputs: Inputs,
    rules: Mapping[str, Rule],
    exclude: Sequence[str],
    on_unknown: OnUnknown,
    choices: Choices,
    forward: Forward | None,
    model_reference: str,
) -> Network:
    record = trace(model, inputs, forward)
    flow = settle(record, rules, on_unknown, kernels(model), choices)
    _exclude(model, record, flow, exclude)
    _fix(model, record, flow)
    probe = Probe(model, inputs, forward, record, flow)
    grouping = probe.run()
    groups = grouping.groups
    group_of = np.zeros(grouping.count, dtype=np.int64)
    for position, group in enumerate(groups):
        group_of[group.numbers] = position
    names = [group.name for group in groups]
    consumers, unwatched = _consumers(model, record, flow, grouping)
    return Network(
        groups=groups,
        lowering=partial(lower, record, grouping.dims, group_of, names, flow.offsets),
        consumers=consumers,
        unwatched=unwatched,
        attributes=probe.attributes(grouping),
        spanning=_spanning(record, flow, grouping),
        computed=tuple(position for position, why in flow.spans.items() if not why),
        trace=record,
        rescaled=frozenset(probe.rescaled),
        offsets=probe.offsets,
        channels={number: grouping.dims(value) for number, value in _values(record).items()},
        literals={position: grouping.counted(found) for position, found in probe.literals.items()},
        inputs=inputs,
        forward=forward,
        choices=choices,
        model_reference=model_reference or type(model).__name__,
        groups_hash=_fingerprint(grouping),
    )


def _values(record: Trace) -> dict[int, Value]:
    values = [*record.parameters.values(), *record.inputs, *(value for op in record.ops for value in op.outputs)]
    return {value.number: value for value in values}


def _exclude(model: nn.Module, record: Trace, flow: Flow, patterns: Sequence[str]) -> None:
    """Pin what the matched modules (and all inside them) make; what they read may still be narrowed."""
    if not patterns:
        return
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


def _fix(model: nn.Module, record: Trace, flow: Flow) -> None:
    """Pin the weights that cannot be cut; their reason is told before those that follow from it."""
    read = {value.number for op in record.ops for value in op.inputs} | {value.number for value in record.outputs}
    unused = [name for name, value in record.parameters.items() if value.number not in read]
    for name, why in {**dict.fromkeys(unused, "is not used by the forward pass"), **fixed_weights(model)}.items():
        for labels in flow.labels[record.parameters[name].number]:
            if labels is not None:
                flow.book.pins.insert(0, (labels, why))


def _fingerprint(grouping: Grouping) -> str:
    digest = hashlib.sha256()
    for group in grouping.groups:
        digest.update(f"{group.name} {group.width} {group.pinned is None}\n".encode())
        for slot in group.slots:
            digest.update(f"{slot.parameter} {slot.dim} ".encode() + slot.indices.tobytes())
    return digest.hexdigest()[:16]


def _spanning(record: Trace, flow: Flow, grouping: Grouping) -> tuple[Spanning, ...]:
    """The calls whose values for channels that stay depend on channels that go."""
    found = []
    for position, why in flow.spans.items():
        op = record.ops[position]
        if why and any(x is not None and (x >= 0).any() for value in op.inputs for x in grouping.dims(value)):
            found.append(Spanning(position, op.module, why))
    return tuple(found)


def _consumers(
    model: nn.Module, record: Trace, flow: Flow, grouping: Grouping
) -> tuple[tuple[Consumer, ...], tuple[str, ...]]:
    """Modules whose inputs an importance can watch, and calls that alone sum over channels outside of such modules."""
    modules = modules_of(model)
    found: dict[str, Consumer] = {}
    elsewhere: list[tuple[str, Any]] = []
    watched = np.zeros(grouping.count + 1, dtype=bool)
    for op in record.ops:
        is_conv = RULES.get(op.name) is convolve
        if not is_conv and RULES.get(op.name) is not multiply_matrices:
            continue
        x = op.inputs[0] if is_conv else op.inputs[-2]
        numbers = grouping.dims(x)[1 if is_conv else -1]
        if numbers is None or numbers.max(initial=-1) < 0:
            continue
        if isinstance(modules.get(op.module), nn.Linear | nn.modules.conv._ConvNd):
            found[op.module] = Consumer(op.module, numbers)
            watched[numbers] = True
        else:
            elsewhere.append((str(op), numbers))
    unwatched = dict.fromkeys(text for text, numbers in elsewhere if not watched[numbers].all())
    return tuple(found.values()), tuple(unwatched)
