"""What a cell of the matrix asks, and how many copies it must give, counted by rules of its own.

Nothing here asks flows/meaning.py or the compiler: the counts are what a reader of the contract
would write down with a pencil.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import product

from flows.model.session import Delivery, Direction, Dpid, TagMode
from tests.random_worlds import BRIDGES


class Cast(Enum):
    """To whom the sender speaks."""

    UNICAST = "unicast"
    BROADCAST = "broadcast"
    MULTICAST = "multicast"
    UNKNOWN = "unknown unicast"
    HAIRPIN = "hairpin"


class Apart(Enum):
    """Where sender and receiver are."""

    SAME = "same bridge"
    ONWARD = "different bridges"
    BACK = "different bridges, the other way"


class Watched(Enum):
    """Which of them the session watches."""

    SENDER = "sender"
    RECEIVER = "receiver"
    BOTH = "both ends"
    NETWORK = "whole network"


class Wanted(Enum):
    """What the session's filter says about the packets."""

    ALL = "all"
    BOTH = "accept both"
    EGRESS = "accept egress"
    INGRESS = "accept ingress"
    REJECT = "reject"


class Size(Enum):
    """What limits the length of a copy."""

    WHOLE = "nothing"
    SHORTENED = "packet_length"
    FITTED = "path MTU: truncate"
    SKIPPED = "path MTU: skip"


class Event(Enum):
    """What a packet is at a port."""

    SENT = "sent"
    HEARD = "heard"


@dataclass(frozen=True)
class Wish:
    """What one session asks for."""

    direction: Direction
    watched: Watched
    wanted: Wanted


@dataclass(frozen=True)
class Way:
    """How copies reach their sensor: tap ports on some bridges, or remote addresses."""

    name: str
    delivery: Delivery
    bridges: tuple[Dpid, ...] = ()
    addresses: tuple[str, ...] = ()
    tag: TagMode | int = TagMode.NONE

    @property
    def is_tunnel(self) -> bool:
        """Whether copies go to remote addresses."""
        return bool(self.addresses)

    @property
    def path_mtu(self) -> int | None:
        """What the collector says of the path when it is tight; None: what the hosts have."""
        return None if self.addresses == ADDRESS6 else TIGHT_MTU

    @property
    def limit(self) -> int:
        """Bytes of the longest frame whose copy fits the path when it is tight."""
        versions = [6 if ":" in address else 4 for address in self.addresses]
        return (self.path_mtu or HOST_MTU) - max(OVERHEAD[self.delivery, v] for v in versions)


DIRECTIONS = (Direction.EGRESS, Direction.INGRESS, Direction.BOTH)
WISHES = tuple(Wish(*each) for each in product(DIRECTIONS, Watched, Wanted))
ENDS = tuple(wish for wish in WISHES if wish.watched is not Watched.NETWORK)
"""The wishes of rivals: they watch one end, or both."""

SHORT, LONG = 200, 1514
"""Bytes of the frames; the long one is the longest that the workloads can send."""
PACKET_LENGTH = 100
TIGHT_MTU, HOST_MTU = 600, 1500
OVERHEAD = {
    (Delivery.VXLAN, 4): 36, (Delivery.VXLAN, 6): 56,
    (Delivery.GRE, 4): 28, (Delivery.GRE, 6): 48,
    (Delivery.ERSPAN2, 4): 36, (Delivery.ERSPAN2, 6): 56,
    (Delivery.ERSPAN3, 4): 40, (Delivery.ERSPAN3, 6): 60,
    (Delivery.GENEVE, 4): 36, (Delivery.GENEVE, 6): 56,
}  # fmt: skip
"""Bytes of the outer packet that are not the copied frame, by delivery and version of IP."""
FIXED_TAG = 77
ADDRESS4, ADDRESS6 = ("192.0.2.9",), ("fd00:9::9",)
FIRST, SECOND, THIRD = BRIDGES

TAP = Way("tap port", Delivery.PORT, (FIRST,))
FAR = Way("tap port on a third bridge", Delivery.PORT, (THIRD,))
FIXED = Way("tap port, tag 77", Delivery.PORT, (SECOND,), tag=FIXED_TAG)
AUTO = Way("tap port, tag of the network", Delivery.PORT, (THIRD,), tag=TagMode.AUTO)
POOL = Way("pool of three tap ports on three bridges", Delivery.PORT, BRIDGES)
KINDS = (Delivery.VXLAN, Delivery.GRE, Delivery.ERSPAN2, Delivery.ERSPAN3, Delivery.GENEVE)
TUNNELS = tuple(
    Way(f"{kind.value} over {version}", kind, addresses=addresses)
    for kind in KINDS
    for version, addresses in (("IPv4", ADDRESS4), ("IPv6", ADDRESS6))
)
VXLAN6 = TUNNELS[1]
SPREAD = Way(
    "vxlan to a pool of three addresses", Delivery.VXLAN,
    addresses=(*ADDRESS4, "192.0.2.10", *ADDRESS6),
)  # fmt: skip
WAYS = (TAP, FAR, FIXED, AUTO, POOL, *TUNNELS, SPREAD)


def wants(wish: Wish, cast: Cast) -> frozenset[Event]:
    """At which of its ports a session wants a packet; nobody hears one that its sender sends
    to itself.
    """
    sends = (
        wish.direction in (Direction.EGRESS, Direction.BOTH)
        and wish.watched is not Watched.RECEIVER
        and wish.wanted in (Wanted.ALL, Wanted.BOTH, Wanted.EGRESS)
    )
    hears = (
        cast is not Cast.HAIRPIN
        and wish.direction in (Direction.INGRESS, Direction.BOTH)
        and wish.watched is not Watched.SENDER
        and wish.wanted in (Wanted.ALL, Wanted.BOTH, Wanted.INGRESS)
    )
    return frozenset({Event.SENT} if sends else ()) | frozenset({Event.HEARD} if hears else ())


def copies_of(wish: Wish, cast: Cast) -> int:
    """One copy, however many of its ports a packet touches, or none."""
    return 1 if wants(wish, cast) else 0


def copies_of_rivals(first: Wish, second: Wish, cast: Cast) -> tuple[int, int]:
    """The copies of two exclusive sessions: the second gets what the first leaves over."""
    left = wants(second, cast) - wants(first, cast)
    return copies_of(first, cast), 1 if left else 0


def length_of_copy(length: int, way: Way, size: Size) -> int | None:
    """Bytes of the original frame that a copy holds; None when there is no copy."""
    match size:
        case Size.SHORTENED:
            return min(length, PACKET_LENGTH)
        case Size.FITTED:
            return min(length, way.limit)
        case Size.SKIPPED:
            return length if length <= way.limit else None
        case _:
            return length
