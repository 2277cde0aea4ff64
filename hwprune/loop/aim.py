"""One target on one deployment, what predicts it, and the budget that the search gets from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, prod
from typing import Final

from hwprune.cost.normalisation import LayerCost, latency_ops, mac_ops, memory_ops, parameter_ops
from hwprune.cost.work import macs, output_elements
from hwprune.errors import TargetError, listed
from hwprune.latency.predictor import Predictor
from hwprune.layer import Layer
from hwprune.loop.goal import Goal
from hwprune.loop.job import Job
from hwprune.search.problem import Budget
from hwprune.units import format_percent
from hwprune.validation.ledger import Candidate

# Measured over predicted is corrected in steps of this ratio, so that noise below it does not change the widths.
STEP: Final = 1.01
MOST_TOLD: Final = 3  # layers that an error names


@dataclass(frozen=True, eq=False)
class Aim:
    """A bound on one deployment.

    Attributes:
        job: of the deployment.
        goal: the bound.
        predictor: of the deployment's latency; None where the bound is no latency, or the search is done.
        place: of the deployment among those of the run, as of its engine among those of a candidate.
    """

    job: Job
    goal: Goal
    predictor: LayerCost | None
    place: int = 0

    @property
    def where(self) -> str:
        """The deployment for messages; "" where there is one only."""
        return f" with {self.job.name}" if self.job.name else ""

    def predicted_ms(self, widths: Mapping[str, int]) -> float | None:
        """Predicted latency; None where there is none: the correlated cost is no latency."""
        return None if self.goal.correlated else self.cost_ms(widths)

    def cost_ms(self, widths: Mapping[str, int]) -> float | None:
        """What the predictor says of these widths, or of the next wider ones that a table has; None without one."""
        if self.predictor is None:
            return None
        choices = self.job.subject.choices
        known = {name: min((c for c in choices[name] if c >= width), default=width) for name, width in widths.items()}
        return self.predictor.predict_ms(known)

    def measured(self, candidate: Candidate) -> float | None:
        """The candidate's measured share of the dense latency; None where it was not timed."""
        beside = candidate.engines[self.place].beside if self.place < len(candidate.engines) else None
        return None if beside is None else beside.ratio

    def budget(self, ratio: float) -> Budget:
        """What the search may spend of what this bounds: ``ratio`` of the dense network's."""
        network, limit = self.job.subject.network, ratio * self.goal.dense
        quantity = self.goal.target.quantity
        name = f"{quantity}{self.where}"
        if quantity == "latency":
            if self.predictor is None:
                raise TargetError("a latency target needs a latency table")
            predictor = self.predictor
            return Budget(name, latency_ops(network, predictor), predictor.summed_ms(limit), predictor.constant_ms)
        if quantity == "params":
            return Budget(name, parameter_ops(network, self.job.subject.parameters), limit)
        return Budget(name, mac_ops(network) if quantity == "macs" else memory_ops(network), limit)

    def check_reachable(self, ratio: float) -> None:
        """Raises TargetError before anything is tried where even the narrowest widths cost too much."""
        budget = self.budget(ratio)
        narrowest = {name: choices[0] for name, choices in self.job.subject.choices.items()}
        if not budget.holds(narrowest):
            raise self.out_of_reach(narrowest, budget)

    def out_of_reach(self, widths: Mapping[str, int], budget: Budget) -> TargetError:
        """The error where the best widths are above the budget."""
        if self.goal.target.quantity == "latency" and self.predictor is not None:
            reached = self.predictor.predict_ms(widths)
        else:
            reached = budget.spent(widths)
        best = f"{format_percent(reached / self.goal.dense)} of the dense {self.goal.bounded}{self.where}"
        return TargetError(
            f"the target {self.goal.target}{self.where} is out of reach",
            where=f"the best that can be reached: {best}; {self._in_the_way(widths)}",
            effect="no network was written",
            fix="raise the target, or free channels with a smaller --min-width, fewer --exclude or a finer --multiple; "
            "`hwprune inspect` says why channels stay",
        )

    def _in_the_way(self, widths: Mapping[str, int]) -> str:
        """What is left at these widths, in words: the costliest layers, and those that no group can narrow."""
        costs = self._costs(widths)
        total = sum(costs.values())
        if not total:
            return "nothing of it is in a layer that can be narrowed"
        most = sorted(costs, key=lambda name: -costs[name])[:MOST_TOLD]
        told = f"most of that: {', '.join(f'{name} {format_percent(costs[name] / total)}' for name in most)}"
        whole = {layer.name for layer in self.job.subject.network.layers if not (layer.c_in.terms or layer.c_out.terms)}
        fixed = sorted((name for name in costs if name in whole and costs[name]), key=lambda name: -costs[name])
        if fixed:
            share = format_percent(sum(costs[name] for name in fixed) / total)
            told += f"; {share} in layers all of whose channels stay: {listed(fixed, most=MOST_TOLD)}"
        return told

    def _costs(self, widths: Mapping[str, int]) -> dict[str, float]:
        """What the goal bounds, by layer; parameters by name."""
        subject, quantity = self.job.subject, self.goal.target.quantity
        if quantity == "params":
            dims = subject.network.parameter_dims  # in the network's order, so that ties are told alike every time
            return {
                name: float(prod(size(widths) for size in dims[name])) for name in dims if name in subject.parameters
            }
        layers = [layer for layer in subject.network.layers if not layer.fused]
        if quantity == "latency":
            cost = self.predictor
            if cost is None:
                return {}
            return {one.name: float(cost.costs_at(one, [(one.c_in(widths), one.c_out(widths))])[0]) for one in layers}
        count = macs if quantity == "macs" else _written
        return {layer.name: float(count(layer.at(widths))) for layer in layers}

    def margin(self, ratio: float) -> int:
        """Steps to aim below the target by at first: the predictor's band, as far as the narrowest widths reach.

        What is measured on the way replaces it.
        """
        if self.goal.target.quantity != "latency" or not isinstance(self.predictor, Predictor):
            return 0
        steps = ceil(log(1 + self.predictor.band) / log(STEP) - 1e-9)
        while steps > 0:
            try:
                self.check_reachable(ratio / STEP**steps)
                break
            except TargetError:
                steps -= 1
        return steps

    def taught(self, candidate: Candidate, fallback: int) -> int:
        """The correction that a candidate on the way teaches; ``fallback`` where it was not measured."""
        measured = self.measured(candidate)
        if measured is None or not self.goal.measured:
            return fallback
        return self.steps(measured, candidate.widths, fallback)

    def steps(self, measured: float, widths: Mapping[str, int], fallback: int) -> int:
        """Steps by which a measured share of the dense latency is above the predicted one, rounded up."""
        predicted = self.predicted_ms(widths)
        if predicted is None or measured == inf:
            return fallback
        return ceil(log(measured * self.goal.dense / predicted) / log(STEP) - 1e-9)


def _written(layer: Layer) -> int:
    return output_elements(layer) if layer.kind == "conv" else 0


Aims = Sequence[Aim]
