"""What is known of sessions and bridges, as values that the API, the CLI and the logs all show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from flows.explain.explain import Explanation
from flows.explain.feed import Feed
from flows.model.session import CollectorId, Dpid, NetworkId, PortId, Sensor, SessionId


class State(Enum):
    """What was verified on the switches of a session, or of one bridge; never what was hoped."""

    PENDING = "pending"
    """Nothing is copied yet: a port, the collector or a bridge is missing, or not verified yet."""
    ACTIVE = "active"
    """Every flow is there: the switch has confirmed it."""
    DEGRADED = "degraded"
    """Some of it works, or it does and gets no packets; the reasons say what does not, and why."""
    INACTIVE = "inactive"
    """Switched off by its owner, or being deleted."""
    STOPPED = "stopped"
    """A limit was reached."""
    ERROR = "error"
    """Refused: the reasons say why, and nothing is copied."""


@dataclass(frozen=True, slots=True)
class Copies:
    """How much was copied, as the switches counted it."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Copies) -> Copies:
        return Copies(self.packets + other.packets, self.bytes + other.bytes)


class Measure(Enum):
    """What is counted of a session on a bridge; the value is how it is stored."""

    WANTED = "wanted"
    """Copies that the session wants, whether they are made or not."""
    TRUNCATED = "truncated"
    """Copies that were cut because their path carries no longer ones."""
    SKIPPED = "skipped"
    """Copies that were left out because their path carries no longer ones."""
    SHED = "shed"
    """Copies that were left out because they exceeded the rate of the session."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What became of wanted copies that were not made, or not whole: packets."""

    truncated: int = 0
    skipped: int = 0
    shed: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.truncated + other.truncated, self.skipped + other.skipped, self.shed + other.shed
        )

    @property
    def by_reason(self) -> Mapping[str, int]:
        """Wanted copies not made, by reason; reasons without any are left out."""
        reasons = {"mtu": self.skipped, "rate": self.shed}
        return {reason: count for reason, count in reasons.items() if count}


@dataclass(frozen=True, slots=True)
class BridgeShare:
    """What one bridge does for one session, and what it has counted of it.

    ``copies``, ``truncated`` and ``skipped`` are its part of those of the session. ``inactive``: it
    has made copies, and makes none now.
    """

    dpid: Dpid
    bridge: str
    state: State
    copies: Copies = Copies()
    truncated: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """The standing of one session; ``skipped`` counts wanted copies not made, by reason.

    ``copies`` were made; ``truncated`` of them were cut to fit their path. All of these are sums of
    what ``bridges`` have counted, those included that make no copies any more.

    ``largest_frame`` is the length of the longest frame whose copy fits the path to its sensors, in
    bytes; None: every frame that production can carry does.
    """

    state: State
    reasons: tuple[str, ...] = ()
    copies: Copies = Copies()
    skipped: Mapping[str, int] = field(default_factory=dict)
    bridges: tuple[BridgeShare, ...] = ()
    largest_frame: int | None = None
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """The standing of one bridge; ``plans`` counts plans applied since it connected, ``shed``
    copies left out because they exceeded the cap of the bridge.
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


@dataclass(frozen=True, slots=True)
class Check:
    """``count`` beacons of ``length`` bytes by each way of copies, or those to one sensor.

    ``run`` is a number of 64 bits that they bear. ``may_be_cut``: they may be longer than what
    fits the path.
    """

    run: int
    count: int
    length: int
    sensor: Sensor | None = None
    may_be_cut: bool = False


@dataclass(frozen=True, slots=True)
class WayChecked:
    """Beacons that one bridge sent to one sensor (network None: for all networks).

    ``counted`` is what the flow that copies has counted meanwhile, real copies included. ``tag``
    and ``length`` are what should arrive; length 0: nothing should.
    """

    dpid: Dpid
    bridge: str
    sensor: Sensor
    position: int
    network: NetworkId | None
    network_number: int
    tag: int | None
    length: int
    sent: int
    counted: int


@dataclass(frozen=True, slots=True)
class PortWitness:
    """What the port that leads to these sensors has sent meanwhile, real copies included."""

    bridge: str
    sensors: tuple[Sensor, ...]
    wanted: int
    sent: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What was sent to check a session, and what switches themselves have seen of it.

    ``left_out`` says in sentences what could not be checked.
    """

    run: int
    ways: tuple[WayChecked, ...]
    witnesses: tuple[PortWitness, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the controller itself is; ``queues`` are lengths by what waits."""

    is_ready: bool
    handler_errors: int = 0
    queues: Mapping[str, int] = field(default_factory=dict)


class Reconciling(Protocol):
    """What the API may ask of the reconciler."""

    def bring(self, timeout_s: float) -> bool:
        """Bring every bridge to the desired state now in the store; wait for its barriers.

        Returns True when every bridge that matters was verified (and its data path has let go of
        what was removed), False when ``timeout_s`` passed or a bridge is not reachable.
        """
        ...

    def session_status(self, session: SessionId) -> SessionStatus:
        """The standing of one session; ``pending`` when nothing is known of it yet."""
        ...

    def bridges(self) -> Sequence[BridgeStatus]:
        """Every bridge that is, or was, connected, or that a port is placed on; by name."""
        ...

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that will not come back: its ports, and which sessions it may be copying.

        What it has counted of sessions stays. Numbers that only it may have used become free: when
        it runs on, other bridges may take its packets for those of another network.

        Raises:
            Refused: it is connected.
            CloudtapError: it cannot be written down; then nothing was forgotten.
        """
        ...

    def flows(self, dpid: Dpid) -> Sequence[str]:
        """The meters and flows that one bridge should have, as text; flows with a reason each."""
        ...

    def place_of(self, port: str) -> tuple[str, int] | None:
        """Where a port is now: bridge name and OpenFlow port number, or None."""
        ...

    def vitals(self) -> Vitals:
        """How the controller itself is."""
        ...

    def explain(self, port: PortId, frame: bytes) -> Explanation:
        """What happens to a frame that a port sends, by the flows that bridges should have.

        Raises:
            Refused: the port is no workload, or is on no bridge now.
            InvalidValue: the frame is shorter than an Ethernet header.
        """
        ...

    def verify(self, session: SessionId, wish: Check) -> Verification:
        """Send beacons by each way of a session's copies.

        Raises:
            Refused: the session is not served now, or too much was asked for.
            CloudtapError: a switch did not do it.
        """
        ...

    def feed(self, collector: CollectorId) -> Feed | None:
        """What the sensors of a collector get; None when it is not known (any more)."""
        ...

    def tag_of(self, network: NetworkId) -> int | None:
        """The 802.1Q tag that copies of a network wear where one is needed, or None."""
        ...

    def problems(self) -> Sequence[str]:
        """What hinders the whole system (inventory, OVSDB, handler errors), one sentence each."""
        ...
