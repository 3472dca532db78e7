"""What the store gives back, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flows.model import Collector, Dpid, Session, SessionId


@dataclass(frozen=True, slots=True)
class CollectorRecord:
    """A collector, and when it was created (UTC)."""

    collector: Collector
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session, when it was created (UTC), and whether it is only waiting to be gone."""

    session: Session
    created_at: datetime
    is_deleting: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """What tenants want, at one moment: live sessions, and those whose flows must go."""

    collectors: tuple[Collector, ...] = ()
    sessions: tuple[Session, ...] = ()
    deleting: tuple[SessionId, ...] = ()


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
