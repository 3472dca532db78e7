"""From the body of a request to a session: names become ids, limits and tenancy are checked."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from datetime import datetime

from controller.api.context import Context
from controller.api.lookup import OwnObjects, find_filter, find_own, tenant_of
from controller.api.problems import unprocessable
from controller.api.schemas import RateIn, SessionIn, SessionPatch, SourceIn
from controller.inventory import Inventory
from controller.store import Limits, SessionRecord
from flows.model import (
    ALL,
    Collector,
    Direction,
    Filter,
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
    check_session,
)
from flows.openflow import PacketCount

_LIMITS = frozenset({"expires_at", "max_packets", "max_bytes"})


def new_session(body: SessionIn, parts: Context) -> tuple[Session, Limits]:
    """The session that a body asks for, and its limits.

    Raises:
        ApiProblem: an object that it names does not exist, or expires_at is in the past.
        Refused: it would show one tenant a packet of another.
    """
    inventory = parts.inventory()
    tenant = tenant_of(body.tenant, inventory)
    collectors = [record.collector for record in parts.store.collectors.all()]
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
    _check_future(limits, parts.now())
    _check(session, inventory, collectors, chosen)
    return session, limits


class SessionChange:
    """The change that a PATCH asks for; the constructor looks up everything that it names.

    Raises (when called):
        ApiProblem: the session would run again although expires_at is in the past.
        Refused: it would show one tenant a packet of another.
    """

    def __init__(self, body: SessionPatch, parts: Context, old: Session) -> None:
        self._given = body.model_fields_set
        self._body, self._now = body, parts.now()
        self._inventory = parts.inventory()
        self._collectors = [record.collector for record in parts.store.collectors.all()]
        self._filter: Filter | None = None
        self._values: dict[str, object] = {}
        self._counted = PacketCount()
        if self._given & {"enabled", *_LIMITS}:
            self._counted = parts.inspector.session_status(old.id).copies
        self._look_up(old.tenant)

    @property
    def tunnelled(self) -> Collector | None:
        """The collector that the session gets, if it is another one and needs tunnels."""
        key = self._values.get("collector")
        found = next((each for each in self._collectors if each.id == key), None)
        return found if found is not None and found.is_tunnelled else None

    def __call__(self, old: SessionRecord) -> SessionRecord:
        """The changed session."""
        session = dataclasses.replace(old.session, **self._values)  # type: ignore[arg-type]
        limits, stopped = self._limits(old.limits), old.stopped
        has_limits = bool(self._given & _LIMITS)
        if session.enabled and (has_limits or "enabled" in self._given):
            _check_future(limits, self._now)
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
        names = self._given & _LIMITS
        new = {name: getattr(self._body, name) for name in names}
        return dataclasses.replace(old, **new)


def show_time(time: datetime | None) -> str | None:
    """A time (UTC) in the format of requests (RFC 3339)."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _source(body: SourceIn, tenant: TenantName, inventory: Inventory) -> Source:
    kind = SourceKind(body.kind)
    match kind:
        case SourceKind.PORT:
            known = OwnObjects("port", inventory.ports, tenant)
            ports = [
                known.find(ref, f"source.ports.{index}")
                for index, ref in enumerate(body.ports or ())
            ]
            return Source(tuple(PortId(port.id) for port in ports))
        case SourceKind.NETWORK:
            all_networks = OwnObjects("network", inventory.networks, tenant)
            networks = [
                all_networks.find(ref, f"source.networks.{index}")
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


def _check_future(limits: Limits, now: datetime) -> None:
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
