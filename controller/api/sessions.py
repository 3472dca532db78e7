"""/v1/sessions: what tenants want copied, and whether it is."""

from __future__ import annotations

import dataclasses
import uuid
from http import HTTPStatus

from flask import Response

from controller.api.answers import (
    BridgeShareOut,
    CopiesOut,
    SessionOut,
    SessionPage,
    SourceOut,
    StatusOut,
    TrialOut,
)
from controller.api.context import (
    BRING_S,
    Context,
    answer,
    context,
    find,
    find_port,
    part,
    resource,
    tenant_of,
    who,
)
from controller.api.once import create_once
from controller.api.problems import not_found
from controller.api.requests import (
    CreateQuery,
    OneQuery,
    Path,
    SessionIn,
    SessionList,
    SessionPatch,
    SourceIn,
    TryQuery,
)
from controller.inventory import Inventory
from controller.status import SessionStatus, State
from controller.store import OnceKey, SessionRecord
from flows.model import Collector, Direction, Port, Session, SessionId, Source, TenantName
from flows.tenancy import check_session

sessions = resource("sessions", "Which packets are copied, and where to.")


class Shower:
    """Shows sessions with names in place of ids; built once for a whole list."""

    def __init__(self, parts: Context) -> None:
        inventory = parts.inventory()
        self._parts = parts
        self._ports = {port.id: port for port in inventory.ports}
        self._collectors = {r.collector.id: r.collector for r in parts.store.collectors()}
        self._bridges = parts.reconcile.bridges()

    def show(self, record: SessionRecord) -> SessionOut:
        """One session as an answer."""
        session = record.session
        collector = self._collectors.get(session.collector)
        ports = list(session.source.ports)
        return SessionOut(
            id=session.id,
            name=session.name,
            tenant=session.tenant,
            source=SourceOut(ports=[self._port_name(p) for p in ports], port_ids=list(ports)),
            direction=session.direction.value,
            collector=collector.name if collector else session.collector,
            collector_id=session.collector,
            number=session.number,
            enabled=session.enabled,
            created_at=record.created_at.isoformat(),
            status=self._status(record),
        )

    def _port_name(self, port: str) -> str:
        found = self._ports.get(port)  # type: ignore[call-overload]
        return found.name if found else port

    def _status(self, record: SessionRecord) -> StatusOut:
        status = self._parts.reconcile.session_status(record.session.id)
        if record.is_deleting:
            status = dataclasses.replace(
                status, state=State.INACTIVE, reasons=self._why_still_here(status)
            )
        return StatusOut(
            state=status.state.value,
            reasons=list(status.reasons),
            copies=CopiesOut(packets=status.copies.packets, bytes=status.copies.bytes),
            skipped=dict(status.skipped),
            bridges=[BridgeShareOut(bridge=b.bridge, state=b.state.value) for b in status.bridges],
        )

    def _why_still_here(self, status: SessionStatus) -> tuple[str, ...]:
        mine = {share.bridge for share in status.bridges}
        away = [b.name for b in self._bridges if not b.connected and (not mine or b.name in mine)]
        if not away:
            return ("being deleted: its bridges have not confirmed yet that its flows are gone",)
        return tuple(f"being deleted: bridge {name!r} is not reachable" for name in away)


@sessions.get("", responses={200: SessionPage})
def list_sessions(query: SessionList) -> Response:
    """List sessions"""
    parts = context()
    shower = Shower(parts)
    records = [r for r in parts.store.sessions() if _is_wanted(r.session, query)]
    shown = [shower.show(record) for record in records]
    shown = [s for s in shown if query.state in (None, s.status.state)]
    shown = [s for s in shown if query.collector in (None, s.collector, s.collector_id)]
    if query.port is not None:
        shown = [s for s in shown if query.port in (*s.source.ports, *s.source.port_ids)]
    items, following = part(shown, query, lambda s: s.id)
    return answer(SessionPage(items=items, next=following))


@sessions.post("", responses={201: SessionOut})
def create_session(body: SessionIn, query: CreateQuery) -> Response:
    """Create a session

    The answer comes when the switches have confirmed it, or after 10 seconds: its status tells.
    """
    parts = context()
    if query.dry_run:
        session = _new_session(body, parts)
        parts.store.try_session(session)
        return answer(TrialOut(would="create", name=session.name, tenant=session.tenant))

    def make(once: OnceKey | None) -> str:
        session = _new_session(body, parts)
        parts.store.add_session(session, who(), once)
        parts.reconcile.bring(BRING_S)
        return session.id

    return create_once(make, _show)


@sessions.get("/<ref>", responses={200: SessionOut})
def show_session(path: Path, query: OneQuery) -> Response:
    """Show a session"""
    return answer(Shower(context()).show(_find(path.ref, query.tenant)))


