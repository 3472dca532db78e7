"""The protocols by which the API uses the rest of the controller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from controller.status.left_out import LeftOut
from controller.status.values import BridgeStatus, PortPlace, SessionStatus
from controller.status.verify import Check, Verification
from flows.explain import Explanation, Feed
from flows.model import Collector, CollectorId, Dpid, NetworkId, PortId, Session, SessionId


@dataclass(frozen=True, slots=True)
class Vitals:
    """The health of the controller itself; ``queues`` are queue lengths by what is queued."""

    is_ready: bool
    handler_errors: int = 0
    queues: Mapping[str, int] = field(default_factory=dict)


class Reconciling(Protocol):
    """Actions of the reconciler that the API may request."""

    def moment(self) -> object:
        """The world before a change, for ``sync``; at once, whatever bridges do."""
        ...

    def expecting(self, collector: Collector) -> AbstractContextManager[None]:
        """Inside, bridges have the tunnel ports for a collector, as far as they come in 2 seconds.

        Whoever gives a live session this collector, or these sensors, does that and ``sync``
        inside: else packets would go without a copy while the ports are being made.
        """
        ...

    def mirroring(self, session: Session) -> AbstractContextManager[None]:
        """Inside, bridges of others have the Mirrors for a session, as far as they come in 2
        seconds.

        Whoever makes this of a live session does that and ``sync`` inside: else packets would go
        without a copy while the Mirrors are being made.
        """
        ...

    def sync(self, timeout_s: float, since: object = None, ending: SessionId | None = None) -> bool:
        """Bring every bridge to the desired state that is now in the store; wait for its barriers.

        It waits only for bridges that are ours and whose flows may differ by what has changed
        since ``since``, a ``moment``; without one, by anything that they have not confirmed. True
        if every such bridge was verified and its datapath no longer uses megaflows of removed
        flows; False if ``timeout_s`` passed or a bridge is not reachable. ``ending`` is a deleted
        session: it waits as well until no connected bridge makes copies of it, whatever else these
        have to do meanwhile.
        """
        ...

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that was removed: its ports, and the sessions that it may be copying.

        Its counters of sessions are kept. Numbers that only it may have used become free: if it is
        still running, other bridges may take its packets for those of another network.

        Raises:
            Refused: it is connected.
            CloudtapError: it cannot be stored; then nothing was forgotten.
        """
        ...


class Inspecting(Protocol):
    """Answers for the API, computed from what switches have confirmed."""

    def session_status(self, session: SessionId) -> SessionStatus:
        """The status of one session; ``pending`` if nothing is known of it yet."""
        ...

    def session_statuses(self, sessions: Iterable[SessionId]) -> Iterator[SessionStatus]:
        """The status of each of many sessions, in their order, computed one after the other.

        Much cheaper than to ask for each of them alone: every bridge is looked at once.
        """
        ...

    def bridges(self) -> Sequence[BridgeStatus]:
        """The status of every bridge that is or was connected, or has a placed port; by name."""
        ...

    def flows(self, dpid: Dpid) -> Sequence[str]:
        """The desired meters and flows of one bridge, as text; flows with their reasons."""
        ...

    def places_of(self, ports: Iterable[str]) -> Mapping[str, PortPlace]:
        """Where ports are at one moment; those that are nowhere are left out."""
        ...

    def left_out(self, most: int) -> LeftOut:
        """Interfaces that are in no inventory, where others are, and those that are not open.

        So many of each are described at most.
        """
        ...

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        """Why each of these ports is on no bridge, a sentence that says what was looked for."""
        ...

    def vitals(self) -> Vitals:
        """The health of the controller itself."""
        ...

    def explain(self, port: PortId, frame: bytes) -> Explanation:
        """What happens to a frame that a port sends, according to the desired flows of bridges.

        Raises:
            Refused: the port is not a workload, or is not placed now.
            InvalidValue: the frame is shorter than an Ethernet header.
        """
        ...

    def verify(self, session: SessionId, check: Check) -> Verification:
        """Send beacons on each copy path of a session.

        Raises:
            Refused: the session is not served now, or the check is too large.
            CloudtapError: a switch did not send them.
        """
        ...

    def feed(self, collector: CollectorId) -> Feed | None:
        """What the sensors of a collector receive; None if there is no such collector."""
        ...

    def sensor_notes(self, collector: Collector) -> Sequence[str]:
        """What is known of the tap ports of a collector that matters to copies, a sentence each."""
        ...

    def tags_of(self, networks: Iterable[NetworkId]) -> Mapping[NetworkId, int]:
        """The 802.1Q tags of copies of networks, for collectors that need one."""
        ...

    def problems(self) -> Sequence[str]:
        """Problems of the whole system (inventory, OVSDB, handler errors), a sentence each."""
        ...
