"""Random layers, entries and tables."""

from __future__ import annotations

from hypothesis import strategies as st

from hwprune.graph.layers import NetworkLayer, WidthOf
from hwprune.latency.entry import CONTEXTS, Entry
from hwprune.latency.held_out import HeldOut
from hwprune.latency.sample import NetworkSample, structure_of
from hwprune.latency.table import LatencyTable
from hwprune.layer import KINDS, Layer
from tests.latency.rows import FINGERPRINT

times_ms = st.floats(1e-3, 1e3)
sizes = st.integers(1, 64)
layers = st.builds(
    Layer,
    kind=st.sampled_from(KINDS),
    c_in=sizes,
    c_out=sizes,
    batch=st.integers(1, 4),
    size=st.lists(sizes, max_size=3).map(tuple),
    kernel=st.lists(sizes, max_size=3).map(tuple),
    group_width=st.integers(0, 4),
    variant=st.sampled_from(["", "bias", "relu", "max"]),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry with one to four blocks."""
    pairs = draw(st.lists(st.tuples(times_ms, times_ms), min_size=1, max_size=4))
    told = st.none() | st.integers(0, 1 << 40)
    return Entry(
        layer=draw(layers),
        samples_ms=tuple(a for a, _ in pairs),
        reference_ms=tuple(b for _, b in pairs),
        measured_at=f"2026-01-{draw(st.integers(10, 12))}T00:00:00+00:00",
        context=draw(st.sampled_from(CONTEXTS)),
        frame_ratio=draw(st.floats(0, 10)),
        activation_bytes=draw(told),
        workspace_bytes=draw(told),
    )


@st.composite
def held_outs(draw: st.DrawFn) -> HeldOut:
    """A check of one of two networks on up to three settings."""
    count = draw(st.integers(1, 3))
    exactly = {"min_size": count, "max_size": count}
    return HeldOut(
        network=draw(st.sampled_from(["resnet18", "resnet20"])),
        widths=tuple(draw(st.lists(st.dictionaries(st.sampled_from("ab"), sizes), **exactly))),
        predicted_ms=tuple(draw(st.lists(times_ms, **exactly))),
        measured_ms=tuple(draw(st.lists(times_ms, **exactly))),
        again_ms=tuple(draw(st.lists(times_ms, max_size=count))),
        measured_at=f"2026-01-{draw(st.integers(10, 12))}T00:00:00+00:00",
    )


NETWORK = (
    NetworkLayer("stem", Layer("conv", 3, 8, kernel=(3, 3)), WidthOf(3), WidthOf(0, (("a", 1),))),
    NetworkLayer("head.cat", Layer("cat", 24, 24), WidthOf(8, (("a", 1), ("b", 1))), WidthOf(0, (("b", 2),)), True, 2),
)
STRUCTURE = structure_of(NETWORK, "hash")


@st.composite
def network_samples(draw: st.DrawFn) -> NetworkSample:
    """A sample of `NETWORK`."""
    pairs = draw(st.lists(st.tuples(times_ms, times_ms), min_size=1, max_size=3))
    names = st.sampled_from(["stem", "head.cat", "(rest)"])
    return NetworkSample(
        network="net",
        structure=STRUCTURE,
        widths=draw(st.fixed_dictionaries({"a": sizes, "b": sizes})),
        samples_ms=tuple(a for a, _ in pairs),
        reference_ms=tuple(b for _, b in pairs),
        layer_ms=draw(st.dictionaries(names, st.floats(0, 10))),
        engine_layers=draw(st.dictionaries(names, st.integers(1, 5))),
        measured_at=f"2026-01-{draw(st.integers(10, 12))}T00:00:00+00:00",
        activation_bytes=draw(st.none() | st.integers(0, 1 << 40)),
        build_s=draw(st.floats(0, 10)),
    )


tables = st.builds(
    lambda entries, held_out, samples: _with(
        LatencyTable(FINGERPRINT).add(entries).with_samples(samples, NETWORK, "hash"), held_out
    ),
    st.lists(entries(), max_size=5),
    st.lists(held_outs(), max_size=2),
    st.lists(network_samples(), max_size=3),
)


def _with(table: LatencyTable, held_out: list[HeldOut]) -> LatencyTable:
    for held in held_out:
        table = table.with_held_out(held)
    return table