@sessions.patch("/<ref>", responses={200: SessionOut})
def change_session(path: Path, query: OneQuery, body: SessionPatch) -> Response:
    """Change a session"""
    parts = context()
    key = _find(path.ref, query.tenant).session.id

    def change(old: SessionRecord) -> SessionRecord:
        new = _changed(old.session, body, parts.inventory(), collectors)
        return dataclasses.replace(old, session=new)

    # read before the change begins: the store lets nobody else in while it lasts
    collectors = [record.collector for record in parts.store.collectors()]
    parts.store.change_session(key, change, who())
    parts.reconcile.bring(BRING_S)
    return answer(_show(key))


@sessions.delete("/<ref>", responses={204: None, 202: SessionOut})
def delete_session(path: Path, query: TryQuery) -> Response:
    """Delete a session

    204: its flows are gone, as the switches have confirmed. 202: a bridge cannot be asked now;
    the session is listed as inactive until it is gone from there too.
    """
    parts = context()
    session = _find(path.ref, query.tenant).session
    if query.dry_run:
        return answer(TrialOut(would="delete", name=session.name, tenant=session.tenant))
    parts.store.delete_session(session.id, who())
    if parts.reconcile.bring(BRING_S):
        parts.store.finish_deletions([session.id])
    left = [r for r in parts.store.sessions() if r.session.id == session.id]
    if not left:
        return Response(status=HTTPStatus.NO_CONTENT)
    return answer(Shower(parts).show(left[0]), HTTPStatus.ACCEPTED)


def _find(ref: str, tenant: str | None) -> SessionRecord:
    """A session by id or name; a name means the live one before one that is being deleted."""
    records = {record.session.id: record for record in context().store.sessions()}
    if ref in records and tenant in (None, records[SessionId(ref)].session.tenant):
        return records[SessionId(ref)]
    live = [r.session for r in records.values() if not r.is_deleting]
    going = [r.session for r in records.values() if r.is_deleting]
    is_live = any(s.name == ref and tenant in (None, s.tenant) for s in live)
    return records[find("session", live if is_live else going, ref, tenant).id]


def _show(session: str) -> SessionOut:
    parts = context()
    for record in parts.store.sessions():
        if record.session.id == session:
            return Shower(parts).show(record)
    raise not_found("session", session)


def _is_wanted(session: Session, query: SessionList) -> bool:
    return (
        query.tenant in (None, session.tenant)
        and query.name in (None, session.name)
        and query.enabled in (None, session.enabled)
        and query.direction in (None, session.direction.value)
    )


def _new_session(body: SessionIn, parts: Context) -> Session:
    inventory = parts.inventory()
    collectors = [record.collector for record in parts.store.collectors()]
    tenant = tenant_of(body.tenant, inventory)
    session = Session(
        id=SessionId(str(uuid.uuid4())),
        name=body.name,
        tenant=tenant,
        source=_source(body.source, tenant, inventory),
        collector=_collector(body.collector, tenant, collectors).id,
        direction=Direction(body.direction),
        number=body.number,
        enabled=body.enabled,
    )
    _check(session, inventory, collectors)
    return session


def _changed(
    old: Session, body: SessionPatch, inventory: Inventory, collectors: list[Collector]
) -> Session:
    new = old
    if body.source is not None:
        new = dataclasses.replace(new, source=_source(body.source, old.tenant, inventory))
    if body.collector is not None:
        key = _collector(body.collector, old.tenant, collectors).id
        new = dataclasses.replace(new, collector=key)
    if body.direction is not None:
        new = dataclasses.replace(new, direction=Direction(body.direction))
    if body.name is not None:
        new = dataclasses.replace(new, name=body.name)
    if body.number is not None:
        new = dataclasses.replace(new, number=body.number)
    if body.enabled is not None:
        new = dataclasses.replace(new, enabled=body.enabled)
    _check(new, inventory, collectors)
    return new


def _source(body: SourceIn, tenant: TenantName, inventory: Inventory) -> Source:
    found: list[Port] = []
    for index, ref in enumerate(body.ports):
        found.append(find_port(ref, tenant, inventory, f"source.ports.{index}"))
    return Source(tuple(port.id for port in found))


def _collector(ref: str, tenant: TenantName, collectors: list[Collector]) -> Collector:
    """The tenant's own, by id or name, or any other by id, for flows.tenancy to refuse it."""
    mine = [c for c in collectors if c.tenant == tenant and ref in (c.id, c.name)]
    others = [c for c in collectors if c.tenant != tenant and c.id == ref]
    if others and not mine:
        return others[0]
    return find("collector", mine, ref, tenant, "collector")


def _check(session: Session, inventory: Inventory, collectors: list[Collector]) -> None:
    check_session(
        session,
        {port.id: port for port in inventory.ports},
        {collector.id: collector for collector in collectors},
    )
