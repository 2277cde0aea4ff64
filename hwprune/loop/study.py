"""Networks measured for a correlation study, kept in a file as they come, so that a killed study goes on.

    networks   whole networks as they are
    widths     one network at random widths
    matched    plans of one network with the same MACs, as importance and its divisor would choose them

Every latency is a ratio to the reference workload just before and after it, like that of a layer in a table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from hwprune.clocks import watch_for
from hwprune.cost.normalisation import Normalisation, mac_ops, price
from hwprune.cost.points import family_of
from hwprune.cost.work import parameter_names, work
from hwprune.device import resolve
from hwprune.errors import HwpruneError
from hwprune.graph.coupling import analyze
from hwprune.latency import isolated
from hwprune.loop.reporter import Reporter
from hwprune.loop.settings import Settings
from hwprune.loop.study_points import Measured, Points
from hwprune.loop.subject import Subject
from hwprune.models.resolve import describe_inputs, load_model
from hwprune.runtimes.base import Engine, Runtime
from hwprune.runtimes.onnx_export import export
from hwprune.runtimes.select import spec_for
from hwprune.search.greedy import greedy
from hwprune.search.problem import Budget, Group, Problem
from hwprune.timing import NOISY_CV, Paired, measure_paired
from hwprune.units import format_percent

Part = Literal["networks", "widths", "matched"]
PARTS: Final[tuple[Part, ...]] = ("networks", "widths", "matched")
BLOCK_MS: Final = 20.0
GATE: Final = 0.01  # relative standard error of a network's latency at which it is good enough
BLOCKS, MOST_BLOCKS, SECOND_BLOCKS = 5, 15, 25
LEVEL_SPREAD: Final = 0.25  # of groups around the level of a random setting
HIGHEST_LEVEL: Final = 1.2  # at which most groups are whole, in spite of the spread
TRIES: Final = 10  # for each plan, until all differ
MATCH: Final = 0.02  # by which the MACs of matched plans may differ
DIVISORS: Final[tuple[Normalisation, ...]] = ("none", "flops", "params", "memory")

# 65 networks of 26 families, from 0.04 to 15.5 GMACs: what a study looks at unless the user says.
NETWORKS: Final = (
    *("alexnet", "vgg11", "vgg13_bn", "vgg16", "squeezenet1_0", "squeezenet1_1"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d"),
    *("densenet121", "densenet169", "densenet201", "densenet161", "googlenet", "inception_v3"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0"),
    *("mnasnet1_3", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_v2_s"),
    *("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf"),
    *("regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf"),
    *("convnext_tiny", "timm:convnext_nano", "timm:resnet26d", "timm:seresnet50", "timm:skresnet18"),
    *("timm:res2net50_26w_4s", "timm:repvgg_a2", "timm:ghostnet_100", "timm:hardcorenas_a", "timm:mixnet_s"),
    *("timm:tinynet_a", "timm:lcnet_100", "timm:rexnet_100", "timm:dla34", "timm:darknet53", "timm:cspresnet50"),
    *("timm:ese_vovnet19b_dw", "timm:hgnet_tiny", "timm:selecsls42b", "timm:gernet_s"),
)


@dataclass(frozen=True)
class Asked:
    """What a study is to measure.

    Attributes:
        networks: as `load_model` takes them.
        of: networks that are cut.
        widths: random settings of each of those; 0 leaves them out.
        matched: plans of each at the same MACs.
        macs: share of the dense network's MACs that these have.
    """

    networks: tuple[str, ...] = NETWORKS
    of: tuple[str, ...] = ("resnet50",)
    widths: int = 40
    matched: int = 12
    macs: float = 0.5


def measured_points(asked: Asked, settings: Settings, folder: Path, reporter: Reporter) -> Points:
    """All points, those of ``folder`` not measured again. What cannot be built or counted is noted and left out.

    Raises:
        DeviceError: the device is not in this machine.
        ProfileError: the points in the folder are of another device, runtime or version.
    """
    device = resolve(settings.device)
    device.require_here("measuring latency")
    spec = spec_for(device, settings.runtime, precision=settings.precision, threads=settings.threads)
    runtime = spec.open()
    points = Points.open(folder, device, runtime, settings.batch)
    with closing(_Bench(runtime)) as bench:
        for part, name, steps in _todo(asked, settings, reporter, points):
            reporter.stage(f"{part}: {name}")
            try:
                for measured in steps(bench):
                    points.add(measured)
            except HwpruneError as error:
                reporter.note(f"{name} is left out: {error.what}")
    return points


Steps = Callable[["_Bench"], Iterator[Measured]]


def _todo(asked: Asked, settings: Settings, reporter: Reporter, points: Points) -> Iterator[tuple[Part, str, Steps]]:
    """What is not in the points yet: the part, the network, and what measures it."""
    for name in asked.networks:
        if ("networks", name) not in points:
            yield "networks", name, _Whole(name, settings)
    counts: tuple[tuple[Part, int], ...] = (("widths", asked.widths), ("matched", asked.matched))
    for name in asked.of:
        for part, count in counts:
            if count and any((part, label) not in points for label in (name, *_labels(name, part, count))):
                yield part, name, _Cut(name, part, count, asked.macs, settings, reporter, points)


def _labels(name: str, part: str, count: int) -> list[str]:
    return [f"{name} {part} {number}" for number in range(1, count + 1)]


class _Bench:
    """The runtime with its reference workload."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.watch = runtime, watch_for(runtime.cuda_index)
        self.reference: Engine = (
            runtime.build_onnx(isolated.reference_onnx())
            if runtime.reads_onnx
            else runtime.build(*isolated.reference_module())
        )

    def close(self) -> None:
        self.reference.close()

    def timed(self, engine: Engine) -> tuple[Paired, float]:
        """The engine beside the reference, measured again with more blocks where it scatters; and its memory."""
        with closing(engine):
            paired = self._paired(engine, BLOCKS, MOST_BLOCKS)
            if paired.cv > NOISY_CV:
                paired = self._paired(engine, SECOND_BLOCKS, SECOND_BLOCKS)
            memory = engine.memory().activation_bytes
        return paired, float("nan") if memory is None else float(memory)

    def _paired(self, engine: Engine, blocks: int, most: int) -> Paired:
        return measure_paired(
            engine,
            self.reference,
            blocks=blocks,
            most_blocks=most,
            block_ms=BLOCK_MS,
            gate=GATE,
            warmup=2,
            watch=self.watch,
        )


