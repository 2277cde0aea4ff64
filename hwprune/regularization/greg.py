"""Growing regularisation (Wang et al., "Neural Pruning via Growing Regularization", ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from hwprune.errors import check_options
from hwprune.graph.network import Network
from hwprune.regularization.base import Idle, Penalties, When, filters_of, mean_sizes, smallest


@dataclass(frozen=True)
class Greg1:
    """GReg-1: the penalty of what goes grows in equal steps to ``ceiling`` and is held there.

    The authors' code adds 1e-4 every ``every`` steps up to 1, over 50,000 (ImageNet) to 100,000 (CIFAR) steps, and
    holds it for 40,000 and 10,000 more. Here the increment follows from the steps that there are. A layer stops there
    as soon as the weights that stay are 1000 times the others; here all go on to the end.

    Attributes:
        ceiling: of lambda, tau in the paper.
        every: training steps from one increment to the next, K_u in the paper.
        stabilize: share of the steps at the end in which lambda is held.
    """

    ceiling: float = 1.0
    every: int = 10
    stabilize: float = 0.1
    name: str = "greg1"
    when: When = "after"

    def __post_init__(self) -> None:
        check_options(
            "regulariser",
            self,
            ceiling=(self.ceiling > 0, "above 0"),
            every=(self.every > 0, "at least 1"),
            stabilize=(0 <= self.stabilize < 1, "a share below 1"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Growing:
        """See `Regularizer.begin`."""
        return Growing(self, Penalties(model, network), goes, steps)

    def strength(self, step: int, steps: int) -> float:
        """lambda of what goes after so many steps.

        >>> [Greg1(every=10, stabilize=0.2).strength(step, 50) for step in (9, 10, 39, 40, 50)]
        [0.0, 0.25, 0.75, 1.0, 1.0]
        """
        updates = max(1, int((1 - self.stabilize) * steps) // self.every)
        return self.ceiling * min(1.0, step // self.every / updates)


class Growing(Idle):
    """A training under GReg-1."""

    def __init__(self, options: Greg1, penalties: Penalties, goes: Tensor, steps: int) -> None:
        self.options, self.penalties, self.goes, self.steps = options, penalties, goes, steps

    def gradients(self) -> None:
        """The penalties'."""
        self.penalties.gradients()

    def stepped(self, step: int) -> None:
        """The penalty grows."""
        self.penalties.strength[self.goes] = self.options.strength(step, self.steps)


@dataclass(frozen=True)
class Greg2:
    """GReg-2: all channels are penalised alike for a while, then those that have shrunk most go, as with GReg-1.

    Near a minimum with curvature h a weight under the penalty lambda is h / (h + lambda) of what it was, so those of
    flat directions shrink most, and sizes after it tell of the Hessian, which nobody had to estimate. Size is the mean
    |w| of a channel's filters. In the authors' code the uniform penalty grows to 1e-2 in a tenth of the steps, and goes
    on from there; what stays then has a penalty of -1e-4, which the code itself doubts and ``recover`` leaves at 0.

    Attributes:
        ceiling, every, stabilize: see `Greg1`.
        uniform: penalty of all at the end of the first part.
        pick: share of the steps that the first part has.
        recover: penalty of what stays, from then on; at most 0.
    """

    ceiling: float = 1.0
    every: int = 10
    stabilize: float = 0.1
    uniform: float = 1e-2
    pick: float = 0.1
    recover: float = 0.0
    name: str = "greg2"
    when: When = "after"

    def __post_init__(self) -> None:
        check_options(
            "regulariser",
            self,
            ceiling=(self.ceiling > 0, "above 0"),
            every=(self.every > 0, "at least 1"),
            stabilize=(0 <= self.stabilize < 1, "a share below 1"),
            pick=(0 < self.pick <= 1 - self.stabilize, "a share that leaves steps to grow in"),
            recover=(self.recover <= 0, "at most 0"),
        )

    def begin(self, model: nn.Module, network: Network, goes: Tensor, steps: int) -> Picking:
        """See `Regularizer.begin`; of ``goes`` only the number in each group counts."""
        return Picking(self, model, network, goes, steps)


class Picking(Idle):
    """A training under GReg-2."""

    def __init__(self, options: Greg2, model: nn.Module, network: Network, goes: Tensor, steps: int) -> None:
        self.options, self.network = options, network
        self.first = max(1, round(options.pick * steps))  # steps of the uniform penalty
        self.left = max(1, steps - self.first)
        stabilize = options.stabilize * steps / self.left
        self.growth = Greg1(options.ceiling - options.uniform, options.every, stabilize)
        self.penalties, self.filters = Penalties(model, network), filters_of(model, network)
        self._wanted, self._picked = goes, False

    @property
    def goes(self) -> Tensor:
        """What the search wanted, until all have been penalised; then what has shrunk most."""
        return self._wanted

    def gradients(self) -> None:
        """The penalties'."""
        self.penalties.gradients()

    def stepped(self, step: int) -> None:
        """The uniform penalty grows, or that of what has been picked."""
        options, strength = self.options, self.penalties.strength
        if step < self.first:
            strength.fill_(options.uniform * (step // options.every * options.every) / self.first)
            return
        if not self._picked:
            sizes = mean_sizes(self.filters, strength)
            self._wanted, self._picked = smallest(self.network, sizes, self._wanted), True
        strength.fill_(options.recover)
        strength[self.goes] = options.uniform + self.growth.strength(step - self.first, self.left)
