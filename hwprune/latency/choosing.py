"""Which predictor a table gives for a network, and how far its predictions are to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from typing import Final, Literal, get_args

from hwprune.graph.layers import NetworkLayer
from hwprune.latency.in_context import FEWEST_SAMPLES, InContext, conformal, fitted
from hwprune.latency.predictor import Predictor
from hwprune.latency.table import LatencyTable

Method = Literal["isolated", "in-context"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


def usual_method(runtime: str) -> Method:
    """How tables for this runtime are measured unless the user says otherwise.

    An isolated TensorRT engine pays its own changes of layout: it over-estimates the same layer in a network 2.18
    times. With ONNX Runtime on a CPU samples of whole networks told unseen ones better on all of seven networks,
    0.6 to 1.7 % off at the median against 0.8 to 4.0 % (`benchmarks/prediction_error.py`). With the other runtimes a
    framed layer costs about what it costs in a network.

    >>> usual_method("tensorrt_rtx"), usual_method("onnxruntime"), usual_method("pytorch")
    ('in-context', 'in-context', 'isolated')
    """
    return "in-context" if runtime.startswith(("tensorrt", "onnxruntime")) else "isolated"


def predictor_of(
    table: LatencyTable, layers: Sequence[NetworkLayer], *, structure: str, network: str, method: Method
) -> Predictor:
    """The predictor that a table gives for a network, not yet calibrated.

    Args:
        structure: the network's fingerprint, by `structure_of`: what its samples go by.
        network: its name, which its held-out checks go by.
        method: "in-context" predicts from samples of whole networks as far as there are any.
    """
    contexts: tuple[InContext, ...] = ()
    if method == "in-context":
        contexts = contexts_for(table, layers, structure)
    own = contexts[0] if contexts and contexts[0].samples[0].structure == structure else None
    return Predictor(table, layers, contexts=contexts, band=band_of(table, network, method, own))


def contexts_for(table: LatencyTable, layers: Sequence[NetworkLayer], structure: str) -> tuple[InContext, ...]:
    """The network's own samples fitted; where they are missing, those of the table's other networks."""
    own = table.samples_of(structure)
    if len(own) >= FEWEST_SAMPLES:
        return (fitted(own, layers),)
    others = {key: table.samples_of(key) for key in table.structures if key != structure}
    return tuple(fitted(found, table.structures[key]) for key, found in others.items() if len(found) >= FEWEST_SAMPLES)


def band_of(table: LatencyTable, network: str, method: Method, context: InContext | None) -> float:
    """How far above a prediction a measurement may lie, as a share of it, with 90 % probability; never negative.

    From the table's held-out check of this network where there is one, else from samples that were left out one by
    one. With too few of either to promise 90 %, the largest error seen; 0 where none was.
    """
    checks = [check for check in table.held_out if (check.network, check.method) == (network, method)]
    residuals: Sequence[float] = ()
    if checks:
        pairs = zip(checks[-1].measured_ms, checks[-1].predicted_ms, strict=True)
        residuals = [measured / predicted - 1 for measured, predicted in pairs]
    elif context is not None:
        residuals = context.residuals
    if not residuals:
        return 0.0
    bound = conformal(residuals)
    return max(0.0, max(residuals) if isinf(bound) else bound)
