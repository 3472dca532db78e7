"""Watches the databases of any number of Open vSwitches, and makes their bridges secure."""

from __future__ import annotations

import copy
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from operator import is_
from typing import Any
from uuid import UUID

import structlog
from ovs.db import idl
from ovs.poller import POLLIN, Poller
from ovs.stream import Stream

from controller.southbound.ovsdb.rows import OvsdbSnapshot, merge, read_rows
from controller.southbound.ovsdb.tunnel_rows import TunnelRows
from controller.southbound.ovsdb.tunnel_port import TunnelWish
from flows.model.session import Delivery, Dpid

_STRING: Mapping[str, object] = {"type": "string"}
_STRINGS: Mapping[str, object] = {
    "type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
}


def _optional(kind: str) -> Mapping[str, object]:
    return {"type": {"key": kind, "min": 0, "max": 1}}


def _rows_of(table: str) -> Mapping[str, object]:
    key = {"type": "uuid", "refTable": table}
    return {"type": {"key": key, "min": 0, "max": "unlimited"}}


SCHEMA: Mapping[str, object] = {
    "name": "Open_vSwitch",
    "version": "7.0.0",
    "tables": {
        "Open_vSwitch": {
            "columns": {
                "bridges": _rows_of("Bridge"),
                "other_config": _STRINGS,
                "ovs_version": _optional("string"),
            },
            "isRoot": True,
        },
        "Bridge": {
            "columns": {
                "name": _STRING,
                "datapath_id": _optional("string"),
                "datapath_type": _STRING,
                "fail_mode": _optional("string"),
                "ports": _rows_of("Port"),
            }
        },
        "Port": {
            "columns": {
                "name": _STRING,
                "interfaces": _rows_of("Interface"),
                "external_ids": _STRINGS,
            }
        },
        "Interface": {
            "columns": {
                "name": _STRING,
                "ofport": _optional("integer"),
                "external_ids": _STRINGS,
                "type": _STRING,
                "options": _STRINGS,
                "error": _optional("string"),
                "link_state": _optional("string"),
            }
        },
    },
}
"""The part of the schema that we read (ovs-vswitchd.conf.db(5)); a database may have any more.

These columns have been the same since Open vSwitch 1.10, so nothing is asked before watching.
"""

SECURE = "secure"
BACKOFF_MS = 200, 4000
"""How long to wait before trying to connect again: at first, and at most."""

log = structlog.get_logger(__name__)


class RemoteState(Enum):
    """How far the watching of one database has come."""

    UNREACHABLE = "unreachable"
    """There is no connection; what was known stays known, and it is tried again and again."""
    CONNECTED = "connected"
    """Connected; its rows are on the way."""
    SYNCED = "synced"
    """Everything is known, and changes arrive as they happen."""


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """The standing of one database, with a sentence when it cannot be reached."""

    state: RemoteState
    reason: str = ""