@dataclass(frozen=True)
class _Whole:
    """One network as it is."""

    name: str
    settings: Settings

    def __call__(self, bench: _Bench) -> Iterator[Measured]:
        model = load_model(self.name)
        generator = torch.Generator().manual_seed(self.settings.seed)
        inputs = (torch.randn(self.settings.batch, *describe_inputs(self.name), generator=generator),)
        counted = work(analyze(model, inputs), parameter_names(model))
        reads = bench.runtime.reads_onnx
        engine = bench.runtime.build_onnx(export(model, inputs)) if reads else bench.runtime.build(model, inputs)
        yield Measured.of("networks", self.name, "", family_of(self.name), *bench.timed(engine), counted)


@dataclass(frozen=True)
class _Cut:
    """One network at several widths, itself first."""

    name: str
    part: Part
    count: int
    macs: float
    settings: Settings
    reporter: Reporter
    points: Points

    def __call__(self, bench: _Bench) -> Iterator[Measured]:
        with tempfile.TemporaryDirectory(prefix="hwprune-correlate-") as folder:
            model, shape = load_model(self.name), describe_inputs(self.name)
            subject = Subject(model, shape, self.settings, Path(folder), self.reporter, self.name)
            asked = {self.name: dict(subject.network.widths)}
            asked |= zip(_labels(self.name, self.part, self.count), self._settings(subject), strict=True)
            for number, (label, widths) in enumerate(asked.items(), start=1):
                if (self.part, label) not in self.points:
                    engine = subject.engine(subject.small(subject.first_channels(widths)))
                    counted, family = subject.work(widths), family_of(self.name)
                    yield Measured.of(self.part, label, self.name, family, *bench.timed(engine), counted)
                self.reporter.advance(number, len(asked))

    def _settings(self, subject: Subject) -> list[dict[str, int]]:
        if self.part == "widths":
            return random_levels(subject, self.count)
        return matched_plans(subject, self.macs, self.count)


def random_levels(subject: Subject, count: int) -> list[dict[str, int]]:
    """Random widths of all groups, each around a level that they share, so that networks of all sizes come up.

    Groups drawn without a common level all make networks of about the same cost. The first settings of a longer list
    are those of a shorter one.
    """
    found = []
    for number in range(count):
        rng = np.random.default_rng([subject.settings.seed, number])
        level = rng.uniform(0, HIGHEST_LEVEL)
        found.append({name: _near(choices, level, rng) for name, choices in subject.choices.items()})
    return found


def _near(choices: tuple[int, ...], level: float, rng: np.random.Generator) -> int:
    share = np.clip(level + LEVEL_SPREAD * rng.normal(), 0, 1)
    return int(choices[round(share * (len(choices) - 1))])


def matched_plans(subject: Subject, macs: float, count: int) -> list[dict[str, int]]:
    """Different plans of the same MACs; the first of a longer list are those of a shorter one.

    Raises:
        HwpruneError: see `matched_plan`; or the network does not have so many of them.
    """
    found: list[dict[str, int]] = []
    for number in range(TRIES * count):
        plan = matched_plan(subject, macs, number)
        if plan not in found and subject.work(plan).macs >= (1 - MATCH) * macs * subject.work().macs:
            found.append(plan)
        if len(found) == count:
            return found
    raise HwpruneError(
        f"only {len(found)} plans of {subject.reference} were found at {format_percent(macs)} of its MACs",
        fix="ask for fewer with --matched",
    )


def matched_plan(subject: Subject, macs: float, number: int) -> dict[str, int]:
    """Widths with this share of the dense MACs, as the search finds them for a random importance.

    Importance is divided by nothing, MACs, parameters or memory by turns, which is what makes plans of the same MACs
    differ (Liu et al. 2021, table 1: -U, -F, -M).

    Raises:
        HwpruneError: even the narrowest widths have more MACs.
    """
    rng = np.random.default_rng([subject.settings.seed, number, 1])
    groups = [_random_group(name, choices, rng) for name, choices in subject.choices.items()]
    divisor = DIVISORS[number % len(DIVISORS)]
    priced = price(subject.network, divisor, parameters=subject.parameters, measured=None)
    budget = Budget("macs", mac_ops(subject.network), macs * subject.work().macs)
    solution = greedy(Problem(tuple(groups), (budget,), priced))
    if not solution.feasible:
        raise HwpruneError(
            f"{subject.reference} cannot be cut to {format_percent(macs)} of its MACs",
            where=f"the narrowest has {format_percent(solution.spent['macs'] / subject.work().macs)}",
            fix="raise --macs",
        )
    return solution.widths


def _random_group(name: str, choices: tuple[int, ...], rng: np.random.Generator) -> Group:
    scores = np.sort(rng.lognormal(2 * rng.normal(), 1.0, choices[-1]))
    lost = np.concatenate([[0.0], np.cumsum(scores)])
    return Group(name, choices, tuple(float(lost[choices[-1] - width]) for width in choices))
