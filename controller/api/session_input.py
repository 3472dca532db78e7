"""From the body of a request to a session: names found, limits checked, tenancy asked."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from datetime import datetime

from controller.api.schemas.request_bodies import RateIn, SessionIn, SessionPatch, SourceIn
from controller.api.context import Context, find_own, tenant_of
from controller.api.v1.filters import find_filter
from controller.api.problems import unprocessable
from controller.inventory.file import Inventory
from controller.store import Counted, Limits, SessionRecord
from flows.model.filter import Filter
from flows.model.session import (
    ALL,
    Collector,
    Direction,
    Mode,
    NetworkId,
    Oversize,
    PortId,
    Rate,
    RateUnit,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
)
from flows.model.tenancy import check_session


def new_session(body: SessionIn, parts: Context) -> tuple[Session, Limits]:
    """The session that a body asks for, and when it stops by itself.

    Raises:
        ApiProblem: something that it names is not there, or its time is over.
        Refused: it would show one tenant a packet of another.
    """
    inventory = parts.inventory()
    tenant = tenant_of(body.tenant, inventory)
    collectors = [record.collector for record in parts.store.collectors()]
    source = _source(body.source, tenant, inventory)
    collector = find_own("collector", collectors, body.collector, tenant, "collector")
    chosen = find_filter(body.filter, tenant)
    session = Session(
        id=SessionId(str(uuid.uuid4())),
        name=body.name,
        tenant=tenant,
        source=source,
        collector=collector.id,
        direction=Direction(body.direction),
        number=body.number,
        enabled=body.enabled,
        filter=ALL if chosen is None else chosen.id,
        packet_length=body.packet_length,
        oversize=Oversize(body.oversize),
        max_rate=_rate(body.max_rate),
        mode=Mode(body.mode),
    )
    limits = Limits(body.expires_at, body.max_packets, body.max_bytes)
    _refuse_past(limits, parts.now())
    _check(session, inventory, collectors, chosen)
    return session, limits


class Change:
    """What a PATCH makes of a session; everything it names was looked up before.

    Raises (when called):
        ApiProblem: it would run again although its time is over.
        Refused: it would show one tenant a packet of another.
    """

    def __init__(self, body: SessionPatch, parts: Context, old: Session) -> None:
        self._given = body.model_fields_set
        self._body, self._now = body, parts.now()
        self._inventory = parts.inventory()
        self._collectors = [record.collector for record in parts.store.collectors()]
        self._filter: Filter | None = None
        self._values: dict[str, object] = {}
        self._counted = Counted()
        if self._given & {"enabled", "expires_at", "max_packets", "max_bytes"}:
            copies = parts.reconcile.session_status(old.id).copies
            self._counted = Counted(copies.packets, copies.bytes)
        self._look_up(old.tenant)

    def __call__(self, old: SessionRecord) -> SessionRecord:
        """The changed session."""
        session = dataclasses.replace(old.session, **self._values)  # type: ignore[arg-type]
        limits, stopped = self._limits(old.limits), old.stopped
        is_asked = bool(self._given & {"expires_at", "max_packets", "max_bytes"})
        if session.enabled and (is_asked or "enabled" in self._given):
            _refuse_past(limits, self._now)
            if stopped is not None:
                limits, stopped = dataclasses.replace(limits, counted_from=self._counted), None
        _check(session, self._inventory, self._collectors, self._filter)
        return dataclasses.replace(old, session=session, limits=limits, stopped=stopped)

    def _look_up(self, tenant: TenantName) -> None:
        body, values = self._body, self._values
        for key in self._given & {"name", "number", "enabled", "packet_length"}:
            values[key] = getattr(body, key)
        if body.direction is not None:
            values["direction"] = Direction(body.direction)
        if body.oversize is not None:
            values["oversize"] = Oversize(body.oversize)
        if "max_rate" in self._given:
            values["max_rate"] = _rate(body.max_rate)
        if body.mode is not None:
            values["mode"] = Mode(body.mode)
        if body.source is not None:
            values["source"] = _source(body.source, tenant, self._inventory)
        if body.collector is not None:
            found = find_own("collector", self._collectors, body.collector, tenant, "collector")
            values["collector"] = found.id
        if body.filter is not None:
            self._filter = find_filter(body.filter, tenant)
            values["filter"] = ALL if self._filter is None else self._filter.id

    def _limits(self, old: Limits) -> Limits:
        names = self._given & {"expires_at", "max_packets", "max_bytes"}
        new = {name: getattr(self._body, name) for name in names}
        return dataclasses.replace(old, **new)


def show_time(time: datetime | None) -> str | None:
    """A time (UTC) as requests write it."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _source(body: SourceIn, tenant: TenantName, inventory: Inventory) -> Source:
    kind = SourceKind(body.kind)
    match kind:
        case SourceKind.PORT:
            ports = [
                find_own("port", inventory.ports, ref, tenant, f"source.ports.{index}")
                for index, ref in enumerate(body.ports or ())
            ]
            return Source(tuple(PortId(port.id) for port in ports))
        case SourceKind.NETWORK:
            networks = [
                find_own("network", inventory.networks, ref, tenant, f"source.networks.{index}")
                for index, ref in enumerate(body.networks or ())
            ]
            return Source(kind=kind, networks=tuple(NetworkId(n.id) for n in networks))
        case SourceKind.LABEL:
            return Source(kind=kind, labels=tuple(sorted((body.labels or {}).items())))
        case SourceKind.TENANT:
            return Source(kind=kind)


def _rate(body: RateIn | None) -> Rate | None:
    if body is None:
        return None
    if body.kbps is not None:
        return Rate(RateUnit.KBPS, body.kbps)
    return Rate(RateUnit.PPS, body.pps or 0)


def _refuse_past(limits: Limits, now: datetime) -> None:
    if limits.expires_at is not None and limits.expires_at <= now:
        raise unprocessable(
            "invalid-value",
            f"expires_at {show_time(limits.expires_at)} is not in the future: it is "
            f"{show_time(now.replace(microsecond=0))} now; give a later time, or null",
            "expires_at",
        )


def _check(
    session: Session,
    inventory: Inventory,
    collectors: Sequence[Collector],
    chosen: Filter | None,
) -> None:
    check_session(
        session,
        {port.id: port for port in inventory.ports},
        {collector.id: collector for collector in collectors},
        {} if chosen is None else {chosen.id: chosen},
        {network.id: network for network in inventory.networks},
    )
