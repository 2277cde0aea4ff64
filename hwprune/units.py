"""Milliseconds and bytes inside; what people read is made here and nowhere else."""

from __future__ import annotations


def format_ms(value: float) -> str:
    """A duration in ms, with three significant digits in the unit a reader expects.

    >>> format_ms(0.0312), format_ms(4.56), format_ms(1234.0)
    ('31.2 µs', '4.56 ms', '1.23 s')
    """
    if abs(value) < 1.0:
        return f"{value * 1000:.3g} µs"
    if abs(value) < 1000.0:
        return f"{value:.3g} ms"
    return f"{value / 1000:.3g} s"


def format_bytes(value: float) -> str:
    """A size in bytes, in powers of 1024.

    >>> format_bytes(512), format_bytes(1536), format_bytes(26214400)
    ('512 B', '1.5 KiB', '25 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def format_count(value: float) -> str:
    """A count of operations, parameters or elements.

    >>> format_count(960), format_count(272474), format_count(4089000000)
    ('960', '272.5 k', '4.089 G')
    """
    for unit in ("", " k", " M"):
        if abs(value) < 1000:
            return f"{value:.4g}{unit}"
        value /= 1000
    return f"{value:.4g} G"


def format_percent(ratio: float) -> str:
    """A ratio as percent.

    >>> format_percent(0.6123)
    '61.2 %'
    """
    return f"{100 * ratio:.1f} %"
