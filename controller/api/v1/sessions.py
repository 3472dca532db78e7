"""/v1/sessions: what tenants want copied, and whether it is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from http import HTTPStatus

from flask import Response

from controller.api.schemas.responses import (
    BridgeShareOut,
    CopiesOut,
    SessionOut,
    SessionPage,
    SourceOut,
    StatusOut,
    TrialOut,
)
from controller.api.schemas.request_bodies import SessionIn, SessionPatch
from controller.api.context import (
    BRING_S,
    Context,
    answer,
    context,
    find,
    part,
    resource,
    who,
)
from controller.api.v1.filters import ALL_ID
from controller.api.idempotency import create_once
from controller.api.problems import not_found
from controller.api.schemas.parameters import (
    CreateQuery,
    OneQuery,
    Path,
    SessionList,
    TryQuery,
)
from controller.api.sensor_input import sensor_words
from controller.api.session_input import Change, new_session, show_time
from controller.status.values import BridgeShare, Copies, SessionStatus, State
from controller.store import OnceKey, SessionRecord
from flows.model.session import ALL, Collector, FilterId, Session, SessionId, Source

sessions = resource("sessions", "Which packets are copied, and where to.")


class Shower:
    """Shows sessions with names in place of ids; built once for a whole list."""

    def __init__(self, parts: Context) -> None:
        inventory = parts.inventory()
        self._parts = parts
        self._ports = {port.id: port for port in inventory.ports}
        self._networks = {network.id: network for network in inventory.networks}
        self._filters = {r.filter.id: r.filter for r in parts.store.filters.all()}
        self._collectors = {r.collector.id: r.collector for r in parts.store.collectors()}

    def show(self, record: SessionRecord) -> SessionOut:
        """One session as an answer; before it, whoever waits has their turn."""
        time.sleep(0)
        session = record.session
        collector = self._collectors.get(session.collector)
        limits, rate = record.limits, session.max_rate
        return SessionOut(
            id=session.id,
            name=session.name,
            tenant=session.tenant,
            source=self._source(session.source),
            direction=session.direction.value,
            filter=self._filter_name(session.filter),
            filter_id=_filter_id(session.filter),
            collector=collector.name if collector else session.collector,
            collector_id=session.collector,
            sensors=self._sensors(collector),
            mode=session.mode.value,
            number=session.number,
            packet_length=session.packet_length,
            oversize=session.oversize.value,
            max_rate=None if rate is None else {rate.unit.value: rate.value},
            expires_at=show_time(limits.expires_at),
            max_packets=limits.max_packets,
            max_bytes=limits.max_bytes,
            enabled=session.enabled,
            created_at=record.created_at.isoformat(),
            status=self._status(record),
        )

    def is_wanted(self, session: Session, query: SessionList) -> bool:
        """Whether a list asks for a session, whatever its state is."""
        collector, source = self._collectors.get(session.collector), session.source
        filters = (self._filter_name(session.filter), _filter_id(session.filter))
        ports = (*source.ports, *(self._ports[p].name for p in source.ports if p in self._ports))
        return (
            query.tenant in (None, session.tenant)
            and query.name in (None, session.name)
            and query.enabled in (None, session.enabled)
            and query.direction in (None, session.direction.value)
            and query.mode in (None, session.mode.value)
            and query.collector in (None, session.collector, collector and collector.name)
            and query.filter in (None, *filters)
            and (query.port is None or query.port in ports)
        )

    def _source(self, source: Source) -> SourceOut:
        ports, networks = list(source.ports), list(source.networks)
        return SourceOut(
            kind=source.kind.value,
            ports=[self._ports[p].name if p in self._ports else p for p in ports],
            port_ids=list(ports),
            networks=[self._networks[n].name if n in self._networks else n for n in networks],
            network_ids=list(networks),
            labels=dict(source.labels),
        )

    def _sensors(self, collector: Collector | None) -> list[str]:
        if collector is None:
            return []
        names = {p: self._ports[p].name for p in collector.tap_ports if p in self._ports}
        return [sensor_words(collector, sensor, names) for sensor in collector.sensors]

    def _filter_name(self, wanted: FilterId) -> str:
        found = self._filters.get(wanted)
        return found.name if found else wanted

    def _status(self, record: SessionRecord) -> StatusOut:
        status = self._parts.reconcile.session_status(record.session.id)
        if record.is_deleting:
            status = dataclasses.replace(
                status, state=State.INACTIVE, reasons=self._why_still_here(status)
            )
        return StatusOut(
            state=status.state.value,
            reasons=list(status.reasons),
            copies=_copies(status.copies),
            truncated=status.truncated,
            skipped=dict(status.skipped),
            largest_frame=status.largest_frame,
            bridges=[_share(share) for share in status.bridges],
        )

    def _why_still_here(self, status: SessionStatus) -> tuple[str, ...]:
        mine = {share.dpid for share in status.bridges if share.state is not State.INACTIVE}
        bridges = self._parts.reconcile.bridges()
        away = [b.name for b in bridges if not b.connected and (not mine or b.dpid in mine)]
        if not away:
            return ("being deleted: its bridges have not confirmed yet that its flows are gone",)
        return tuple(f"being deleted: bridge {name!r} is not reachable" for name in away)


@sessions.get("", responses={200: SessionPage})
def list_sessions(query: SessionList) -> Response:
    """List sessions"""
    parts = context()
    shower = Shower(parts)
    records = [r for r in parts.store.sessions() if shower.is_wanted(r.session, query)]
    if query.state is None:
        chosen, following = part(records, query, _id)
        return answer(SessionPage(items=[shower.show(r) for r in chosen], next=following))
    items, following = _in_state(query.state, shower, records, query)
    return answer(SessionPage(items=items, next=following))


@sessions.post("", responses={201: SessionOut})
def create_session(body: SessionIn, query: CreateQuery) -> Response:
    """Create a session

    The answer comes when the switches have confirmed it, or after 10 seconds: its status tells.
    """
    parts = context()
    if query.dry_run:
        session, _ = new_session(body, parts)
        parts.store.try_session(session)
        return answer(TrialOut(would="create", name=session.name, tenant=session.tenant))

    def make(once: OnceKey | None) -> str:
        session, limits = new_session(body, parts)
        parts.store.add_session(session, who(), once, limits)
        parts.reconcile.bring(BRING_S)
        return session.id

    return create_once(make, _show)


@sessions.get("/<ref>", responses={200: SessionOut})
def show_session(path: Path, query: OneQuery) -> Response:
    """Show a session"""
    return answer(Shower(context()).show(find_session(path.ref, query.tenant)))


@sessions.patch("/<ref>", responses={200: SessionOut})
def change_session(path: Path, query: OneQuery, body: SessionPatch) -> Response:
    """Change a session"""
    parts = context()
    old = find_session(path.ref, query.tenant).session
    # read before the change begins: the store lets nobody else in while it lasts
    change = Change(body, parts, old)
    parts.store.change_session(old.id, change, who())
    parts.reconcile.bring(BRING_S)
    return answer(_show(old.id))


@sessions.delete("/<ref>", responses={204: None, 202: SessionOut})
def delete_session(path: Path, query: TryQuery) -> Response:
    """Delete a session

    204: its flows are gone, as the switches have confirmed. 202: a bridge cannot be asked now;
    the session is listed as inactive until it is gone from there too.
    """
    parts = context()
    session = find_session(path.ref, query.tenant).session
    if query.dry_run:
        return answer(TrialOut(would="delete", name=session.name, tenant=session.tenant))
    parts.store.delete_session(session.id, who())
    if parts.reconcile.bring(BRING_S):
        parts.store.finish_deletions([session.id])
    left = parts.store.session(session.id)
    if left is None:
        return Response(status=HTTPStatus.NO_CONTENT)
    return answer(Shower(parts).show(left), HTTPStatus.ACCEPTED)


def find_session(ref: str, tenant: str | None) -> SessionRecord:
    """A session by id or name; a name means the live one before one that is being deleted."""
    store = context().store
    by_id = store.session(SessionId(ref))
    if by_id is not None and tenant in (None, by_id.session.tenant):
        return by_id
    records = {record.session.id: record for record in store.sessions_named(ref)}
    live = [r.session for r in records.values() if not r.is_deleting]
    going = [r.session for r in records.values() if r.is_deleting]
    is_live = any(tenant in (None, s.tenant) for s in live)
    return records[find("session", live if is_live else going, ref, tenant).id]


def _show(session: str) -> SessionOut:
    parts = context()
    record = parts.store.session(SessionId(session))
    if record is None:
        raise not_found("session", session)
    return Shower(parts).show(record)


def _share(share: BridgeShare) -> BridgeShareOut:
    return BridgeShareOut(
        bridge=share.bridge,
        bridge_id=f"{share.dpid:016x}",
        state=share.state.value,
        copies=_copies(share.copies),
        truncated=share.truncated,
        skipped=dict(share.skipped),
    )


def _copies(copies: Copies) -> CopiesOut:
    return CopiesOut(packets=copies.packets, bytes=copies.bytes)


def _filter_id(wanted: FilterId) -> str:
    return ALL_ID if wanted == ALL else wanted


def _in_state(
    state: str, shower: Shower, records: Sequence[SessionRecord], query: SessionList
) -> tuple[list[SessionOut], str | None]:
    """The part of a list that is in a state, and the marker of the next part.

    The state of no more sessions is looked at than it needs to fill the part, and one more.
    """
    rest, _ = part(records, query.model_copy(update={"limit": len(records)}), _id)
    found: list[SessionOut] = []
    for record in rest:
        shown = shower.show(record)
        if shown.status.state == state:
            found.append(shown)
        if len(found) > query.limit:
            return found[: query.limit], found[query.limit - 1].id
    return found, None


def _id(record: SessionRecord) -> str:
    return record.session.id
