"""A process that talks to databases, as the controller sees it: its reports in, requests out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog

from controller.databases import PROGRAM, TlsFiles
from controller.process import BackgroundThread, ChildProcess, Message, MessageSocket, PeerGone
from controller.southbound.ovsdb.database import OvsdbDatabase, RemoteState, RemoteStatus

LIFE_LOOK_S = 1.0
"""Whether the process works is looked at so often, in seconds."""
SILENT_LOOKS = 20
"""A process that says nothing during so many looks hangs: another one takes its place."""
REST = 3.0
"""After a report nothing is read for so many times as long as it took: databases cost this process
at most a quarter of a processor. What comes meanwhile comes together."""
LAST_HEARD_S = 10
"""A process that was last heard of so long ago is said to watch nothing, in seconds: it hangs, gets
no processor, or this process takes in what it reports too slowly."""
REST_FROM_S, REST_MAX_S = 0.005, 2.0
"""Reports that take less are followed by no pause; no pause is longer. In seconds."""

log = structlog.get_logger(__name__)


class DatabaseProcess:
    """Starts a process for some databases, and another one when it ends.

    ``report`` is called when rows or states have changed.
    """

    def __init__(
        self, databases: Sequence[OvsdbDatabase], report: Callable[[], None], tls: TlsFiles | None
    ) -> None:
        self.databases = databases
        self._report, self._tls = report, tls
        self._child = ChildProcess(PROGRAM, self._talk)
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._connection: MessageSocket | None = None
        self.tls_problem: str | None = None
        """Why the certificate files as they are now are not used."""
        self.has_begun = False
        """Whether a process of this program has said anything: then it asks the databases."""
        self._silent_looks = 0
        self._alive_at = 0.0
        """When the process sent the last sign of life that was read, in monotonic seconds."""
        self._writer = BackgroundThread(self._write, name="ovsdb")

    def start(self) -> None:
        """Start the process."""
        self._child.start()
        self._writer.start()

    def end(self) -> None:
        """Write nothing more."""
        self._stopping.set()
        self._woken.set()

    def stop(self) -> None:
        """End the process, and wait for its end."""
        self.end()
        self._child.stop()
        self._writer.wait()

    def wake(self) -> None:
        """Look at what is to be written."""
        self._woken.set()

    def status(self, database: OvsdbDatabase) -> RemoteStatus:
        """The state of a database; unknown while the process is away."""
        status = database.status
        if status.state is RemoteState.UNREACHABLE:
            return status
        if self._connection is None:
            return RemoteStatus(RemoteState.UNREACHABLE, self._unknown(database))
        silent_s = time.monotonic() - self._alive_at
        if silent_s >= LAST_HEARD_S:
            why = f"the {PROGRAM.name} was last heard of more than {LAST_HEARD_S} s ago"
            return RemoteStatus(RemoteState.UNREACHABLE, _not_watched(database, why))
        return status

    def _unknown(self, database: OvsdbDatabase) -> str:
        why = self._child.problem or f"the {PROGRAM.name} has ended, and is being started again"
        return _not_watched(database, why)

    def _talk(self, connection: MessageSocket) -> None:
        remotes = {str(number): d.remote for number, d in enumerate(self.databases)}
        files = None if self._tls is None else asdict(self._tls)
        connection.send(Message({"remotes": remotes, "tls": files}))
        self._silent_looks, self._alive_at = 0, time.monotonic()
        self._connection = connection
        try:
            while (message := connection.receive()) is not None:
                self._silent_looks, self.has_begun = 0, True
                self._take(connection, message.head)
        finally:
            self._connection = self.tls_problem = None
            for database in self.databases:
                database.lost(self._unknown(database))
            if not self._stopping.is_set():
                self._report()

    def _take(self, connection: MessageSocket, head: Mapping[str, Any]) -> None:
        number = head.get("database")
        if number is None:
            self._alive_at, self.tls_problem = head["alive"], head["tls"]
            for each, database in enumerate(self.databases):
                database.take_age(head["behind"].get(str(each), 0.0))
            return
        began = time.monotonic()
        if self.databases[number].take(head):
            self._report()
        self._woken.set()
        took = time.monotonic() - began
        if took >= REST_FROM_S:
            self._stopping.wait(min(REST * took, REST_MAX_S))
        if head.get("is_last"):
            connection.send(Message({"taken": number}))

    def _write(self) -> None:
        """Send what is to be written; end a process that hangs."""
        while not self._stopping.is_set():
            if not self._woken.wait(LIFE_LOOK_S):
                self._look_for_life()
            self._woken.clear()
            connection = self._connection
            if connection is None:
                continue
            try:
                for number, database in enumerate(self.databases):
                    for request in database.requests():
                        connection.send(Message({"database": number, **request}))
            except PeerGone as gone:
                log.debug("request not sent", reason=str(gone))
            except Exception as bug:  # the edge of the thread: it must go on
                log.error("request to database failed", exc_info=bug)

    def _look_for_life(self) -> None:
        connection = self._connection
        self._silent_looks = 0 if connection is None else self._silent_looks + 1
        if connection is not None and self._silent_looks >= SILENT_LOOKS:
            log.error("child process hangs", child=PROGRAM.name, seconds=SILENT_LOOKS * LIFE_LOOK_S)
            connection.end()


def _not_watched(database: OvsdbDatabase, why: str) -> str:
    return f"{database.remote} is not watched: {why}; what it said last still counts"
