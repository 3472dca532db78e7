"""The cells of the matrix, and how many copies each must give, counted by rules of its own.

Nothing here uses flows/semantics/meaning.py or the compiler: the counts are what a reader of the
contract would work out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import product

from flows.model import Delivery, Direction, Dpid, TagMode
from tests.generators.random_worlds import BRIDGES


class Cast(Enum):
    """The destination of a packet."""

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
    """Which packets the session's filter accepts."""

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
    """What a port does with a packet."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True)
class Request:
    """What one session requests."""

    direction: Direction
    watched: Watched
    wanted: Wanted


@dataclass(frozen=True)
class SensorPath:
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
        """The path MTU of the collector on a tight path; None: that of the hosts."""
        return None if self.addresses == ADDRESS6 else TIGHT_MTU

    @property
    def limit(self) -> int:
        """Bytes of the longest frame whose copy fits a tight path."""
        versions = [6 if ":" in address else 4 for address in self.addresses]
        return (self.path_mtu or HOST_MTU) - max(OVERHEAD[self.delivery, v] for v in versions)


DIRECTIONS = (Direction.EGRESS, Direction.INGRESS, Direction.BOTH)
REQUESTS = tuple(Request(*each) for each in product(DIRECTIONS, Watched, Wanted))
ENDS = tuple(request for request in REQUESTS if request.watched is not Watched.NETWORK)
"""The requests of competing sessions: they watch one end, or both."""

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

TAP = SensorPath("tap port", Delivery.PORT, (FIRST,))
FAR = SensorPath("tap port on a third bridge", Delivery.PORT, (THIRD,))
FIXED = SensorPath("tap port, tag 77", Delivery.PORT, (SECOND,), tag=FIXED_TAG)
AUTO = SensorPath("tap port, tag of the network", Delivery.PORT, (THIRD,), tag=TagMode.AUTO)
POOL = SensorPath("pool of three tap ports on three bridges", Delivery.PORT, BRIDGES)
KINDS = (Delivery.VXLAN, Delivery.GRE, Delivery.ERSPAN2, Delivery.ERSPAN3, Delivery.GENEVE)
TUNNELS = tuple(
    SensorPath(f"{kind.value} over {version}", kind, addresses=addresses)
    for kind in KINDS
    for version, addresses in (("IPv4", ADDRESS4), ("IPv6", ADDRESS6))
)
VXLAN6 = TUNNELS[1]
SPREAD = SensorPath(
    "vxlan to a pool of three addresses", Delivery.VXLAN,
    addresses=(*ADDRESS4, "192.0.2.10", *ADDRESS6),
)  # fmt: skip
PATHS = (TAP, FAR, FIXED, AUTO, POOL, *TUNNELS, SPREAD)


def wants(request: Request, cast: Cast) -> frozenset[Event]:
    """At which of its ports a session wants a packet.

    No port receives a packet that its sender sends to itself.
    """
    sends = (
        request.direction in (Direction.EGRESS, Direction.BOTH)
        and request.watched is not Watched.RECEIVER
        and request.wanted in (Wanted.ALL, Wanted.BOTH, Wanted.EGRESS)
    )
    receives = (
        cast is not Cast.HAIRPIN
        and request.direction in (Direction.INGRESS, Direction.BOTH)
        and request.watched is not Watched.SENDER
        and request.wanted in (Wanted.ALL, Wanted.BOTH, Wanted.INGRESS)
    )
    return frozenset({Event.SENT} if sends else ()) | frozenset(
        {Event.RECEIVED} if receives else ()
    )


def copies_of(request: Request, cast: Cast) -> int:
    """One copy, however many of its ports send or receive the packet, or none."""
    return 1 if wants(request, cast) else 0


def copies_of_rivals(first: Request, second: Request, cast: Cast) -> tuple[int, int]:
    """The copies of two exclusive sessions: the second gets what the first does not take."""
    left = wants(second, cast) - wants(first, cast)
    return copies_of(first, cast), 1 if left else 0


def length_of_copy(length: int, path: SensorPath, size: Size) -> int | None:
    """Bytes of the original frame that a copy holds; None when there is no copy."""
    match size:
        case Size.SHORTENED:
            return min(length, PACKET_LENGTH)
        case Size.FITTED:
            return min(length, path.limit)
        case Size.SKIPPED:
            return length if length <= path.limit else None
        case _:
            return length
