"""hwprune: prune a trained PyTorch network until it meets a latency target as the device's own runtime measures it.

network = hwprune.analyze(model, example_inputs)      # what may go, and why the rest stays
plan    = hwprune.Plan.keeping(network, {"layer1.0.conv1": [0, 2, 3, 5]})
small   = hwprune.cut(model, plan)                    # a smaller copy; the model is left as it was
result  = hwprune.prune(model, data=hwprune.load_data("cifar10:PATH"), target="60%")
small   = hwprune.load("runs/pruned")
"""

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
