"""The scenes of the matrix, each with the cells that it answers.

Copy sessions are independent, so one world holds many that watch the same ports. Exclusive ones are
not: each pair of rivals has ports of its own, and a world holds 45 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product

from flows.model import Collector, Direction, Dpid, NetworkId, Ofport, Placement
from tests.generators.random_worlds import BRIDGES
from tests.matrix.cells import (
    ADDRESS4,
    AUTO,
    ENDS,
    FAR,
    FIRST,
    FIXED,
    LONG,
    PATHS,
    POOL,
    REQUESTS,
    SECOND,
    SHORT,
    SPREAD,
    TAP,
    THIRD,
    TUNNELS,
    VXLAN6,
    Apart,
    Cast,
    Request,
    SensorPath,
    Size,
    Wanted,
    Watched,
    copies_of,
    copies_of_rivals,
)
from tests.matrix.scenes import SLOTS, Packet, Scene, SceneBuilder, Trio, packet

Group = tuple[SensorPath, Size]
"""All requests of copy sessions, for one path to a sensor and one limit of length."""


@dataclass(frozen=True)
class Rivalry:
    """The session that competes with the 45 requests, evaluated before or after them."""

    rival: Watched
    is_first: bool
    path: SensorPath

    @property
    def request(self) -> Request:
        """What the rival requests."""
        return Request(Direction.BOTH, self.rival, Wanted.ALL)

    def counts(self, request: Request, cast: Cast) -> tuple[int, int]:
        """The copies of the session with a request, and of its rival."""
        if self.is_first:
            rival, own = copies_of_rivals(self.request, request, cast)
            return own, rival
        return copies_of_rivals(request, self.request, cast)


BYSTANDER = Request(Direction.BOTH, Watched.BOTH, Wanted.ALL)
"""The request of the copy session that watches the same ports; rivals do not affect it."""
SHORTENED = tuple((path, Size.SHORTENED) for path in (*TUNNELS, SPREAD))
GUARDED = tuple((path, size) for path in (*TUNNELS, SPREAD) for size in (Size.FITTED, Size.SKIPPED))
COPY_SCENES: tuple[tuple[Group, ...], ...] = (
    *(
        tuple(product(paths, (size,)))
        for paths, size in product(((TAP, FAR), (FIXED, AUTO)), (Size.WHOLE, Size.SHORTENED))
    ),
    tuple(product((POOL,), (Size.WHOLE, Size.SHORTENED))),
    *((SHORTENED[n : n + 2]) for n in range(0, len(SHORTENED), 2)),
    *((GUARDED[n : n + 2]) for n in range(0, len(GUARDED), 2)),
)
"""The groups that share a world: as many as may watch one network."""
RIVAL_PATHS = (*(path for path in PATHS if path.addresses in ((), ADDRESS4)), VXLAN6)
RIVALRIES = (
    *(Rivalry(*each, TAP) for each in product((Watched.SENDER, Watched.RECEIVER), (True, False))),
    *(Rivalry(Watched.BOTH, is_first, path) for path in RIVAL_PATHS for is_first in (True, False)),
)
TRIO_PLACES = {
    Apart.SAME: ((FIRST, 60), (FIRST, 61), (SECOND, 60)),
    Apart.ONWARD: ((FIRST, 62), (SECOND, 61), (THIRD, 60)),
    Apart.BACK: ((THIRD, 61), (FIRST, 63), (SECOND, 62)),
}
"""Where the workloads of copy sessions are: a bridge and the position of a slot."""
LISTENING_SLOT = 60
"""Position of the first slot that no rival's workload has."""


def scenes() -> Iterator[Scene]:
    """All of them; each is made when it is asked for."""
    for groups in COPY_SCENES:
        yield copy_scene(groups)
    for rivalry in RIVALRIES:
        yield rival_scene(rivalry)


