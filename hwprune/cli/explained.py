"""An explanation as tables for people; `--json` has all of it."""

from __future__ import annotations

from hwprune.cli import show
from hwprune.units import format_ms
from hwprune.validation.explain import WORDS, Explanation, Misfit

MOST_ROWS = 10  # of a table


def explanation_tables(found: Explanation) -> None:
    """Print them: causes always, the others where they have something to say."""
    whole = "latency" if found.measured else "all layers"
    rows = [
        (
            WORDS[cause.name],
            _count(cause.dense_count),
            format_ms(cause.dense_ms),
            _count(cause.pruned_count),
            format_ms(cause.pruned_ms),
            signed(cause.difference_ms),
        )
        for cause in found.causes
    ]
    total = (whole, "", format_ms(found.dense_ms), "", format_ms(found.pruned_ms), signed(found.difference_ms))
    heads = ("cause", "layers", "dense", "layers", "pruned", "difference")
    show.table("where the difference comes from", heads, [*rows, total])
    _layers(found)
    _refused(found)
    _misfits(found)


def signed(value_ms: float) -> str:
    """A difference with its sign.

    >>> signed(0.0123), signed(-1.5)
    ('+12.3 µs', '-1.5 ms')
    """
    return f"{'+' if value_ms >= 0 else '-'}{format_ms(abs(value_ms))}"


def _layers(found: Explanation) -> None:
    rows = [
        (region.name, format_ms(region.dense_ms), format_ms(region.pruned_ms), signed(region.difference_ms))
        for region in found.regions[:MOST_ROWS]
        if region.difference_ms
    ]
    if rows:
        title = "largest differences, with all that each layer's fusions and changes of layout take"
        show.table(title, ("layer", "dense", "pruned", "difference"), rows, caption=_more(len(found.regions)))


def _refused(found: Explanation) -> None:
    rows = [(one.dense, " | ".join(one.pruned), signed(one.difference_ms)) for one in found.refused[:MOST_ROWS]]
    if rows:
        title = "one layer in the dense engine, several in the pruned one"
        show.table(title, ("dense", "pruned", "difference"), rows, caption=_more(len(found.refused)))


def _misfits(found: Explanation) -> None:
    if found.rule is None or not found.misfits:
        return
    note = ""
    if any(one.off.leaves_layout for one in found.misfits):
        note = f"; * no multiple of {found.rule.least}: its tensors leave the layout"
    title = f"widths off the device's alignment: multiples of {found.rule.multiple} ({found.rule.why}){note}"
    heads = ("layer", "widths", "at fault", "takes", "at the next above", "at the next below")
    show.table(title, heads, [_misfit(one) for one in found.misfits[:MOST_ROWS]], caption=_more(len(found.misfits)))


def _misfit(one: Misfit) -> tuple[str, ...]:
    widths = " → ".join(map(str, one.off.widths))
    faults = ", ".join(map(str, one.off.at_fault)) + ("*" if one.off.leaves_layout else "")
    up, down = (
        "" if cost is None or layer is None else f"{signed(cost)} at {layer.c_in} → {layer.c_out}"
        for cost, layer in ((one.up_ms, one.off.up), (one.down_ms, one.off.down))
    )
    return (one.off.node, widths, faults, format_ms(one.ms), up, down)


def _count(layers: int) -> str:
    return str(layers) if layers else ""


def _more(total: int) -> str:
    return f"{total - MOST_ROWS} more with --json" if total > MOST_ROWS else ""
