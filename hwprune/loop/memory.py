"""A bound on what the network's engine takes for activations, as the runtime itself tells it of a built engine.

The search guides itself by the largest layer: what the table measured each layer to take (input, output and scratch),
or where it has nothing, what its inputs and outputs count. What the whole engine takes beyond its largest layer (what
is kept for later, other layouts) is learnt as a factor, at first from the dense engine, then from every candidate's.
Only an engine that was built and asked meets the bound.

How far this is off before any candidate has taught it, at 20 random widths of ResNet-20 and of ResNet-18 on a CPU: with
measured layers engines take 0.89 to 1.40 times the prediction with PyTorch, 0.83 to 1.6 times with ONNX Runtime, whose
engines reorder unaligned widths into tensors of their own; with counted layers 0.6 to 3 times
(`benchmarks/activation_memory.py`, `benchmarks/results/activation_memory.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from hwprune.cost.normalisation import LayerCost
from hwprune.cost.work import output_elements
from hwprune.errors import TargetError
from hwprune.graph.layers import NetworkLayer
from hwprune.latency.isolated import input_shapes
from hwprune.latency.predictor import Predictor
from hwprune.latency.table import LatencyTable
from hwprune.layer import Layer
from hwprune.loop.job import Job
from hwprune.search.problem import Budget, Op
from hwprune.target import MemoryLimit
from hwprune.units import format_bytes, format_percent
from hwprune.validation.ledger import Candidate

NAME = "activation memory"
TRUST = 2.0  # no prediction is higher than what the engine takes by this factor: 1 / 0.6 at most
FP32_BYTES = 4
Widths = Mapping[str, int]


@dataclass(frozen=True)
class MemoryGoal:
    """A bound on activation memory, and what is needed to aim at it.

    Attributes:
        limit: what was asked.
        dense_bytes: what the dense network's engine takes.
        ops: bytes of each layer as functions of the widths.
        full: widths of the dense network.
    """

    limit: MemoryLimit
    dense_bytes: int
    ops: tuple[Op, ...]
    full: Widths

    @property
    def limit_bytes(self) -> float:
        """The most that an engine may take."""
        return self.limit.bytes_of(self.dense_bytes)

    def predicted_bytes(self, widths: Widths) -> float:
        """What an engine at ``widths`` takes, if it has to its largest layer what the dense one has."""
        return self.dense_bytes * self._largest(widths) / self._largest(self.full)

    def factor(self, tried: Iterable[Candidate]) -> float:
        """Measured over predicted, the largest of these candidates; 1 where none of them was measured."""
        known = [(one, measured_bytes(one)) for one in tried]
        return max((told / self.predicted_bytes(one.widths) for one, told in known if told is not None), default=1.0)

    def budget(self, share: float, factor: float) -> Budget:
        """What the search may spend ``share`` of the way down: all of the bound at 1, evenly in proportion before.

        Args:
            factor: see `factor`.
        """
        scale = factor * self.dense_bytes / self._largest(self.full)
        ratio = self.limit_bytes / self.dense_bytes
        limit = self.dense_bytes * (ratio**share if ratio < 1 else ratio)
        ops = tuple(Op(op.groups, partial(_scaled, op, scale)) for op in self.ops)
        return Budget(NAME, ops, limit, peak=True)

    def within_reach(self, budget: Budget, narrowest: Widths) -> Budget:
        """The budget, or the least that the narrowest widths are predicted to take where that is more.

        Predictions can be far off; so what seems just out of reach is built, and the engine decides.

        Raises:
            TargetError: it is out of reach by more than predictions are off.
        """
        least = budget.spent(narrowest)
        if least > TRUST * budget.limit:
            raise self.out_of_reach(least)
        return replace(budget, limit=max(least, budget.limit))

    def met_by(self, candidate: Candidate) -> bool:
        """Whether its engine was measured within the bound."""
        told = measured_bytes(candidate)
        return told is not None and told <= self.limit_bytes

    def told(self, candidate: Candidate) -> str:
        """The candidate's memory beside the bound, for people."""
        bytes_ = measured_bytes(candidate)
        return (
            f"{NAME} {'not measured' if bytes_ is None else format_bytes(bytes_)} of {format_bytes(self.limit_bytes)}"
        )

    def out_of_reach(self, reached_bytes: float) -> TargetError:
        """The error where no widths meet the bound."""
        return TargetError(
            f"--max-memory {self.limit} is out of reach",
            where=f"the least that the engine is predicted to take: {format_bytes(reached_bytes)}, "
            f"{format_percent(reached_bytes / self.dense_bytes)} of the dense one's {format_bytes(self.dense_bytes)}",
            effect="no network was written",
            fix="raise it, or free channels with a smaller --min-width, fewer --exclude or a finer --multiple",
        )

    def _largest(self, widths: Widths) -> float:
        return max(op.at(widths) for op in self.ops)


def check_told(job: Job, dense: Candidate) -> None:
    """Raises TargetError where memory is bounded and the dense engine's runtime does not tell what it takes."""
    if job.settings.max_memory and measured_bytes(dense) is None:
        raise TargetError(
            f"{job.subject.spec.name} does not tell what activation memory an engine takes",
            where=f"the dense network's engine for {job.subject.spec.device}",
            effect="--max-memory cannot be checked",
            fix="leave it out, choose another --runtime, or bound what can be counted: --target memory:50%",
        )


def memory_goal(job: Job, dense: Candidate, predictor: LayerCost | None) -> MemoryGoal | None:
    """The bound of the run; None where none was asked. The dense engine has told what it takes: see `check_told`."""
    told = measured_bytes(dense)
    if not job.settings.max_memory or told is None:
        return None
    table = predictor.table if isinstance(predictor, Predictor) else None
    layers = [layer for layer in job.subject.network.layers if not layer.fused]
    ops = tuple(Op(_groups(layer), partial(layer_bytes, layer, table)) for layer in layers)
    return MemoryGoal(MemoryLimit.parse(job.settings.max_memory), told, ops, job.subject.network.widths)


def layer_bytes(layer: NetworkLayer, table: LatencyTable | None, widths: Widths) -> float:
    """What one layer takes at ``widths``: as measured where the table has it, else its inputs and outputs counted."""
    wanted = layer.at(widths)
    if table is not None and wanted in table:
        told = table.lookup(wanted).activation_bytes
        if told:
            return float(told)
    return float(counted_bytes(wanted))


def counted_bytes(layer: Layer) -> int:
    """Inputs and outputs in single precision.

    >>> counted_bytes(Layer("add", 8, 8, size=(4, 4), out_size=(4, 4)))
    1536
    """
    return FP32_BYTES * (sum(prod(shape) for shape in input_shapes(layer)) + output_elements(layer))


def measured_bytes(candidate: Candidate) -> int | None:
    """What the candidate's own engine takes; None where it was not built or its runtime does not tell."""
    return candidate.engines[0].activation_bytes if candidate.engines and candidate.engines[0].ok else None


def _scaled(op: Op, scale: float, widths: Widths) -> float:
    return scale * op.at(widths)


def _groups(layer: NetworkLayer) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*layer.c_in.groups, *layer.c_out.groups)))
