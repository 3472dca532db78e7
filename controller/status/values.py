"""The status of sessions and bridges, as values that the API, the CLI and the logs show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from flows.model import Dpid, Rate
from flows.openflow import PacketCount


class State(Enum):
    """The verified state of a session, or of its part on one bridge."""

    PENDING = "pending"
    """Nothing is copied yet: a port, the collector or a bridge is missing, or not verified yet."""
    ACTIVE = "active"
    """Every flow is installed: the switch has confirmed it."""
    DEGRADED = "degraded"
    """Part of it works, or it works and gets no packets; the reasons say what is missing."""
    INACTIVE = "inactive"
    """Switched off by its owner, or being deleted."""
    STOPPED = "stopped"
    """A limit was reached."""
    ERROR = "error"
    """Refused: the reasons say why, and nothing is copied."""


class Measure(Enum):
    """What is counted of a session on a bridge; the values are stored in the database."""

    MADE = "made"
    """Copies that were made without a tag of ours, as the meter behind their output counts them."""
    TAGGED = "tagged"
    """The same of copies that wear a tag of ours; its bytes are not counted."""
    OWN_TAG = "own_tag"
    """The same of copies without a tag of ours whose frames have one of their own, on the kernel's
    datapath, which does not count it; its bytes are added."""
    FLOWS = "flows"
    """Copies that flows have counted, on a bridge without meters."""
    TRUNCATED = "truncated"
    """Copies that were truncated to the MTU of their path."""
    SKIPPED = "skipped"
    """Copies that were not made because they exceed the MTU of their path."""
    SHED = "shed"
    """Copies that were not made because they exceeded ``max_rate`` of the session."""
    PORT_SHED = "port_shed"
    """Copies that were not made because they exceeded what the tap port sends."""
    LOST = "lost"
    """Copies that were not made because settings or a missing route keep them from sensors."""
    DROPPED = "dropped"
    """Copies that another bridge has made, and that this one has dropped: they were not wanted any
    more, and nobody could tell the other one. So they are not copies, but lost."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Wanted copies that were truncated, or not made, in packets (see Measure)."""

    truncated: int = 0
    skipped: int = 0
    shed: int = 0
    port_shed: int = 0
    lost: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.truncated + other.truncated,
            self.skipped + other.skipped,
            self.shed + other.shed,
            self.port_shed + other.port_shed,
            self.lost + other.lost,
        )

    @property
    def by_reason(self) -> Mapping[str, int]:
        """Wanted copies not made, by reason; zeros are left out."""
        reasons = {
            "mtu": self.skipped, "rate": self.shed, "port_rate": self.port_shed, "path": self.lost
        }  # fmt: skip
        return {reason: count for reason, count in reasons.items() if count}


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A bridge has not told its counters since then; ``why`` is a clause for the operator."""

    since: datetime
    why: str

    def __str__(self) -> str:
        since = self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"since {since} ({self.why})"


@dataclass(frozen=True, slots=True)
class BridgeShare:
    """The part of one bridge in a session: its state and its counters.

    ``copies``, ``truncated`` and ``skipped`` are its part of those of the session. ``inactive``
    means that it has made copies and makes none now.
    """

    dpid: Dpid
    bridge: str
    state: State
    copies: PacketCount = field(default_factory=PacketCount)
    truncated: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """The status of one session.

    ``copies`` were made, ``truncated`` of them were cut to the MTU of their path; ``skipped``
    counts wanted copies that were not made, by reason. They are sums over ``bridges``, including
    those that make no copies any more.

    ``largest_frame`` is the length in bytes of the longest frame whose copy fits the path to the
    sensors; None if every frame of production does. ``port_rate`` is the cap on each bridge that
    keeps its copies below what ports on the way send; None if none is needed. ``unprepared`` are
    the bridges that leave out what they should truncate, for want of a segmenting pair.
    """

    state: State
    reasons: tuple[str, ...] = ()
    copies: PacketCount = field(default_factory=PacketCount)
    skipped: Mapping[str, int] = field(default_factory=dict)
    bridges: tuple[BridgeShare, ...] = ()
    largest_frame: int | None = None
    unprepared: tuple[str, ...] = ()
    truncated: int = 0
    port_rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class PortPlace:
    """Where a port is now: its bridge, by id and name, and its OpenFlow port number."""

    dpid: Dpid
    bridge: str
    ofport: int


@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """The status of one bridge.

    ``plans`` counts the plans applied since it connected, ``shed`` the copies that were not made
    because they exceeded the rate cap of the bridge. ``hosts`` are the names of its host.
    ``counters_age_s`` is how old its last counters are, in seconds; None: it has told none.
    """

    dpid: Dpid
    name: str
    state: State
    reasons: tuple[str, ...] = ()
    connected: bool = False
    ports: int = 0
    flows: int = 0
    plans: int = 0
    errors: int = 0
    shed: int = 0
    hosts: tuple[str, ...] = ()
    counters_age_s: float | None = None
