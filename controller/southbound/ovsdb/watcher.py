"""Watches any number of Open vSwitch databases, and sets fail_mode=secure on bridges of ours.

The databases may be hostile, or huge. Processes of their own (controller/databases) talk to them,
bound what they send, and report checked rows; this process keeps the rows, and asks for writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from controller.databases import TlsFiles
from controller.process import ChangeSignal
from controller.southbound.ovsdb.database import OvsdbDatabase, RemoteStatus
from controller.southbound.ovsdb.database_process import DatabaseProcess
from controller.southbound.ovsdb.mirror import MirrorDemand, MirrorId
from controller.southbound.ovsdb.rows import DatabaseContent, OvsdbSnapshot, merge
from controller.southbound.ovsdb.tunnel_port import TunnelDemand, TunnelKey
from flows.model import Dpid

MOST_PROCESSES = 8
"""Up to so many databases have a process each; more of them share these."""

log = structlog.get_logger(__name__)


class InterfaceListener(Protocol):
    """Whoever keeps track of interfaces and ports."""

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The rows of the databases have changed; it must be quick."""
        ...


class OvsdbWatcher:
    """Keeps a snapshot of all databases.

    ``remotes`` are such as ``unix:/run/openvswitch/db.sock``, ``tcp:192.0.2.7:6640`` or
    ``ssl:192.0.2.7:6640`` (then with ``tls``). ``listener`` is called in threads of the watcher,
    one at a time; ``changes`` is signalled after the listener has taken a change. ``believed``
    returns the rows of databases that speak for their bridges, if not all do. ``knows`` tells
    whether a bridge is known still, connected or not: others need not be secured any more.
    """

    def __init__(
        self,
        remotes: Sequence[str],
        listener: InterfaceListener,
        changes: ChangeSignal,
        tls: TlsFiles | None = None,
        believed: Callable[[], OvsdbSnapshot] | None = None,
        knows: Callable[[Dpid], bool] = lambda dpid: True,
    ) -> None:
        believed = believed or self.snapshot
        self._databases = [OvsdbDatabase(remote, believed, knows) for remote in remotes]
        self._listener, self._changes = listener, changes
        self._lock, self._reporting = threading.Lock(), threading.Lock()
        self._merged: tuple[list[DatabaseContent], OvsdbSnapshot] = [], OvsdbSnapshot()
        self._processes = [
            DatabaseProcess(databases, self._report, tls)
            for databases in _distribute(self._databases)
        ]

    def start(self) -> None:
        """Start to watch."""
        for process in self._processes:
            process.start()

    def stop(self) -> None:
        """Stop to watch; waits for the end of the processes."""
        for process in self._processes:
            process.end()
        for process in self._processes:
            process.stop()

    def snapshot(self) -> OvsdbSnapshot:
        """The last known rows of all databases, those out of reach included; the same value again
        until something changes.
        """
        with self._lock:
            parts = [database.content for database in self._databases]
            before, merged = self._merged
            if len(before) != len(parts) or any(
                a is not b for a, b in zip(before, parts, strict=True)
            ):
                merged = merge(parts)
                self._merged = parts, merged
            return merged

    def statuses(self) -> Mapping[str, RemoteStatus]:
        """The state of each database, by its remote."""
        return {
            database.remote: process.status(database)
            for process in self._processes
            for database in process.databases
        }

    @property
    def has_begun(self) -> bool:
        """Whether the processes that ask databases are up: on a busy machine that takes long."""
        return all(process.has_begun for process in self._processes)

    def row_problems(self) -> Iterator[str]:
        """Why rows of databases are not used, a sentence each."""
        for database in self._databases:
            for problem in database.problems:
                yield f"{database.remote}: {problem}"

    def unmade(self) -> Iterator[str]:
        """The bridges that Open vSwitch should have created and has not, a sentence each."""
        for database in self._databases:
            yield from database.unmade()

    def tls_problems(self) -> Sequence[str]:
        """Why certificate files as they are now are not used, a sentence each."""
        problems = (process.tls_problem for process in self._processes)
        return tuple(dict.fromkeys(problem for problem in problems if problem is not None))

    def secure(self, dpid: Dpid) -> None:
        """Set ``fail_mode=secure`` on a bridge, so that it forwards nothing by itself.

        This returns at once; a later snapshot shows the change. A bridge that no reachable database
        has is secured as soon as one has it.
        """
        for database in self._databases:
            database.secure(dpid)
        self._wake()

    def want_tunnels(self, demands: Mapping[Dpid, TunnelDemand]) -> None:
        """Keep the tunnel ports of these bridges as demanded from now on.

        Bridges without a demand are left as they are. Later snapshots show the ports.
        """
        for database in self._databases:
            database.want_tunnels(demands)
        self._wake()

    def tunnel_problems(self) -> Mapping[TunnelKey, str]:
        """Why tunnel ports could not be added, a sentence each."""
        return {key: why for each in self._databases for key, why in each.tunnel_problems.items()}

    def want_mirrors(self, demands: Mapping[Dpid, MirrorDemand]) -> None:
        """Keep the Mirrors that send to these tap bridges as demanded from now on.

        What is selected are ports of the bridges that are attached to them. Tap bridges without a
        demand are left as they are. Later snapshots show the Mirrors.
        """
        for database in self._databases:
            database.want_mirrors(demands)
        self._wake()

    def mirror_problems(self) -> Mapping[MirrorId, str]:
        """Why Mirrors could not be added, a sentence each, by tap bridge and what they select."""
        return {key: why for each in self._databases for key, why in each.mirror_problems.items()}

    def _wake(self) -> None:
        for process in self._processes:
            process.wake()

    def _report(self) -> None:
        """Pass on that rows, or states of connections, have changed."""
        with self._reporting:
            try:
                self._listener.interfaces_changed(self.snapshot())
            except Exception:
                log.exception("listener to ovsdb changes failed")
        self._changes.changed()


def _distribute(databases: Sequence[OvsdbDatabase]) -> list[list[OvsdbDatabase]]:
    """The databases of each process; those of this machine come first, so they share the least."""
    ordered = sorted(databases, key=lambda d: not d.remote.startswith("unix:"))
    count = min(MOST_PROCESSES, len(ordered))
    return [ordered[first::count] for first in range(count)]
