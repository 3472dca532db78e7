"""Prints docs/reference/matrix.md: what the matrix expects, and what was seen by playing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import product

from tests.matrix.cells import (
    DIRECTIONS,
    LONG,
    PACKET_LENGTH,
    SHORT,
    TIGHT_MTU,
    Cast,
    Request,
    SensorPath,
    Size,
    Wanted,
    Watched,
    copies_of,
    length_of_copy,
)
from tests.matrix.plays import COPY_SCENES, RIVALRIES, Rivalry, scenes
from tests.matrix.seen import digest_of, kept

HEAD = """# The test matrix

{seen}

A cell is one session and one packet: a direction, a watched end, a filter, a mode, a delivery, a
limit of length, and the destination and place of the packet. Its number is how many copies the
session gets. The counts on this page are worked out by rules of their own
(`tests/matrix/cells.py`), not by the compiler and not by `flows/semantics/meaning.py`; tests
compare all of them with each other, and with real Open vSwitch, where every frame at every port and
every remote sensor is compared byte by byte. A copy is identified by its place and its bytes, so
an extra copy never makes up for a missing one. Play it: `tools/isolate .venv/bin/python -m
tests.ovs.matrix`.

The filters: `all` is built in; `accept both` accepts the packets in both directions; `accept
egress` and `accept ingress` reject them, by their first rule, in the other one; `reject` rejects
them in both. Hairpin is a frame to the sender's own address: it is sent, and no port receives it.
All networks of a world use the same addresses. On different bridges means both ways round: the
sender's bridge has the lower datapath id, or the higher one.
"""
COPY = """
## Mode `copy`

Sender, receiver and a third workload are in one network. Each session is played with each of the
deliveries below.
"""
EXCLUSIVE = """
## Mode `exclusive`

Each session of the rows competes with one that watches the same ports in both directions, with
filter `all`. A cell shows the copies of the session, `+`, and those of its rival. Beside them a
copy session watches both ends: it gets its one copy of every packet. With a rival that watches
both ends every delivery is played that the last table marks, otherwise a tap port.
"""
DELIVERIES = """
## Deliveries

Bytes of the original frame in each copy, of a frame of {short} and of one of {long} bytes.
`packet_length` is {length}. The path MTU is {mtu} over IPv4 and that of the hosts, 1500, over
IPv6; each outer packet is measured. A tag adds 4 bytes.

"""


def render() -> str:
    """The whole page."""
    played, made = kept(), tuple(scenes())
    if played is None or played.digest != digest_of(made):
        sys.exit(
            "the matrix has changed since it was played on Open vSwitch: run "
            "`tools/isolate .venv/bin/python -m tests.ovs.matrix --write`"
        )
    said = f"**{played}**, on Open vSwitch {played.open_vswitch}, in {played.scenes} worlds."
    deliveries = DELIVERIES.format(short=SHORT, long=LONG, length=PACKET_LENGTH, mtu=TIGHT_MTU)
    parts = [HEAD.format(seen=said), COPY, *copy_tables(), EXCLUSIVE, *rival_tables()]
    return "".join((*parts, deliveries, *delivery_table()))


def copy_tables() -> Iterator[str]:
    """One table for all casts and placements that have the same counts."""
    yield from _tables(Watched, lambda request, cast: str(copies_of(request, cast)))


def rival_tables() -> Iterator[str]:
    """The same for each rival, which comes before or after the session."""
    ends = [watched for watched in Watched if watched is not Watched.NETWORK]
    for watched, is_first in product(ends, (True, False)):
        rivalry = Rivalry(watched, is_first, RIVALRIES[0].path)
        order = "lower" if is_first else "higher"
        yield f"\n### The rival has the {order} number and watches: {watched.value}\n"
        yield from _tables(ends, _with_rival(rivalry))


def delivery_table() -> Iterator[str]:
    """How long copies are by each delivery, and in which mode they were played."""
    sizes: dict[SensorPath, list[Size]] = {}
    for path, size in (group for groups in COPY_SCENES for group in groups):
        sizes.setdefault(path, []).append(size)
    exclusive = {rivalry.path for rivalry in RIVALRIES}
    yield _row("delivery", *(size.value for size in Size), "in mode `exclusive`")
    yield _row("---", *("---" for _ in Size), "---")
    for path, played in sizes.items():
        cells = [_lengths(path, size) if size in played else "" for size in Size]
        yield _row(path.name, *cells, "yes" if path in exclusive else "")


def _with_rival(rivalry: Rivalry) -> Callable[[Request, Cast], str]:
    return lambda request, cast: "{}+{}".format(*rivalry.counts(request, cast))


def _tables(watched: Iterable[Watched], count: Callable[[Request, Cast], str]) -> Iterator[str]:
    """Tables of directions and watched ends by filters, each with the casts that it is true of."""
    casts_by_table: dict[str, list[Cast]] = {}
    for cast in Cast:
        lines = [_row("direction", "watched", *(wanted.value for wanted in Wanted))]
        lines.append(_row("---", "---", *(":-:" for _ in Wanted)))
        for direction, end in product(DIRECTIONS, watched):
            counts = [count(Request(direction, end, wanted), cast) for wanted in Wanted]
            lines.append(_row(direction.value, end.value, *counts))
        casts_by_table.setdefault("".join(lines), []).append(cast)
    for table, casts in casts_by_table.items():
        names = ", ".join(cast.value for cast in casts).capitalize()
        where = "sender and receiver on the same bridge, and on different ones"
        yield f"\n{names}; {where}:\n\n{table}"


def _lengths(path: SensorPath, size: Size) -> str:
    found = [length_of_copy(length, path, size) for length in (SHORT, LONG)]
    return ", ".join("no copy" if length is None else str(length) for length in found)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(render(), end="")
