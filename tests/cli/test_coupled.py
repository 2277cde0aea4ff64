"""Groups as rows: one line each on any terminal, equal reasons folded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwprune.cli.coupled import free_table, pinned_rows, pins
from hwprune.cost.shares import shares
from hwprune.cost.work import parameter_names
from hwprune.graph.coupling import analyze
from hwprune.graph.network import Network
from tests.graph.networks import build


@pytest.fixture(scope="module")
def densenet() -> tuple[nn.Module, Network]:
    """The network with the longest names and the most readers."""
    model = build("densenet121")
    return model, analyze(model, torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("width", [60, 80, 90, 100, 120, 140, 200])
def test_rows_fit_the_terminal_and_name_as_many_layers_as_there_is_room_for(
    densenet: tuple[nn.Module, Network], width: int
) -> None:
    model, network = densenet
    columns, rows = free_table(network, shares(network, parameter_names(model)), width)
    drawn = 1 + sum(max(len(cell) for cell in column) + 3 for column in zip(columns, *rows, strict=True))

    assert [row[0] for row in rows] == list(network.widths)
    assert all(len(row) == len(columns) for row in rows)
    assert drawn <= max(width, 74), (drawn, width)  # the names themselves and three numbers take 74
    readers = {row[0]: row[5] for row in rows} if len(columns) == 6 else {}
    if width >= 120:
        assert readers["features.denseblock1.denselayer1.conv1"] == "…conv2"
    if width == 200:
        assert (
            readers["features.denseblock4.denselayer14.conv2"] == "…denselayer15.conv1, …denselayer16.conv1, classifier"
        )
    if width == 100:
        assert readers["features.denseblock4.denselayer14.conv2"] == "3"


class Blocks(nn.Module):
    """Twelve blocks that insist on their size, and a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(12))
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x).view(-1, 8, 4, 4)
        out: Tensor = self.head(x)
        return out


def test_equal_reasons_are_one_row_and_the_ends_of_the_network_come_last() -> None:
    network = analyze(Blocks(), torch.zeros(1, 3, 4, 4))
    rows = pinned_rows(network)

    assert len(rows) == 3
    which, groups, channels, why = rows[0]
    assert (which, groups, channels) == ("blocks.*", "12", "96")
    assert why.startswith("meets a size written into the code")
    assert "view in the network itself" in why
    assert "cli/test_coupled.py:" in why
    assert [row[3] for row in rows[1:]] == ["reaches the network's output", "is the network's input"]
    assert [row[0] for row in rows[1:]] == ["head", "input of stem"]
    assert sum(len(p.groups) for p in pins(network)) == len(network.groups) - len(network.free)
