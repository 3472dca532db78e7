"""What the store gives back, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flows.model.filter import Filter
from flows.model.session import Collector, CollectorId, Dpid, Sensor, Session, SessionId


@dataclass(frozen=True, slots=True)
class CollectorRecord:
    """A collector, when it was created (UTC), and how to ask its sensors whether they are well."""

    collector: Collector
    created_at: datetime
    probes: Mapping[Sensor, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """A filter, and when it was created (UTC)."""

    filter: Filter
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """Copies, in packets and bytes."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a session stops by itself.

    ``max_packets`` and ``max_bytes`` count the copies after the first ``counted_from``.
    """

    expires_at: datetime | None = None
    max_packets: int | None = None
    max_bytes: int | None = None
    counted_from: Counted = Counted()

    @property
    def counts_copies(self) -> bool:
        """Whether the copies must be counted to know."""
        return self.max_packets is not None or self.max_bytes is not None

    def __bool__(self) -> bool:
        return self.counts_copies or self.expires_at is not None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session, when it was created (UTC), and whether it is only waiting to be gone.

    ``stopped`` is the reason why it is stopped, if a limit was reached.
    """

    session: Session
    created_at: datetime
    is_deleting: bool = False
    limits: Limits = Limits()
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """What tenants want, at one moment: live sessions, and those whose flows must go.

    ``stopped`` says of sessions that reached a limit why; they are among the live ones, switched
    off. ``limits`` are those of running sessions that have any. ``moment`` counts the changes of
    sessions (see SessionMemory.changed_between). ``probes`` are URLs like ``tcp://192.0.2.9:22``
    that tell whether a sensor is well; collectors may differ about one.
    """

    collectors: tuple[Collector, ...] = ()
    session_by_id: Mapping[SessionId, Session] = field(default_factory=dict)
    deleting: tuple[SessionId, ...] = ()
    filters: tuple[Filter, ...] = ()
    stopped: Mapping[SessionId, str] = field(default_factory=dict)
    limits: Mapping[SessionId, Limits] = field(default_factory=dict)
    moment: int = 0
    probes: Mapping[tuple[CollectorId, Sensor], str] = field(default_factory=dict)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The live sessions."""
        return tuple(self.session_by_id.values())


@dataclass(frozen=True, slots=True, order=True)
class InterfaceRow:
    """One interface of a bridge as it was last seen; ``iface_id`` comes from OVSDB."""

    interface: str
    iface_id: str | None
    ofport: int


@dataclass(frozen=True, slots=True)
class BridgeRecord:
    """A bridge as it was last seen."""

    dpid: Dpid
    name: str
    rows: tuple[InterfaceRow, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: when (UTC), who did what to which object, and how."""

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
class OnceKey:
    """A request that must count once: the client's key, and a digest of what it asked for."""

    key: str
    digest: str
