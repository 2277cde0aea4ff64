"""What the user chooses about coupling holds from the analysis to the network that is loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import hwprune
from hwprune.graph.choices import Choices
from hwprune.loop.settings import Settings
from hwprune.pruning import Result
from tests import tiny


def grouped() -> nn.Module:
    """A grouped convolution between two others."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, groups=4), nn.ReLU())
    head = (nn.Conv2d(32, 24, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, *head, nn.Linear(24, tiny.CLASSES)).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Offsets of every group go, in two milestones, so that a cut network is analysed too."""
    folder = tmp_path_factory.mktemp("choices")
    settings = Settings(
        "",
        runtime="pytorch",
        normalisation="flops",
        multiple=4,
        multiples={"4": 8},
        milestones=2,
        choices=Choices(conv_groups="offsets"),
        recipe=hwprune.Recipe(epochs=0),
    )
    data = hwprune.load_data(tiny.save_pictures(folder / "pictures.npz"), batch_size=16)
    return hwprune.prune(grouped(), data=data, target="macs:20%", out=folder / "run", settings=settings)


def test_the_number_of_groups_stays_and_each_of_them_is_narrower(run: Result) -> None:
    convolution = run.model[2]

    assert isinstance(convolution, nn.Conv2d)
    assert convolution.groups == 4
    assert convolution.in_channels < 32


def test_the_width_of_a_group_is_a_multiple_of_its_own(run: Result) -> None:
    assert run.plan.kept_widths["4"] in (8, 16)


def test_a_run_remembers_the_choices_and_its_network_loads(run: Result) -> None:
    settings = json.loads((run.directory / "run.json").read_bytes())["settings"]
    loaded = hwprune.load(run.directory, grouped())
    x = torch.randn(2, 3, tiny.SIDE, tiny.SIDE)

    assert settings["choices"] == {"conv_groups": "offsets", "attention": "heads", "free_inputs": False}
    assert settings["multiples"] == {"4": 8}
    torch.testing.assert_close(loaded(x), run.model(x))


def test_a_plan_does_not_fit_an_analysis_with_other_choices(run: Result, tmp_path: Path) -> None:
    network = hwprune.analyze(grouped(), torch.zeros(1, 3, tiny.SIDE, tiny.SIDE))

    with pytest.raises(hwprune.HwpruneError, match="belongs to another network"):
        hwprune.cut(grouped(), run.plan, network)
