"""Engine layers told of the network's layers: nothing dropped, nothing twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency.attribution import REST, Attributor
from hwprune.layer import Kind, Layer
from hwprune.runtimes.base import LayerTime

FREE = WidthOf(0, (("g", 1),))


def layer(name: str, kind: Kind, *, fused: bool = False) -> NetworkLayer:
    return NetworkLayer(name, Layer(kind, 8, 8), FREE, FREE, fused)


NETWORK = [
    layer("conv1", "conv"),
    layer("bn1", "norm", fused=True),
    layer("block.conv", "conv"),
    layer("block.bn", "norm", fused=True),
    layer("block", "add"),
    layer("block@2", "activation", fused=True),
    layer("block@3", "mul"),
    layer("fc", "linear"),
]


def time(name: str, ms: float, nodes: str = "", kind: str = "layer") -> LayerTime:
    return LayerTime(name, ms, kind, tuple(nodes.split()))  # type: ignore[arg-type]


def test_a_fused_layer_is_its_convolutions_and_a_layout_change_the_next_layers() -> None:
    found = Attributor(NETWORK)(
        [
            time("k1", 1.0, "conv1/Conv bn1/BatchNormalization"),
            time("reorder", 0.5, kind="reformat"),
            time("unknown", 0.25, "nowhere/Slice"),
            time("k2", 2.0, "block.conv/Conv block.bn/BatchNormalization block/Add block/Relu"),
            time("k3", 4.0, "block/Mul"),
            time("fc/Gemm", 8.0),
            time("last", 0.125, kind="copy"),
        ]
    )

    assert found.ms == {"conv1": 1.0, "block.conv": 2.75, "block@3": 4.0, "fc": 8.125}
    assert found.engine_layers == {"conv1": 1, "block.conv": 3, "block@3": 1, "fc": 2}


def test_an_activation_that_runs_alone_is_of_the_layer_that_it_would_be_fused_into() -> None:
    found = Attributor(NETWORK)([time("a", 1.0, "block/Add"), time("b", 2.0, "block/Relu"), time("c", 4.0, "bn1/Mul")])

    assert found.ms == {"block": 3.0, "conv1": 4.0}


def test_modules_without_a_graph_are_known_by_their_names() -> None:
    assert Attributor(NETWORK)([time("conv1", 1.0), time("bn1", 2.0), time("fc", 4.0)]).ms == {"conv1": 3.0, "fc": 4.0}


def test_a_compilers_layer_over_a_whole_block_is_shared_out_by_work() -> None:
    block = time("{ForeignNode}", 3.0, "conv1/Conv bn1/BatchNormalization block.conv/Conv block/Add")
    wide = replace(NETWORK[2], c_out=WidthOf(0, (("g", 2),)))

    found = Attributor([NETWORK[0], NETWORK[1], wide, *NETWORK[3:]])([block], {"g": 8})

    assert found.ms == {"conv1": 1.0, "block.conv": 2.0}
    assert sum(found.engine_layers.values()) == 1


def test_a_change_of_layout_is_of_the_layer_that_the_runtime_says() -> None:
    found = Attributor(NETWORK)(
        [time("r", 1.0, "fc/Gemm", "reformat"), time("k", 2.0, "conv1/Conv"), time("fc/Gemm", 4.0)]
    )

    assert found.ms == {"fc": 5.0, "conv1": 2.0}


def test_what_belongs_to_no_layer_is_in_the_rest() -> None:
    assert Attributor(NETWORK)([time("x", 1.0), time("y", 2.0)]).ms == {REST: 3.0}


@given(
    st.lists(
        st.builds(
            LayerTime,
            name=st.sampled_from(["conv1", "fc", "what", "block/Add"]),
            median_ms=st.floats(0, 10),
            kind=st.sampled_from(["layer", "reformat", "copy"]),
            nodes=st.lists(st.sampled_from(["conv1/Conv", "block/Mul@2", "fc/Gemm", "no/Pad"]), max_size=3).map(tuple),
        ),
        max_size=12,
    )
)
def test_no_time_is_lost_and_every_engine_layer_counts_once(times: list[LayerTime]) -> None:
    found = Attributor(NETWORK)(times)

    assert abs(sum(found.ms.values()) - sum(t.median_ms for t in times)) < 1e-9
    assert sum(found.engine_layers.values()) == len(times)
    assert found.ms.keys() <= {layer.name for layer in NETWORK if not layer.fused} | {REST}
