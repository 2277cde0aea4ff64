"""Cuts of a network timed by turns with the dense network itself, on engines that are built anew.

Two engines of one network differ by a few percent for as long as they live, and a neighbour that fills the machine's
shared cache slows a large network down more than a small one. So what a whole network takes is measured beside the
dense one, which feels the neighbour most like it does, and not on one pair of engines but on several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from statistics import median
from typing import Final

from torch import nn

from hwprune.clocks import watch_for
from hwprune.loop.subject import Subject
from hwprune.runtimes.base import Engine
from hwprune.timing import Watch, interleave
from hwprune.validation.engine import Ratio, measure_ratio

SHORT_MS: Final = 10.0  # of the dense network: what takes less differs more from engine to engine
PASSES: Final = 3  # that settle what a network takes
PASSES_OF_SHORT: Final = 5
BLOCKS: Final = 4  # of each pair of engines
BLOCKS_OF_ONE: Final = 6  # where there is one pair only
BLOCK_MS: Final = 10.0


@dataclass(frozen=True)
class Turns:
    """A network beside the dense one.

    Attributes:
        ratio: block by block, of all pairs of engines.
        build_s, time_s: what that took.
    """

    ratio: Ratio
    build_s: float
    time_s: float


@dataclass
class Beside:
    """The dense network, ready to be timed by turns with cuts of it.

    Where engines take long to build (TensorRT chooses its tactics by timing them), it is built once and there is one
    engine of each cut, timed for longer.
    """

    subject: Subject
    _dense: Engine | None = field(init=False, default=None)

    @cached_property
    def passes(self) -> int:
        """Pairs of engines that settle what a network takes."""
        if self._builds_slowly:
            return 1
        return PASSES_OF_SHORT if self._is_short else PASSES

    @property
    def pairs(self) -> int:
        """Pairs of engines for one sample of many, whose errors the others even out."""
        return PASSES_OF_SHORT if not self._builds_slowly and self._is_short else 1

    @contextmanager
    def timed(self, small: nn.Module, *, pairs: int = 1, blocks: int = BLOCKS) -> Iterator[tuple[Engine, Turns]]:
        """The last of ``pairs`` engines of a cut, and what all of them took beside as many of the dense network."""
        dense_ms: list[float] = []
        small_ms: list[float] = []
        started = time.monotonic()
        build = self._builder(small)
        build_s, time_s = time.monotonic() - started, 0.0
        for number in range(pairs):
            with ExitStack() as stack:
                started = time.monotonic()
                engine = stack.enter_context(closing(build()))
                dense = self._dense_engine(stack)
                built = time.monotonic()
                ratio = self._ratio(dense, engine, blocks)
                dense_ms += ratio.dense_blocks_ms
                small_ms += ratio.candidate_blocks_ms
                build_s, time_s = build_s + built - started, time_s + time.monotonic() - built
                if number == pairs - 1:
                    yield engine, Turns(Ratio(tuple(dense_ms), tuple(small_ms)), build_s, time_s)

    @property
    def _builds_slowly(self) -> bool:
        return self.subject.spec.name.startswith("tensorrt")

    @cached_property
    def _watch(self) -> Watch:
        return watch_for(self.subject.runtime.cuda_index)

    @cached_property
    def _is_short(self) -> bool:
        with closing(self._build_dense()) as dense:
            return median(dense.time(warmup=2, repeats=5)) < SHORT_MS

    @cached_property
    def _build_dense(self) -> Callable[[], Engine]:
        return self._builder(self.subject.model)

    def _builder(self, model: nn.Module) -> Callable[[], Engine]:
        """What builds one engine of the network after another; exported once."""
        subject = self.subject
        if not subject.runtime.reads_onnx:
            return partial(subject.engine, model)
        return partial(subject.runtime.build_onnx, subject.onnx(model))

    def _dense_engine(self, stack: ExitStack) -> Engine:
        if not self._builds_slowly:
            return stack.enter_context(closing(self._build_dense()))
        if self._dense is None:
            self._dense = self._build_dense()
        return self._dense

    def _ratio(self, dense: Engine, engine: Engine, blocks: int) -> Ratio:
        if self._builds_slowly:
            return measure_ratio(dense, engine, watch=self._watch)
        first, second = interleave(
            [dense, engine], blocks=blocks, block_ms=BLOCK_MS, warmup_ms=BLOCK_MS, watch=self._watch
        )
        return Ratio(tuple(first), tuple(second))

    def close(self) -> None:
        """Free the dense engine."""
        if self._dense is not None:
            self._dense.close()
            self._dense = None


def in_passes(ratios: Sequence[float], count: int) -> list[list[float]]:
    """What ``count`` networks were measured at, pass by pass -> each one's own; the last pass may be short.

    >>> in_passes([0.5, 0.6, 0.52, 0.61], 2)
    [[0.5, 0.52], [0.6, 0.61]]
    """
    return [list(ratios[place::count]) for place in range(count)]