def copy_scene(groups: tuple[Group, ...]) -> Scene:
    """All requests for some paths to sensors, in one world and of the same ports."""
    trios = tuple(
        Trio(NetworkId(apart.name.lower()), apart, tuple(_at(*place) for place in places))
        for apart, places in TRIO_PLACES.items()
    )
    builder, keys = SceneBuilder(trios), count(1)
    serial = count(1)
    packets = tuple(
        packet(trio, cast, next(serial), length)
        for trio, cast, length in product(trios, Cast, (SHORT, LONG))
    )
    cells: list[tuple[Request, SensorPath, Size, Collector]] = []
    for path, size in groups:
        for n, request in enumerate(REQUESTS):
            name, is_tight = f"w{len(cells)}", size in (Size.FITTED, Size.SKIPPED)
            to = builder.collector(name, path, SLOTS[n], next(keys), is_tight)
            builder.session(name, request, trios, to, size)
            cells.append((request, path, size, to))
    numbers = builder.numbers()
    for (request, path, size, to), sent in product(cells, packets):
        builder.expect(sent, copies_of(request, sent.cast), path, size, to, numbers)
    name = ", ".join(f"{path.name} ({size.value})" for path, size in groups)
    return builder.scene(name, packets, numbers)


def rival_scene(rivalry: Rivalry) -> Scene:
    """Each request of an exclusive session, against a rival and beside a copy session."""
    pairs = [_networks_of_rivals(n) for n in range(len(ENDS))]
    builder = SceneBuilder(tuple(trio for pair in pairs for trio in pair))
    paths = (rivalry.path, TAP, TAP)
    to_own, to_rival, to_bystander = (
        builder.collector(name, path, SLOTS[LISTENING_SLOT + n], 7, is_tight=False)
        for n, (name, path) in enumerate(zip(("own", "rival", "bystander"), paths, strict=True))
    )
    order = (20, 10) if rivalry.is_first else (10, 20)
    for n, (request, pair) in enumerate(zip(ENDS, pairs, strict=True)):
        builder.session(f"own{n}", request, pair, to_own, exclusive=order[0])
        builder.session(f"rival{n}", rivalry.request, pair, to_rival, exclusive=order[1])
        builder.session(f"bystander{n}", BYSTANDER, pair, to_bystander)
    numbers, serial = builder.numbers(), count(1)
    packets: list[Packet] = []
    for request, pair in zip(ENDS, pairs, strict=True):
        for trio, cast in product(pair, Cast):
            sent = packet(trio, cast, next(serial), SHORT)
            packets.append(sent)
            own, rival = rivalry.counts(request, cast)
            builder.expect(sent, own, rivalry.path, Size.WHOLE, to_own, numbers)
            builder.expect(sent, rival, TAP, Size.WHOLE, to_rival, numbers)
            builder.expect(sent, copies_of(BYSTANDER, cast), TAP, Size.WHOLE, to_bystander, numbers)
    before = "before" if rivalry.is_first else "after"
    name = f"exclusive, {rivalry.path.name}, {before} it one that watches: {rivalry.rival.value}"
    return builder.scene(name, tuple(packets), numbers)


def _networks_of_rivals(n: int) -> tuple[Trio, Trio]:
    """Two networks of one pair of rivals: with both ends on one bridge, and on two."""
    at, round_ = n % len(BRIDGES), n // len(BRIDGES)
    here, there = BRIDGES[at], BRIDGES[(at + 1) % len(BRIDGES)]
    slots = [4 * round_ + m for m in range(4)]
    return (
        Trio(NetworkId(f"same{n}"), Apart.SAME, (_at(here, slots[0]), _at(here, slots[1]))),
        Trio(NetworkId(f"apart{n}"), Apart.ONWARD, (_at(here, slots[2]), _at(there, slots[3]))),
    )


def _at(dpid: Dpid, slot: int) -> Placement:
    return Placement(dpid, Ofport(SLOTS[slot]))
