"""Makes, mends and removes the tunnel ports of one database, as far as they are not as wished."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any
from uuid import UUID

import structlog
from ovs.db import idl

from controller.southbound.ovsdb.rows import InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.tunnel_port import (
    MARK,
    TunnelWish,
    tunnel_name,
    tunnel_options,
    tunnel_type,
)
from flows.model.session import Delivery, Dpid

AGAIN_S = 5.0
"""What a database refused is tried again after so many seconds."""

Key = tuple[Dpid, Delivery]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Todo:
    """What one bridge needs: kinds to make, rows to set right, names to remove."""

    make: tuple[Delivery, ...] = ()
    mend: tuple[InterfaceRow, ...] = ()
    remove: tuple[InterfaceRow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.make or self.mend or self.remove)


class TunnelRows:
    """Keeps the tunnel ports of one database as wished; for the thread of its replica alone.

    Only rows that bear our mark are changed or removed, and only on bridges that a wish names.
    """

    def __init__(self, remote: str) -> None:
        self.problems: dict[Key, str] = {}
        self._remote = remote
        self._under_way: dict[Dpid, tuple[Any, _Todo]] = {}
        self._again_at: dict[Dpid, float] = {}
        self._seen: tuple[OvsdbSnapshot, Mapping[Dpid, TunnelWish]] | None = None

    def look(
        self,
        replica: Any,
        snapshot: OvsdbSnapshot,
        dpid_by_row: Mapping[UUID, Dpid],
        wishes: Mapping[Dpid, TunnelWish],
    ) -> frozenset[Dpid]:
        """Do what can be done without waiting; the bridges of which a problem came or went."""
        before = dict(self.problems)
        for dpid in list(self._under_way):
            self._step(dpid)
        is_due = any(when <= time.monotonic() for when in self._again_at.values())
        seen = (snapshot, wishes)
        if self._seen is None or is_due or not all(map(is_, self._seen, seen)):
            self._seen = seen
            self._start(replica, snapshot, dpid_by_row, wishes)
        turned = before.items() ^ self.problems.items()
        return frozenset(dpid for (dpid, _), _ in turned)

    def wait(self, poller: Any) -> None:
        """Have ``poller`` wake up when there is something to do."""
        for transaction, _ in self._under_way.values():
            transaction.wait(poller)
        if self._again_at:
            pause = min(self._again_at.values()) - time.monotonic()
            poller.timer_wait(max(0, int(pause * 1000) + 1))

    def forget(self) -> None:
        """The connection is over, and with it what was under way."""
        self._under_way.clear()
        self._seen = None

    def _start(
        self,
        replica: Any,
        snapshot: OvsdbSnapshot,
        dpid_by_row: Mapping[UUID, Dpid],
        wishes: Mapping[Dpid, TunnelWish],
    ) -> None:
        ours: defaultdict[Dpid, list[InterfaceRow]] = defaultdict(list)
        for row in snapshot.interfaces:
            if row.tunnel is not None:
                ours[row.dpid].append(row)
        for key in [key for key in self.problems if key[0] not in wishes]:
            del self.problems[key]
        names: frozenset[str] | None = None
        for uuid, dpid in dpid_by_row.items():
            wish = wishes.get(dpid)
            if wish is None or dpid in self._under_way or not self._may_try(dpid):
                continue
            todo = _todo(dpid, wish, ours[dpid])
            for kind in Delivery:
                self.problems.pop((dpid, kind), None)
            if not todo:
                continue
            names = names if names is not None else _names(replica)
            self._change(replica, replica.tables["Bridge"].rows[uuid], dpid, todo, names)

    def _may_try(self, dpid: Dpid) -> bool:
        if self._again_at.get(dpid, 0) > time.monotonic():
            return False
        self._again_at.pop(dpid, None)
        return True

    def _change(
        self, replica: Any, bridge: Any, dpid: Dpid, todo: _Todo, names: frozenset[str]
    ) -> None:
        free: list[Delivery] = []
        for kind in todo.make:
            name = tunnel_name(dpid, kind)
            if name in names:
                self.problems[dpid, kind] = (
                    f"bridge {bridge.name} cannot have its tunnel port for {kind.value}: a port "
                    f"{name!r} is there already and is not ours; give that another name"
                )
            else:
                free.append(kind)
        todo = _Todo(tuple(free), todo.mend, todo.remove)
        if not todo or replica.txn:
            return
        transaction = idl.Transaction(replica)
        transaction.add_comment("cloudtap: ports through which copies go to remote sensors")
        for kind in todo.make:
            _make(transaction, replica, bridge, dpid, kind)
        names_to_mend = {row.name for row in todo.mend}
        names_to_remove = {row.name for row in todo.remove}
        for port in bridge.ports:
            for interface in port.interfaces:
                if interface.name in names_to_mend:
                    _mend(interface, dpid)
            if port.name in names_to_remove:
                bridge.delvalue("ports", port)
        self._under_way[dpid] = transaction, todo
        self._step(dpid)

    def _step(self, dpid: Dpid) -> None:
        transaction, todo = self._under_way[dpid]
        status = transaction.commit()
        if status == idl.Transaction.INCOMPLETE:
            return
        del self._under_way[dpid]
        if status in (idl.Transaction.SUCCESS, idl.Transaction.UNCHANGED):
            log.info(
                "tunnel ports changed", dpid=f"{dpid:016x}",
                made=[kind.value for kind in todo.make],
                mended=[row.name for row in todo.mend],
                removed=[row.name for row in todo.remove],
            )  # fmt: skip
            return
        self._again_at[dpid] = time.monotonic() + (0 if _is_passing(status) else AGAIN_S)
        self._seen = None
        if not _is_passing(status):
            why = transaction.get_error() or status
            for kind in todo.make:
                self.problems[dpid, kind] = (
                    f"the database {self._remote} refused the tunnel port for {kind.value} of "
                    f"bridge {dpid:016x}: {why}; let this controller write to it"
                )


def _is_passing(status: str) -> bool:
    """Whether it failed only because the database has moved on meanwhile."""
    return status in (idl.Transaction.TRY_AGAIN, idl.Transaction.NOT_LOCKED)


def _todo(dpid: Dpid, wish: TunnelWish, ours: list[InterfaceRow]) -> _Todo:
    there = {row.tunnel for row in ours if _is_named_right(dpid, row)}
    unwanted = [
        row for row in ours if row.tunnel in wish.unwanted or not _is_named_right(dpid, row)
    ]
    return _Todo(
        tuple(kind for kind in Delivery if kind in wish.wanted - there),
        tuple(row for row in ours if row.is_altered and row not in unwanted),
        tuple(unwanted),
    )


def _is_named_right(dpid: Dpid, row: InterfaceRow) -> bool:
    return row.tunnel is not None and row.name == tunnel_name(dpid, row.tunnel)


def _names(replica: Any) -> frozenset[str]:
    """Every name of a port or interface in the database."""

    def found() -> Iterator[str]:
        for table in ("Port", "Interface"):
            for row in replica.tables[table].rows.values():
                yield row.name

    return frozenset(found())


def _make(transaction: Any, replica: Any, bridge: Any, dpid: Dpid, kind: Delivery) -> None:
    name, mark = tunnel_name(dpid, kind), {MARK: kind.value}
    interface = transaction.insert(replica.tables["Interface"])
    interface.name, interface.external_ids = name, mark
    interface.type, interface.options = tunnel_type(kind), tunnel_options(dpid, kind)
    port = transaction.insert(replica.tables["Port"])
    port.name, port.external_ids, port.interfaces = name, mark, [interface]
    bridge.addvalue("ports", port)


def _mend(interface: Any, dpid: Dpid) -> None:
    kind = Delivery(interface.external_ids[MARK])
    interface.type, interface.options = tunnel_type(kind), tunnel_options(dpid, kind)
