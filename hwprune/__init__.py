"""hwprune: prune a trained PyTorch network until it meets a latency target as the device's own runtime measures it.

network = hwprune.analyze(model, example_inputs)      # what may go, and why the rest stays
plan    = hwprune.Plan.keeping(network, {"layer1.0.conv1": [0, 2, 3, 5]})
small   = hwprune.cut(model, plan)                    # a smaller copy; the model is left as it was
result  = hwprune.prune(model, data=hwprune.load_data("cifar10:PATH"), target="60%")
small   = hwprune.load("runs/pruned")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprune.data.batches import Data as Data
    from hwprune.data.load import load_data as load_data
    from hwprune.errors import HwpruneError as HwpruneError
    from hwprune.graph.choices import Choices as Choices
    from hwprune.graph.coupling import analyze as analyze
    from hwprune.graph.inputs import Inputs as Inputs
    from hwprune.graph.network import ChannelGroup as ChannelGroup
    from hwprune.graph.network import Network as Network
    from hwprune.graph.surgery import cut as cut
    from hwprune.graph.verification import verify as verify
    from hwprune.loop.saved import load as load
    from hwprune.loop.settings import Settings as Settings
    from hwprune.plan import Plan as Plan
    from hwprune.pruning import Result as Result
    from hwprune.pruning import prune as prune
    from hwprune.pruning import prune_curve as prune_curve
    from hwprune.recovery.recipe import Recipe as Recipe

__version__ = "0.1.0"
__all__ = [
    "ChannelGroup",
    "Choices",
    "Data",
    "HwpruneError",
    "Inputs",
    "Network",
    "Plan",
    "Recipe",
    "Result",
    "Settings",
    "analyze",
    "cut",
    "load",
    "load_data",
    "prune",
    "prune_curve",
    "verify",
]

# Each is imported when it is first asked for: together they take seconds, PyTorch's among them, and the process that
# builds a candidate's engine needs none of it.
_HOMES = {
    "ChannelGroup": "hwprune.graph.network",
    "Choices": "hwprune.graph.choices",
    "Data": "hwprune.data.batches",
    "HwpruneError": "hwprune.errors",
    "Inputs": "hwprune.graph.inputs",
    "Network": "hwprune.graph.network",
    "Plan": "hwprune.plan",
    "Recipe": "hwprune.recovery.recipe",
    "Result": "hwprune.pruning",
    "Settings": "hwprune.loop.settings",
    "analyze": "hwprune.graph.coupling",
    "cut": "hwprune.graph.surgery",
    "load": "hwprune.loop.saved",
    "load_data": "hwprune.data.load",
    "prune": "hwprune.pruning",
    "prune_curve": "hwprune.pruning",
    "verify": "hwprune.graph.verification",
}

if not TYPE_CHECKING:  # type checkers would take any name for known

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
