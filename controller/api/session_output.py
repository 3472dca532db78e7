"""From a session of the store to what the API shows of it: ids become names, status is added."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal

from controller.api.context import Context
from controller.api.lookup import ALL_ID, check_listed
from controller.api.schemas import (
    BridgeShareOut,
    CopiesOut,
    SessionList,
    SessionOut,
    SourceOut,
    StatusOut,
)
from controller.api.sensor_input import sensor_words
from controller.api.session_input import show_time
from controller.status import BridgeShare, SessionStatus, State
from controller.store import SessionRecord
from flows.model import ALL, Collector, FilterId, Port, Rate, Session, Source, is_watched
from flows.openflow import PacketCount


class SessionPresenter:
    """Shows sessions with names in place of ids; built once for a whole list."""

    def __init__(self, parts: Context) -> None:
        inventory = parts.inventory()
        self._parts = parts
        self._ports = {port.id: port for port in inventory.ports}
        self._networks = {network.id: network for network in inventory.networks}
        self._filters = {r.filter.id: r.filter for r in parts.store.filters.all()}
        self._collectors = {r.collector.id: r.collector for r in parts.store.collectors.all()}

    def show(self, record: SessionRecord) -> SessionOut:
        """One session as an answer."""
        return self._show(record, self._parts.inspector.session_status(record.session.id))

    def show_all(self, records: Sequence[SessionRecord]) -> Iterator[SessionOut]:
        """Many sessions, one after the other; lets other threads run before each of them."""
        statuses = self._parts.inspector.session_statuses(r.session.id for r in records)
        for record, status in zip(records, statuses, strict=True):
            time.sleep(0)
            yield self._show(record, status)

    def _show(self, record: SessionRecord, status: SessionStatus) -> SessionOut:
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
            max_rate=_rate(rate),
            expires_at=show_time(limits.expires_at),
            max_packets=limits.max_packets,
            max_bytes=limits.max_bytes,
            enabled=session.enabled,
            created_at=record.created_at.isoformat(),
            status=self._status(record, status),
        )

    def check(self, query: SessionList) -> None:
        """Check that what a list is asked for exists.

        Raises:
            ApiProblem: there is no such collector, filter or port.
        """
        collectors, ports = self._collectors, self._ports
        check_listed(
            "collector", query.collector, (c.name for c in collectors.values()), collectors
        )
        filters = {ALL: ALL, ALL_ID: ALL} | {key: f.name for key, f in self._filters.items()}
        check_listed("filter", query.filter, filters.values(), filters)
        if query.port is not None and query.port not in ports:
            watched = {p for r in self._parts.store.sessions.all() for p in r.session.source.ports}
            check_listed("port", query.port, (port.name for port in ports.values()), watched)

    def is_selected(self, session: Session, query: SessionList) -> bool:
        """Whether a list asks for this session, regardless of its state."""
        collector = self._collectors.get(session.collector)
        filters = (self._filter_name(session.filter), _filter_id(session.filter))
        return (
            query.selects(session.tenant, session.name)
            and query.enabled in (None, session.enabled)
            and query.direction in (None, session.direction.value)
            and query.mode in (None, session.mode.value)
            and query.collector in (None, session.collector, collector and collector.name)
            and query.filter in (None, *filters)
            and (query.port is None or self._is_watching(session, query.port))
        )

    def _is_watching(self, session: Session, ref: str) -> bool:
        """Whether a session watches a port of this id or name; also one that is gone, by its id."""
        asked = self._ports_by_ref.get(ref, ())
        return ref in session.source.ports or any(is_watched(session, port) for port in asked)

    @cached_property
    def _ports_by_ref(self) -> Mapping[str, list[Port]]:
        found: defaultdict[str, list[Port]] = defaultdict(list)
        for port in self._ports.values():
            for ref in {port.id, port.name}:
                found[ref].append(port)
        return found

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

    def _filter_name(self, key: FilterId) -> str:
        found = self._filters.get(key)
        return found.name if found else key

    def _status(self, record: SessionRecord, status: SessionStatus) -> StatusOut:
        if record.is_deleting:
            status = dataclasses.replace(
                status, state=State.INACTIVE, reasons=self._why_not_deleted(status)
            )
        elif self._parts.store.sessions.is_unrecorded(record.session.id):
            status = dataclasses.replace(status, reasons=(*status.reasons, self._why_unrecorded()))
        return StatusOut(
            state=status.state.value,
            reasons=list(status.reasons),
            copies=_copies(status.copies),
            truncated=status.truncated,
            skipped=dict(status.skipped),
            largest_frame=status.largest_frame,
            port_rate=_rate(status.port_rate),
            bridges=[_share(share) for share in status.bridges],
        )

    def _why_not_deleted(self, status: SessionStatus) -> tuple[str, ...]:
        """Which bridges the deletion of a session waits for; or that it cannot be recorded."""
        own = {share.dpid for share in status.bridges if share.state is not State.INACTIVE}
        if not own and self._parts.store.problem:
            return (f"deleted: its copies have ended; {self._why_unrecorded()}",)
        bridges = self._parts.inspector.bridges()
        away = [b.name for b in bridges if not b.connected and (not own or b.dpid in own)]
        if not away:
            return ("being deleted: its bridges have not confirmed yet that its flows are gone",)
        return tuple(f"being deleted: bridge {name!r} is not reachable" for name in away)

    def _why_unrecorded(self) -> str:
        """Why the state database does not have yet that a session is off."""
        cause = self._parts.store.problem or "it is tried again"
        return f"the state database cannot record yet that it is off: {cause}"


def _rate(rate: Rate | None) -> dict[Literal["kbps", "pps"], int] | None:
    return None if rate is None else {rate.unit.value: rate.value}


def _filter_id(key: FilterId) -> str:
    return ALL_ID if key == ALL else key


def _share(share: BridgeShare) -> BridgeShareOut:
    return BridgeShareOut(
        bridge=share.bridge,
        bridge_id=f"{share.dpid:016x}",
        state=share.state.value,
        copies=_copies(share.copies),
        truncated=share.truncated,
        skipped=dict(share.skipped),
    )


def _copies(copies: PacketCount) -> CopiesOut:
    return CopiesOut(packets=copies.packets, bytes=copies.bytes)
