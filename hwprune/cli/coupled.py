"""Channel groups as rows of tables that fit on a terminal: one line a group, equal reasons folded together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwprune.cost.shares import Share
from hwprune.errors import listed
from hwprune.graph.network import ChannelGroup, Network
from hwprune.units import format_percent

FREE_COLUMNS = ("group", "width", "MACs", "activations", "goes with", "read by")
PINNED_COLUMNS = ("which", "groups", "channels", "why it stays")
LEAST_NAMES = 14  # characters that a column of names needs; on a narrower terminal there are counts in its place
LEAST_COUNTS = 9  # as wide as the head of the column

_CALL = re.compile(r"\(?\b(\w+) in ('[^']*'|the network itself)\)?,? ?")
_PATH = re.compile(r"[^\s(]*/([^/\s]+/[^/\s]+:\d+)")
# The network's ends, tables of positions and lone channels: true, but nothing that anybody would change.
_USUAL = ("reaches the network's output", "is the network's input", "is an index", "is a single", "is excluded")


@dataclass(frozen=True, slots=True)
class Pins:
    """Pinned groups with one reason.

    Attributes:
        why: in words, with the call that pins them; where there are several groups, of the first.
        groups: in order.
    """

    why: str
    groups: tuple[ChannelGroup, ...]

    @property
    def which(self) -> tuple[str, ...]:
        """Names of the groups, alike ones once, with stars for their numbers."""
        names = [group.name for group in self.groups]
        return tuple(names) if len(names) == 1 else tuple(dict.fromkeys(starred(name) for name in names))

    @property
    def channels(self) -> int:
        """Of all groups together."""
        return sum(group.width for group in self.groups)


def free_table(network: Network, shares: dict[str, Share], width: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns, and a row per free group; no wider than ``width`` characters where the names of the groups allow that.

    Layers are named as far as there is room, else counted, else left out.
    """
    rows = [
        (g.name, str(g.width), format_percent(shares[g.name].macs), format_percent(shares[g.name].activation_elements))
        for g in network.free
    ]
    taken = 1 + sum(max(len(row[i]) for row in [*rows, FREE_COLUMNS]) + 3 for i in range(4))
    room = (width - taken) // 2 - 3
    if room < LEAST_COUNTS:
        return FREE_COLUMNS[:4], list[tuple[str, ...]](rows)
    full: list[tuple[str, ...]] = []
    for group, row in zip(network.free, rows, strict=True):
        own = [name for name in group.members if name != group.name.partition("#")[0]]
        full.append((*row, _fitting(own, group.name, room), _fitting(group.consumers, group.name, room)))
    return FREE_COLUMNS, full


def _fitting(names: Sequence[str], group: str, room: int) -> str:
    """As many names as there is room for, without the path that they share with the group, and how many more."""
    if room < LEAST_NAMES:
        return str(len(names))
    short = [_without_prefix(name, group) for name in names]
    for count in range(len(short), 0, -1):
        more = f" +{len(short) - count}" if count < len(short) else ""
        if len(text := ", ".join(short[:count]) + more) <= room:
            return text
    return f"{len(names)} layers" if len(names) > 1 else "".join(f"…{name[-room + 1 :]}" for name in short)


def _without_prefix(name: str, group: str) -> str:
    """
    >>> _without_prefix("layer1.0.bn1", "layer1.0.conv1"), _without_prefix("fc", "layer1.0.conv1")
    ('…bn1', 'fc')
    >>> _without_prefix("blocks.1.mlp.3", "blocks.1.mlp.0")
    '…mlp.3'
    """
    mine, theirs = name.split("."), group.split(".")
    shared = 0
    while shared < min(len(mine) - 1, len(theirs) - 1) and mine[shared] == theirs[shared]:
        shared += 1
    shared -= shared > 0 and mine[shared].isdecimal()
    return f"…{'.'.join(mine[shared:])}" if shared else name or "the network itself"


def pins(network: Network) -> list[Pins]:
    """Pinned groups by reason: those that code could change first, the network's own ends last; wide ones first."""
    found: dict[tuple[str, str], list[ChannelGroup]] = {}
    for group in network.groups:
        if group.pinned is not None:
            why, operator = split_reason(group.pinned)
            # Sizes in a message differ where the reason is the same.
            found.setdefault((re.sub(r"(?<![:\d])\d+", "#", why), operator), []).append(group)
    folded = []
    for groups in found.values():
        why, operator = split_reason(groups[0].pinned or "", star=len(groups) > 1)
        folded.append(Pins(f"{why} ({operator})" if operator else why, tuple(groups)))
    return sorted(folded, key=lambda p: (_is_usual(p), -p.channels))


def _is_usual(pins: Pins) -> bool:
    alone = all(len(group.slots) == 1 for group in pins.groups)  # a table of positions
    return alone or pins.why.startswith(_USUAL)


def split_reason(reason: str, *, star: bool = True) -> tuple[str, str]:
    """A pinned group's reason as words and as the call in it; numbers in module names become stars.

    >>> split_reason("is indexed by a tensor (index in 'stages.1.attn')")
    ('is indexed by a tensor', 'index in stages.*.attn')
    >>> split_reason("meets a size written into the code: view in 'a.0', /x/site-packages/y/nets/b.py:7", star=False)
    ('meets a size written into the code: nets/b.py:7', 'view in a.0')
    """
    named = starred if star else str
    call = _CALL.search(reason)
    operator = "" if call is None else f"{call[1]} in {named(call[2].strip(chr(39))) or 'the network itself'}"
    words = reason if call is None else reason[: call.start()] + reason[call.end() :]
    words = re.sub(r"'([\w.]+)'", lambda found: f"'{named(found[1])}'", _PATH.sub(r"\1", words))
    return words.strip().rstrip(":,").strip(), operator


def starred(path: str) -> str:
    """
    >>> starred("layers.0.block_3.attn#2"), starred("layer1.0.conv2d")
    ('layers.*.block_*.attn', 'layer*.*.conv2d')
    """
    return re.sub(r"\d+(?=[._]|$)", "*", path.partition("#")[0])


def pinned_rows(network: Network) -> list[tuple[str, ...]]:
    """A row per reason."""
    return [(listed(p.which, most=3), str(len(p.groups)), str(p.channels), p.why) for p in pins(network)]
