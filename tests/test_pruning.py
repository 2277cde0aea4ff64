"""The Python API from a trained network to one that meets its target."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hwprune
from hwprune.cost.normalisation import Normalisation
from hwprune.errors import DeviceError, EngineError, NumericsError, PlanError, RunError
from hwprune.loop.candidates import Ledger
from hwprune.loop.settings import Settings
from hwprune.loop.trying import SURE
from hwprune.pruning import Result
from hwprune.recovery.recipe import Recipe
from hwprune.search.objective import Objective
from hwprune.validation.certify import Certificate
from tests import tiny

# Divided by memory, which needs no table of measured layers: those take longer than all the rest.
QUICK = Settings(
    "",
    runtime="pytorch",
    multiple=16,
    milestones=1,
    calibration=2,
    recipe=Recipe(epochs=0),
    normalisation="memory",
    method="isolated",
)


def data(folder: Path) -> hwprune.Data:
    """The small images in batches of 16."""
    return hwprune.load_data(tiny.save_pictures(folder / "pictures.npz"), batch_size=16)


def prune(folder: Path, target: str, settings: Settings, device: str = "cpu", model: nn.Module | None = None) -> Result:
    """A run in ``folder``, with the table beside it."""
    return hwprune.prune(
        tiny.network() if model is None else model,
        data=data(folder),
        target=target,
        device=device,
        out=folder / "run",
        table=folder / "table.parquet",
        settings=settings,
        model_reference=tiny.REFERENCE,
    )


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    """The network that is given away, in a state that a run must not change."""
    model = tiny.network().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def before(dense: nn.Module) -> nn.Module:
    """A copy from before it was given away."""
    return copy.deepcopy(dense)


@pytest.fixture(scope="module")
def result(before: nn.Module, dense: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The main job: a share of the latency that ONNX Runtime measures, over two milestones."""
    recipe = Recipe(epochs=1, distill=0.5)
    settings = replace(QUICK, runtime="onnxruntime", normalisation="latency", multiple=8, milestones=2, recipe=recipe)
    return prune(tmp_path_factory.mktemp("result"), "70%", settings, model=dense)


def test_the_exact_search_meets_a_target_and_writes_what_it_proved(tmp_path: Path) -> None:
    found = prune(tmp_path, "macs:50%", replace(QUICK, multiple=4, normalisation="latency", search="exact"))

    assert found.pruned.macs <= 0.5 * found.dense.macs
    assert "exact search: importance" in (found.directory / "log.txt").read_text()


@pytest.mark.parametrize("objective", ["odds", "shares"])
def test_a_target_is_met_whatever_is_to_be_least(tmp_path: Path, objective: Objective) -> None:
    found = prune(tmp_path, "macs:50%", replace(QUICK, multiple=4, objective=objective))

    assert found.pruned.macs <= 0.5 * found.dense.macs


def test_the_target_is_met_as_measured(result: Result) -> None:
    stages = json.loads((result.directory / "run.json").read_bytes())["stages"]
    candidate = next(c for c in result.candidates if c.id == stages["target"])

    assert candidate.ratio is not None and candidate.ratio <= 0.7
    assert stages[f"{candidate.id} confirmed"] <= 0.7  # the upper end of the interval, engines rebuilt
    assert candidate.widths == result.plan.kept_widths
    assert result.pruned.macs < result.dense.macs


def test_all_candidates_are_in_the_ledger_from_the_dense_to_the_delivered(result: Result) -> None:
    names = [candidate.id for candidate in result.candidates]

    assert names[:2] == ["dense", "milestone-1"] and names[-1] == "delivered"
    assert result.candidates == Ledger(result.directory / "ledger.parquet").candidates
    assert all(candidate.engines[0].ok and candidate.ratio for candidate in result.candidates)
    assert result.candidates[1].macs > result.candidates[-1].macs


def test_the_certificate_is_the_one_on_disk(result: Result) -> None:
    assert result.certificate == Certificate.load(result.directory / "certificate.json")


