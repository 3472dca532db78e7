"""The scenes of the matrix, each with the cells that it answers.

Copy sessions are independent, so one world holds many that watch the same ports. Exclusive ones are
not: each pair of rivals has ports of its own, and a world holds 45 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product

from flows.model.session import Collector, Direction, Dpid, NetworkId, Ofport
from flows.model.world import Placement
from tests.matrix.cells import (
    ADDRESS4,
    AUTO,
    ENDS,
    FAR,
    FIRST,
    FIXED,
    LONG,
    POOL,
    SECOND,
    SHORT,
    SPREAD,
    TAP,
    THIRD,
    TUNNELS,
    VXLAN6,
    WAYS,
    WISHES,
    Apart,
    Cast,
    Size,
    Wanted,
    Watched,
    Way,
    Wish,
    copies_of,
    copies_of_rivals,
)
from tests.matrix.scenes import SLOTS, Casting, Packet, Scene, Trio, packet
from tests.random_worlds import BRIDGES

Group = tuple[Way, Size]
"""All wishes of copy sessions, for one way of delivery and one limit of length."""


@dataclass(frozen=True)
class Rivalry:
    """Who competes with the 45 wishes: a session that watches some ends, before or after them."""

    rival: Watched
    is_first: bool
    way: Way

    @property
    def wish(self) -> Wish:
        """What the rival asks for."""
        return Wish(Direction.BOTH, self.rival, Wanted.ALL)

    def counts(self, wish: Wish, cast: Cast) -> tuple[int, int]:
        """The copies of the session with a wish, and of its rival."""
        if self.is_first:
            rival, own = copies_of_rivals(self.wish, wish, cast)
            return own, rival
        return copies_of_rivals(wish, self.wish, cast)


BYSTANDER = Wish(Direction.BOTH, Watched.BOTH, Wanted.ALL)
"""What the copy session asks for that watches the same ports as the rivals, unaffected by them."""
SHORTENED = tuple((way, Size.SHORTENED) for way in (*TUNNELS, SPREAD))
GUARDED = tuple((way, size) for way in (*TUNNELS, SPREAD) for size in (Size.FITTED, Size.SKIPPED))
COPY_SCENES: tuple[tuple[Group, ...], ...] = (
    *(
        tuple(product(ways, (size,)))
        for ways, size in product(((TAP, FAR), (FIXED, AUTO)), (Size.WHOLE, Size.SHORTENED))
    ),
    tuple(product((POOL,), (Size.WHOLE, Size.SHORTENED))),
    *((SHORTENED[n : n + 2]) for n in range(0, len(SHORTENED), 2)),
    *((GUARDED[n : n + 2]) for n in range(0, len(GUARDED), 2)),
)
"""The groups that share a world: as many as may watch one network."""
RIVAL_WAYS = (*(way for way in WAYS if way.addresses in ((), ADDRESS4)), VXLAN6)
RIVALRIES = (
    *(Rivalry(*each, TAP) for each in product((Watched.SENDER, Watched.RECEIVER), (True, False))),
    *(Rivalry(Watched.BOTH, is_first, way) for way in RIVAL_WAYS for is_first in (True, False)),
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
    """All wishes for some ways of delivery at once, all of the same ports."""
    trios = tuple(
        Trio(NetworkId(apart.name.lower()), apart, tuple(_at(*place) for place in places))
        for apart, places in TRIO_PLACES.items()
    )
    casting, keys = Casting(trios), count(1)
    serial = count(1)
    packets = tuple(
        packet(trio, cast, next(serial), length)
        for trio, cast, length in product(trios, Cast, (SHORT, LONG))
    )
    cells: list[tuple[Wish, Way, Size, Collector]] = []
    for way, size in groups:
        for n, wish in enumerate(WISHES):
            name, is_tight = f"w{len(cells)}", size in (Size.FITTED, Size.SKIPPED)
            to = casting.collector(name, way, SLOTS[n], next(keys), is_tight)
            casting.session(name, wish, trios, to, size)
            cells.append((wish, way, size, to))
    numbers = casting.numbers()
    for (wish, way, size, to), sent in product(cells, packets):
        casting.expect(sent, copies_of(wish, sent.cast), way, size, to, numbers)
    name = ", ".join(f"{way.name} ({size.value})" for way, size in groups)
    return casting.scene(name, packets, numbers)


def rival_scene(rivalry: Rivalry) -> Scene:
    """Each wish of an exclusive session, against a rival and beside a copy session."""
    pairs = [_rivals_ground(n) for n in range(len(ENDS))]
    casting = Casting(tuple(trio for pair in pairs for trio in pair))
    ways = (rivalry.way, TAP, TAP)
    to_own, to_rival, to_bystander = (
        casting.collector(name, way, SLOTS[LISTENING_SLOT + n], 7, is_tight=False)
        for n, (name, way) in enumerate(zip(("own", "rival", "bystander"), ways, strict=True))
    )
    order = (20, 10) if rivalry.is_first else (10, 20)
    for n, (wish, pair) in enumerate(zip(ENDS, pairs, strict=True)):
        casting.session(f"own{n}", wish, pair, to_own, exclusive=order[0])
        casting.session(f"rival{n}", rivalry.wish, pair, to_rival, exclusive=order[1])
        casting.session(f"bystander{n}", BYSTANDER, pair, to_bystander)
    numbers, serial = casting.numbers(), count(1)
    packets: list[Packet] = []
    for wish, pair in zip(ENDS, pairs, strict=True):
        for trio, cast in product(pair, Cast):
            sent = packet(trio, cast, next(serial), SHORT)
            packets.append(sent)
            own, rival = rivalry.counts(wish, cast)
            casting.expect(sent, own, rivalry.way, Size.WHOLE, to_own, numbers)
            casting.expect(sent, rival, TAP, Size.WHOLE, to_rival, numbers)
            casting.expect(sent, copies_of(BYSTANDER, cast), TAP, Size.WHOLE, to_bystander, numbers)
    before = "before" if rivalry.is_first else "after"
    name = f"exclusive, {rivalry.way.name}, {before} it one that watches: {rivalry.rival.value}"
    return casting.scene(name, tuple(packets), numbers)


def _rivals_ground(n: int) -> tuple[Trio, Trio]:
    """Two networks of one pair of rivals: their ends are together in one, apart in the other."""
    at, round_ = n % len(BRIDGES), n // len(BRIDGES)
    here, there = BRIDGES[at], BRIDGES[(at + 1) % len(BRIDGES)]
    slots = [4 * round_ + m for m in range(4)]
    return (
        Trio(NetworkId(f"same{n}"), Apart.SAME, (_at(here, slots[0]), _at(here, slots[1]))),
        Trio(NetworkId(f"apart{n}"), Apart.ONWARD, (_at(here, slots[2]), _at(there, slots[3]))),
    )


def _at(dpid: Dpid, slot: int) -> Placement:
    return Placement(dpid, Ofport(SLOTS[slot]))
