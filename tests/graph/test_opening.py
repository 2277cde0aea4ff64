"""What hwprune cannot take apart is refused by name, with what to do; what it can is cut like anything else."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from hwprune.errors import ModelError
from hwprune.graph.coupling import analyze
from hwprune.graph.surgery import cut
from hwprune.graph.verification import verify
from hwprune.plan import Plan

X = torch.zeros(1, 3, 8, 8)


def network() -> nn.Sequential:
    """Two convolutions and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()


def refused(model: nn.Module, *words: str, inputs: Tensor = X) -> None:
    """One error with these words, an effect and a fix."""
    with pytest.raises(ModelError) as caught:
        analyze(model, inputs)
    text = str(caught.value)
    assert "\n  effect " in text, text
    assert "\n  fix " in text, text
    for word in words:
        assert word in text, text


def cut_and_verified(model: nn.Module, kept: dict[str, list[int]], inputs: Tensor = X) -> nn.Module:
    """A copy with these channels that computes the same."""
    analysed = analyze(model, inputs)
    plan = Plan.keeping(analysed, kept)
    small = cut(model, plan, analysed)
    result = verify(model, small, plan, analysed)
    assert result.equal, result
    return small


def scripted(model: nn.Module) -> nn.Module:
    """Without the notice that scripting is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.script(model)
    return made


# Wrapped, compiled, scripted


def test_a_compiled_model_is_refused_and_the_one_inside_is_taken() -> None:
    compiled = torch.compile(network())

    refused(compiled, "torch.compile", "model._orig_mod")
    cut_and_verified(compiled._orig_mod, {"0": [0, 3]})


def test_a_model_compiled_in_place_is_taken() -> None:
    model = network()
    model.compile()

    small = cut_and_verified(model, {"0": [0, 3]})
    assert small._compiled_call_impl is None


def test_a_compiled_function_in_a_forward_runs_as_it_was_written() -> None:
    @torch.compile
    def doubled(x: Tensor) -> Tensor:
        return 2 * x.relu()

    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return doubled(x)

    cut_and_verified(nn.Sequential(nn.Conv2d(3, 8, 1), Doubling(), nn.Conv2d(8, 4, 1)), {"0": [0, 3]})


def test_a_compiled_part_is_refused_by_its_name() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), torch.compile(nn.Conv2d(8, 4, 1)))

    refused(model, "torch.compile", "'1'")


def test_a_scripted_model_is_refused() -> None:
    refused(scripted(network()), "the model is a TorchScript module", "eager module")


def test_a_scripted_part_is_refused_by_its_name() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), scripted(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())), nn.Conv2d(8, 4, 1)
    )

    refused(model, "TorchScript", "'1'")


def test_an_exported_program_is_refused() -> None:
    program = torch.export.export(network(), (X,))

    refused(program, "torch.export", "program")  # type: ignore[arg-type]


def test_what_is_no_module_is_refused() -> None:
    refused(torch.relu, "torch.nn.Module")  # type: ignore[arg-type]


def test_data_parallel_is_refused() -> None:
    refused(nn.DataParallel(network()), "parallel training", "model.module")


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of one process, over a file."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=0, world_size=1, timeout=datetime.timedelta(seconds=20)
    )
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel_is_refused(process_group: None) -> None:
    wrapped = nn.parallel.DistributedDataParallel(network())

    refused(wrapped, "parallel training", "model.module")
    cut_and_verified(wrapped.module, {"0": [0, 3]})


# Quantised


def test_a_dynamically_quantised_model_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear}, dtype=torch.qint8)

    refused(model, "quantised", "'5'", "float model first")


def test_a_statically_quantised_model_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 8, 1), nn.ReLU()).eval()
        model.qconfig = torch.ao.quantization.default_qconfig
        torch.ao.quantization.prepare(model, inplace=True)
        model(X)
        quantised = torch.ao.quantization.convert(model)

    refused(quantised, "quantised", "float model first")


def test_a_model_of_torchao_is_refused() -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = network()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())

    refused(model, "quantised")


# Weights that are computed


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_the_old_norms_by_hooks_are_refused(norm: str) -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        getattr(nn.utils, norm)(model[2])

    refused(model, f"old torch.nn.utils.{norm}", "Conv2d '2'", f"parametrizations.{norm}")


@pytest.mark.parametrize("way", [prune.l1_unstructured, lambda m, n, amount: prune.ln_structured(m, n, amount, 2, 0)])
def test_masks_of_torch_pruning_are_refused_until_they_are_made_permanent(way: Callable[..., nn.Module]) -> None:
    model = network()
    way(model[2], "weight", amount=0.3)
    refused(model, "masked by torch.nn.utils.prune", "'2'", "prune.remove")

    prune.remove(model[2], "weight")
    cut_and_verified(model, {"0": [0, 3]})


@pytest.mark.parametrize("dim", [0, 1, None])
def test_a_modern_weight_norm_over_any_dimension_is_cut_with_its_layer(dim: int | None) -> None:
    model = network()
    parametrizations.weight_norm(model[2], dim=dim)
    nn.init.uniform_(model[2].parametrizations.weight.original0, 0.5, 1.5)
    analysed = analyze(model, X)

    assert "5" not in analysed.widths
    for kept in ({"2": [0, 4]}, {"0": [0, 3]}):
        name = next(iter(kept))
        free = [group for group in analysed.widths if group.partition(".parametrizations")[0] == name]
        if free:
            small = cut_and_verified(model, {free[0]: kept[name]})
            assert small(X).shape == (1, 4)
        else:
            reasons = [group.pinned for group in analysed.groups if group.name.startswith(name)]
            assert reasons and all(reasons), reasons


def test_a_modern_spectral_norm_stays_and_says_why() -> None:
    model = network()
    parametrizations.spectral_norm(model[2])
    analysed = analyze(model, X)

    assert analysed.widths == {}
    assert all(group.pinned for group in analysed.groups)
    reasons = " | ".join(group.pinned or "" for group in analysed.groups)
    assert "spectral" in reasons, reasons


def test_a_parametrisation_that_follows_element_by_element_is_cut() -> None:
    class Positive(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return nn.functional.softplus(weight)

    model = network()
    nn.utils.parametrize.register_parametrization(model[2], "weight", Positive())
    small = cut_and_verified(model, {"0": [0, 3]})

    assert small[2].parametrizations.weight.original.shape == (6, 2, 3, 3)


# Not ready


def test_a_lazy_module_is_refused_until_the_model_has_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyConv2d(8, 1), nn.ReLU(), nn.LazyConv2d(4, 1)).eval()
    refused(model, "not got its sizes yet", "LazyConv2d '0'", "run the model once")

    model(X)
    cut_and_verified(model, {"0": [0, 3]})