class OvsdbWatcher:
    """Keeps a snapshot of all databases in one thread; ``on_change`` is called from there.

    ``remotes`` are such as ``unix:/run/openvswitch/db.sock``, ``tcp:192.0.2.7:6640`` or
    ``ssl:192.0.2.7:6640`` (then call ``use_certificates`` before). ``on_change`` gets the bridges
    of which something changed; it must be quick.
    """

    def __init__(
        self, remotes: Sequence[str], on_change: Callable[[frozenset[Dpid]], None]
    ) -> None:
        self._databases = [_Database(remote) for remote in remotes]
        self._on_change = on_change
        self._merged: tuple[list[OvsdbSnapshot], OvsdbSnapshot] = [], OvsdbSnapshot()
        self._wish_lock = threading.Lock()
        self._wishes: set[Dpid] = set()
        self._tunnels: Mapping[Dpid, TunnelWish] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="ovsdb", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to watch; returns when the thread has ended."""
        self._is_stopping = True
        self._wake()
        self._thread.join()
        self._woken.close()
        self._waker.close()

    def snapshot(self) -> OvsdbSnapshot:
        """What all databases said last, the unreachable ones included; the same value again
        while none of them has said anything else.
        """
        parts = [database.snapshot for database in self._databases]
        before, merged = self._merged
        if len(before) != len(parts) or not all(map(is_, before, parts)):
            merged = merge(parts)
            self._merged = parts, merged
        return merged

    def statuses(self) -> Mapping[str, RemoteStatus]:
        """The standing of each database, by its remote."""
        return {database.remote: database.status for database in self._databases}

    def secure(self, dpid: Dpid) -> None:
        """See to it, soon, that this bridge forwards nothing by itself when we are away.

        It sets ``fail_mode=secure``; the next snapshot shows it. Nothing happens to a bridge that
        is secure already; one that no database within reach knows is secured when one does.
        """
        with self._wish_lock:
            self._wishes.add(dpid)
        self._wake()

    def want_tunnels(self, wishes: Mapping[Dpid, TunnelWish]) -> None:
        """See to it, from now on, that these bridges have the tunnel ports that they need.

        Bridges that are not named are left as they are. What was made shows in the snapshot.
        """
        if wishes != self._tunnels:
            self._tunnels = dict(wishes)
            self._wake()

    def tunnel_problems(self) -> Mapping[tuple[Dpid, Delivery], str]:
        """Why tunnel ports could not be made, a sentence each."""
        return {key: why for each in self._databases for key, why in each.tunnels.problems.items()}

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then it is awake already
            self._waker.send(b"x")

    def _run(self) -> None:
        while not self._is_stopping:
            poller = Poller()
            poller.fd_wait(self._woken.fileno(), POLLIN)
            with self._wish_lock:
                wishes, self._wishes = self._wishes, set()
            changed: frozenset[Dpid] = frozenset()
            for database in self._databases:
                changed |= database.run(wishes, self._tunnels)
                database.wait(poller)
            with self._wish_lock:
                self._wishes |= wishes.difference(*(each.known for each in self._databases))
            if changed:
                self._tell(changed)
            poller.block()
            self._drain()
        for database in self._databases:
            database.close()

    def _tell(self, changed: frozenset[Dpid]) -> None:
        try:
            self._on_change(changed)
        except Exception:
            log.exception("listener to ovsdb changes failed")

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)


def use_certificates(key: str, certificate: str, authority: str) -> None:
    """Set the PEM files for every ``ssl:`` remote of this process."""
    Stream.ssl_set_private_key_file(key)
    Stream.ssl_set_certificate_file(certificate)
    Stream.ssl_set_ca_cert_file(authority)


class _Database:
    """One database: its replica, what it said last, and the transactions that are under way."""

    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.snapshot = OvsdbSnapshot()
        self.status = RemoteStatus(RemoteState.UNREACHABLE, f"{remote} was not reached yet")
        self.tunnels = TunnelRows(remote)
        self._transactions: dict[Dpid, Any] = {}
        self._dpid_by_row: dict[UUID, Dpid] = {}
        self._link_by_row: dict[UUID, bool] = {}
        self._seqno = 0
        self._connect()

    def _connect(self) -> None:
        schema = idl.SchemaHelper(schema_json=copy.deepcopy(SCHEMA))
        schema.register_all()
        self._seqno = 0
        self._idl = idl.Idl(self.remote, schema, leader_only=False)
        session = self._idl._session
        session.reconnect.set_backoff(*BACKOFF_MS)
        # the IDL only logs why a connection failed
        for name in ("connect_failed", "disconnected"):
            setattr(session.reconnect, name, self._noting(getattr(session.reconnect, name)))

    @property
    def known(self) -> frozenset[Dpid]:
        """The bridges of the database, while it is within reach."""
        is_there = self.status.state is RemoteState.SYNCED
        return frozenset(row.dpid for row in self.snapshot.bridges if is_there)

    def _noting(self, original: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def note(now: int, error: int) -> None:
            reason = _explain(self.remote, error)
            self.status = RemoteStatus(RemoteState.UNREACHABLE, reason)
            original(now, error)

        return note

    def run(self, wishes: set[Dpid], tunnels: Mapping[Dpid, TunnelWish]) -> frozenset[Dpid]:
        """Do what can be done without waiting; the bridges of which something changed."""
        try:
            self._idl.run()
            return self._look(wishes, tunnels)
        except Exception as problem:
            log.exception("ovsdb replica failed", remote=self.remote)
            reason = f"{self.remote} sent what cannot be read ({problem}); connecting again"
            self.status = RemoteStatus(RemoteState.UNREACHABLE, reason)
            self._idl.close()
            self._transactions.clear()
            self.tunnels.forget()
            self._connect()
            return frozenset()

    def wait(self, poller: Any) -> None:
        """Have ``poller`` wake up when there is something to do."""
        self._idl.wait(poller)
        for transaction in self._transactions.values():
            transaction.wait(poller)
        self.tunnels.wait(poller)

    def close(self) -> None:
        """End the connection."""
        self._idl.close()

    def _look(self, wishes: set[Dpid], tunnels: Mapping[Dpid, TunnelWish]) -> frozenset[Dpid]:
        if not self._idl._session.is_connected():
            return frozenset()
        if self._idl.state != idl.Idl.IDL_S_MONITORING:
            self.status = RemoteStatus(RemoteState.CONNECTED)
            return frozenset()
        before = self.snapshot
        if self._seqno != self._idl.change_seqno:
            self.snapshot = read_rows(self._idl.tables, self._dpid_by_row, self._link_by_row)
            self._seqno = self._idl.change_seqno
        is_new = self.status.state is not RemoteState.SYNCED
        self.status = RemoteStatus(RemoteState.SYNCED)
        self._secure(wishes)
        told = self.tunnels.look(self._idl, self.snapshot, self._dpid_by_row, tunnels)
        changed = told | self.snapshot.changed_since(before)
        return changed | {row.dpid for row in self.snapshot.bridges} if is_new else changed

    def _secure(self, wishes: set[Dpid]) -> None:
        for uuid, dpid in self._dpid_by_row.items():
            row = self._idl.tables["Bridge"].rows[uuid]
            if dpid in wishes and row.fail_mode != [SECURE] and not self._idl.txn:
                transaction = idl.Transaction(self._idl)
                transaction.add_comment("cloudtap: a bridge of ours forwards nothing by itself")
                row.fail_mode = [SECURE]
                self._transactions[dpid] = transaction
                self._step(dpid)
        for dpid in list(self._transactions):
            self._step(dpid)

    def _step(self, dpid: Dpid) -> None:
        transaction = self._transactions[dpid]
        status = transaction.commit()
        if status == idl.Transaction.INCOMPLETE:
            return
        del self._transactions[dpid]
        if status not in (idl.Transaction.SUCCESS, idl.Transaction.UNCHANGED):
            problem = transaction.get_error()
            log.warning("fail_mode was not set", dpid=f"{dpid:016x}", status=status, why=problem)


def _explain(remote: str, error: int) -> str:
    """Why a database cannot be reached, and what to do about it."""
    if error == errno.EACCES:
        return (
            f"permission to open {remote} was denied: run as root, or let this user write to the "
            "socket"
        )
    if error == errno.ENOENT:
        return f"{remote} does not exist: see whether ovsdb-server runs on this machine"
    if error == errno.ECONNREFUSED:
        return f"nobody listens at {remote}: see whether ovsdb-server runs there"
    if error <= 0:
        return f"{remote} closed the connection"
    return f"{remote} cannot be reached: {os.strerror(error)}"
