"""Records of the store, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.model import Collector, CollectorId, Dpid, Filter, Sensor, Session, SessionId
from flows.openflow import NO_PACKETS, PacketCount

WHO = "cloudtap"
"""Who does what nobody asked for at that moment, in audit entries."""


@dataclass(frozen=True, slots=True)
class CollectorRecord:
    """A collector, when it was created (UTC), and the URLs of its sensors' health probes."""

    collector: Collector
    created_at: datetime
    probes: Mapping[Sensor, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """A filter, and when it was created (UTC)."""

    filter: Filter
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Limits:
    """When a session stops by itself (state `stopped`).

    ``max_packets`` and ``max_bytes`` count the copies after the first ``counted_from``.
    """

    expires_at: datetime | None = None
    max_packets: int | None = None
    max_bytes: int | None = None
    counted_from: PacketCount = NO_PACKETS

    @property
    def counts_copies(self) -> bool:
        """Whether checking the limits needs the counters of copies."""
        return self.max_packets is not None or self.max_bytes is not None

    def __bool__(self) -> bool:
        return self.counts_copies or self.expires_at is not None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session and when it was created (UTC).

    ``is_deleting`` marks one that was deleted but whose flows may still be installed. ``stopped``
    is the reason why it stopped, if a limit was reached.
    """

    session: Session
    created_at: datetime
    is_deleting: bool = False
    limits: Limits = Limits()
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The desired state at one moment: live sessions, and those whose flows must be removed.

    ``stopped`` maps sessions that reached a limit to the reason; they are among the live ones, as
    not enabled. ``limits`` are those of running sessions that have any. ``moment`` counts the
    changes of sessions (see Store.changed_between). ``probes`` are URLs like
    ``tcp://192.0.2.9:22`` that check the health of a sensor; two collectors may probe one sensor
    in different ways. ``last_held`` is the number of the last tunnel key that had been given up by
    then (see Store.release_keys).
    """

    collectors: tuple[Collector, ...] = ()
    session_by_id: Mapping[SessionId, Session] = field(default_factory=dict)
    deleting: Mapping[SessionId, Session] = field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    stopped: Mapping[SessionId, str] = field(default_factory=dict)
    limits: Mapping[SessionId, Limits] = field(default_factory=dict)
    moment: int = 0
    probes: Mapping[tuple[CollectorId, Sensor], str] = field(default_factory=dict)
    last_held: int = 0

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The live sessions."""
        return tuple(self.session_by_id.values())


@dataclass(frozen=True, slots=True)
class InterfaceRecord:
    """One interface of a bridge as last seen; ``iface_id`` is from its external_ids (OVSDB).

    Two of one bridge may have one name: a switch may report so, and ports are renamed.
    """

    interface: str
    iface_id: str | None
    ofport: int


@dataclass(frozen=True, slots=True)
class BridgeRecord:
    """A bridge and its interfaces as last seen, and who was seen to speak for it first.

    ``database`` is the target of the database that has it, ``row`` the uuid of its Bridge row there
    (both empty if none has), and ``certificate`` the name in the certificate of its host.
    """

    dpid: Dpid
    name: str
    rows: tuple[InterfaceRecord, ...] = ()
    database: str = ""
    row: str = ""
    certificate: str | None = None


Place = tuple[Dpid, str]
"""Where a port or the end of a link is: a bridge, and the name of an interface of it."""


AuditedAction = Literal[
    "created", "changed", "deleted", "removed", "stopped", "verified", "accepted", "forgotten"
]
"""What an entry of the audit log says was done; ``removed``: the bridges have confirmed it."""
AuditedKind = Literal["session", "filter", "collector", "bridge", "inventory"]
"""The kind of the object that an entry of the audit log is about."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log: when (UTC), who did what to which object, and how."""

    number: int
    at: datetime
    who: str
    what: str
    kind: str
    id: str
    name: str
    tenant: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The client's key of a request to carry out at most once, and a digest of the request."""

    key: str
    digest: str