def test_the_delivered_network_is_certified_with_the_rebuilds_that_confirmed_it(result: Result) -> None:
    stages = json.loads((result.directory / "run.json").read_bytes())["stages"]
    confirmation = Certificate.load(result.directory / "candidates" / stages["target"] / "certificate.json")
    before = len(confirmation.dense_blocks_ms)

    assert result.certificate is not None and before >= 3
    assert len(result.certificate.dense_blocks_ms) >= before + 3
    assert set(confirmation.dense_blocks_ms) <= set(result.certificate.dense_blocks_ms)
    assert stages[f"{stages['target']} confirmed"] == confirmation.upper(SURE)


def test_every_stage_has_its_accuracy(result: Result) -> None:
    assert set(result.accuracy) == {"dense", "cut", "statistics", "finetuned"}
    assert all(0 <= share <= 1 for share in result.accuracy.values())


def test_the_loaded_network_computes_the_same(result: Result) -> None:
    loaded = hwprune.load(result.directory)
    given = hwprune.load(result.directory, model=tiny.network())
    inputs = torch.randn(2, *tiny.network.input_shape, generator=torch.Generator().manual_seed(0))

    assert not loaded.training
    for model in (loaded, given):
        assert torch.equal(model(inputs), result.model(inputs))


def test_the_network_that_was_given_is_as_it_was(result: Result, dense: nn.Module, before: nn.Module) -> None:
    assert dense.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in dense.state_dict().items())
    assert [m.training for m in dense.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in dense.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(parameter.grad is None for parameter in dense.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in dense.modules())


@pytest.mark.parametrize(
    ("name", "spoil", "error"),
    [
        ("plan.json", lambda content: content[:-9], PlanError),
        ("plan.json", lambda content: content.replace(b'"groups_hash": "', b'"groups_hash": "0'), PlanError),
        ("plan.json", None, RunError),
        ("model.safetensors", lambda content: content[:-9], RunError),
        ("model.safetensors", None, RunError),
        ("run.json", lambda content: content[:-9], RunError),
    ],
)
def test_a_damaged_run_is_not_loaded(result: Result, tmp_path: Path, name: str, spoil, error) -> None:  # type: ignore[no-untyped-def]
    for file in ("run.json", "plan.json", "model.safetensors"):
        content = (result.directory / file).read_bytes()
        if file != name or spoil is not None:
            (tmp_path / file).write_bytes(spoil(content) if file == name else content)

    with pytest.raises(error) as caught:
        hwprune.load(tmp_path)
    assert name in str(caught.value) or "plan" in str(caught.value)


# Latency is what the main job above divides by; memory as measured is what tests/cli does.
@pytest.mark.parametrize(
    ("target", "share", "normalisation", "importance"),
    [
        ("macs:60%", 0.6, "none", "taylor"),
        ("params:60%", 0.6, "flops", "magnitude"),
        ("memory:80%", 0.8, "memory", "fisher"),
        ("macs:9M", 9e6 / 16_174_272, "params", "fisher"),
    ],
)
def test_counted_targets_hold_exactly_with_any_normalisation_and_importance(
    tmp_path: Path, target: str, share: float, normalisation: Normalisation, importance: str
) -> None:
    settings = replace(QUICK, normalisation=normalisation, importance=importance, multiple=4)
    result = prune(tmp_path, target, settings)
    name = {"macs": "macs", "params": "parameters", "memory": "activation_elements"}[target.partition(":")[0]]

    assert 0.75 * share < getattr(result.pruned, name) / getattr(result.dense, name) <= share
    assert sum(p.numel() for p in result.model.parameters()) == result.pruned.parameters
    assert not (tmp_path / "table.parquet").exists()


def test_an_engine_that_cannot_be_built_is_written_down_and_costs_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    settings = replace(QUICK, normalisation="flops", exclude=("3",), engines=("rtx3090",), engine_timeout_s=0.2)
    result = prune(tmp_path, "macs:70%", settings)

    assert (result.model[3].out_channels, result.model[6].out_channels < 48) == (48, True)
    for candidate in result.candidates:
        own, other = candidate.engines
        assert own.ok and not other.ok
        assert "no engine after 0.2 s" in other.error
    assert result.certificate is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_card_that_the_builder_does_not_know_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineError, match="builds no engines for SM90"):
        prune(tmp_path, "macs:70%", replace(QUICK, engines=("h200",)))

    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_for_an_absent_card_engines_are_built_and_no_time_is_claimed(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    result = prune(tmp_path, "macs:60%", replace(QUICK, runtime=None), device="rtx3090")

    assert result.certificate is None
    assert not (result.directory / "certificate.json").exists()
    for candidate in result.candidates:
        assert candidate.engines[0].ok and Path(str(candidate.engines[0].path)).stat().st_size > 0
        assert candidate.measured_ms is candidate.dense_ms is candidate.ratio is candidate.p95_ms is None
        assert candidate.engines[0].samples_ms == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_latency_on_an_absent_card_needs_its_table(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(DeviceError, match="no latency table for rtx3090"):
        prune(tmp_path, "60%", replace(QUICK, runtime=None), device="rtx3090")

    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    model = tiny.network()
    with torch.no_grad():
        model[3].weight[0] = np.inf
    with pytest.raises(NumericsError, match=r"3\.weight"):
        prune(tmp_path, "macs:70%", QUICK, model=model)

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("importance", ["obs", "fisher", "magnitude", "taylor"])
def test_layers_take_over_what_removed_channels_told_them(importance: str, tmp_path: Path) -> None:
    settings = replace(QUICK, multiple=4, milestones=2, importance=importance, recipe=Recipe(epochs=0))
    found = prune(tmp_path, "macs:50%", settings)
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    plain = dict(hwprune.cut(model, found.plan, network).named_parameters())
    own = dict(found.model.named_parameters())
    readers = {f"{consumer.module}.weight" for consumer in network.consumers}
    cut_readers = {name for name in readers if own[name].shape[1] < model.state_dict()[name].shape[1]}

    assert sorted(path.name for path in found.directory.glob("compensated-*")) == [
        "compensated-milestone-1.safetensors",
        "compensated-target.safetensors",
    ]
    unchanged = {name for name in cut_readers if torch.equal(own[name], plain[name])}
    assert cut_readers - unchanged and unchanged <= {"11.weight"}  # which sees fewer images than it has inputs
    assert all(torch.equal(own[name], plain[name]) for name in own if name not in readers and "bias" not in name)
    inputs = torch.randn(2, *tiny.network.input_shape)
    assert torch.equal(hwprune.load(found.directory)(inputs), found.model(inputs))


def test_weights_are_only_cut_where_that_is_asked_for(tmp_path: Path) -> None:
    settings = replace(QUICK, multiple=4, compensate=False, recipe=Recipe(epochs=0))
    found = prune(tmp_path, "macs:60%", settings)
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    plain = dict(hwprune.cut(model, found.plan, network).named_parameters())

    assert not list(found.directory.glob("compensated-*"))
    assert all(torch.equal(value, plain[name]) for name, value in found.model.named_parameters())


def test_weights_train_at_the_milestones_where_that_is_asked_for(tmp_path: Path) -> None:
    settings = replace(QUICK, multiple=4, milestones=3, milestone_steps=2)
    found = prune(tmp_path, "macs:40%", settings)
    files = sorted(path.name for path in found.directory.glob("trained-*.safetensors"))
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    before = dict(hwprune.cut(model, found.plan, network).named_parameters())

    assert files == ["trained-milestone-1.safetensors", "trained-milestone-2.safetensors"]
    assert found.pruned.macs <= 0.4 * found.dense.macs
    assert not any(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    inputs = torch.randn(2, *tiny.network.input_shape)
    assert torch.equal(hwprune.load(found.directory)(inputs), found.model(inputs))


def test_what_goes_may_fade_while_the_network_trains(tmp_path: Path) -> None:
    settings = replace(QUICK, multiple=4, damping_steps=4)
    found = prune(tmp_path, "macs:60%", settings)
    model = tiny.network()
    network = hwprune.analyze(model, (torch.zeros(1, *tiny.network.input_shape),), model_reference=tiny.REFERENCE)
    before = dict(hwprune.cut(model, found.plan, network).named_parameters())

    assert (found.directory / "trained-damped.safetensors").exists()
    assert not any(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    inputs = torch.randn(2, *tiny.network.input_shape)
    assert torch.equal(hwprune.load(found.directory)(inputs), found.model(inputs))
