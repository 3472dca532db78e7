"""The process that talks to Open vSwitch databases: ``python -m controller.databases.main``.

It is started and supervised by the controller (controller/southbound/ovsdb/watcher.py), ends with
it, and holds nothing that is not in the databases.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog

from controller.databases.client import DatabaseClient, WriteAnswer
from controller.databases.program import PROGRAM, Record
from controller.databases.remote import RenewedTls, TlsFiles
from controller.databases.replica import ROWS_IN_A_SLICE, Report
from controller.process import MESSAGE_LENGTHS, Message, connect_to_parent, read_head, read_lengths

MEMORY_MAX = 2 << 30
"""The most address space of this process, in bytes."""
ALIVE_S = 1.0
"""How often the controller is told that this process works, in seconds."""
LAGS_S = 5.0
"""A database lags behind if what is reported of it may be older than this, in seconds."""
COLLECT_S = 30.0
"""How often the garbage collector runs, in seconds. By itself it would cost more than parsing."""
SELECTED_FOR_A_ROW = 64
"""So many ports that Mirrors select are, in a message, as long as a row."""
AFTER_ERROR_S = 30.0
"""How long a database is left alone that has made this program fail, in seconds."""
NICE = 5
"""The controller is more important than this process when processors are busy."""

log = structlog.get_logger(__name__)


class Parent:
    """The controller, to which everything is reported in messages of bounded size."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._sending = asyncio.Lock()
        self._reported: set[int] = set()
        self._taken: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def state(self, number: int, state: str, reason: str) -> None:
        """Report the state of the connection to a database."""
        await self._send({"database": number, "state": state, "reason": reason})

    async def rows(self, number: int, report: Report) -> None:
        """Report rows, some in each message; only the last one completes the report.

        Returns once the controller has taken them in: one report of a database is on its way, so
        that nothing waits behind a queue of them while the controller is busy.
        """
        heads = split(report)
        self._taken[number].clear()
        for index, head in enumerate(heads):
            head["database"] = number
            head["is_first"] = index == 0 and number not in self._reported
            head["is_last"] = index == len(heads) - 1
            await self._send(head)
        self._reported.add(number)
        await self._taken[number].wait()

    def taken(self, number: int) -> None:
        """The controller has taken in what was reported of this database."""
        self._taken[number].set()

    async def answer(self, number: int, answer: WriteAnswer) -> None:
        """Answer a request to write."""
        await self._send({"database": number, **asdict(answer)})

    async def forget(self, number: int, reason: str) -> None:
        """A database is watched anew: its next report is a first one."""
        self._reported.discard(number)
        await self.state(number, "unreachable", reason)

    async def say_alive(
        self, clients: Mapping[int, DatabaseClient], tls: RenewedTls | None
    ) -> None:
        """Report, for ever, that this process works, which databases lag behind, and why the
        certificate files as they are now are not used.
        """
        while True:
            if tls is not None:
                tls.look_again()
            problem = None if tls is None else tls.problem
            ages = {number: client.behind_s() for number, client in clients.items()}
            behind = {number: age for number, age in ages.items() if age > LAGS_S}
            await self._send({"alive": time.monotonic(), "behind": behind, "tls": problem})
            await asyncio.sleep(ALIVE_S)

    async def _send(self, head: Mapping[str, Any]) -> None:
        async with self._sending:
            self._writer.write(Message(head).packed(PROGRAM.max_message))
            await self._writer.drain()  # a controller that is busy gets changes together later


def split(report: Report) -> list[dict[str, Any]]:
    """The messages of a report."""
    parts: list[dict[str, Any]] = []
    for kind, rows in (("bridges", report.bridges), ("interfaces", report.interfaces)):
        weight = ROWS_IN_A_SLICE
        for uuid, record in rows.items():
            if weight >= ROWS_IN_A_SLICE:
                parts.append({kind: {}})
                weight = 0
            parts[-1][kind][uuid] = record
            weight += 1 + _selected(record) // SELECTED_FOR_A_ROW
    rest: dict[str, Any] = {}
    if report.settings is not None:
        rest["settings"] = report.settings
    if report.problems is not None:
        rest["problems"] = report.problems
    if report.unmade is not None:
        rest["unmade"] = report.unmade
    if rest or not parts:
        parts.append(rest)
    return parts


def _selected(record: Record | None) -> int:
    """How many ports the Mirrors of a bridge select."""
    mirrors = [] if record is None else record.get("mirrors", [])
    return sum(len(mirror["sources"]) + len(mirror["targets"]) for mirror in mirrors)


async def serve(connection: socket.socket) -> None:
    """Watch the databases that the controller names, and do what it asks."""
    reader, writer = await asyncio.open_connection(sock=connection)
    parent = Parent(writer)
    settings = await _receive(reader)
    files = settings["tls"]
    needs_tls = any(remote.startswith("ssl:") for remote in settings["remotes"].values())
    tls = TlsFiles(**files).renewed() if files and needs_tls else None
    clients: dict[int, DatabaseClient] = {}

    async def watch(number: int, remote: str) -> None:
        """Watch a database; if that fails by an error of ours, begin anew after a pause."""
        while True:
            why = "watching it failed, see the log"
            try:
                await clients[number].run()
            except* ConnectionError:  # the controller has gone
                raise
            except* MemoryError:
                why = f"it takes more than the {MEMORY_MAX >> 30} GiB of memory that there are"
            except* Exception:
                log.exception("watching a database failed", remote=remote)
            clients[number] = DatabaseClient(number, remote, tls, parent)
            gc.collect()  # what is left of it, before others need the room
            await parent.forget(number, f"{remote} was left: {why}")
            await asyncio.sleep(AFTER_ERROR_S)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(parent.say_alive(clients, tls))
        tasks.create_task(_collect())
        for number, remote in settings["remotes"].items():
            clients[int(number)] = DatabaseClient(int(number), remote, tls, parent)
            tasks.create_task(watch(int(number), remote))
        while True:
            request = await _receive(reader)
            if "taken" in request:
                parent.taken(request["taken"])
            else:
                tasks.create_task(clients[request["database"]].write(request))


async def _receive(reader: asyncio.StreamReader) -> Mapping[str, Any]:
    head, body = read_lengths(await reader.readexactly(MESSAGE_LENGTHS.size), PROGRAM.max_message)
    data = await reader.readexactly(head + body)
    return read_head(data[:head])


async def _collect() -> None:
    while True:
        await asyncio.sleep(COLLECT_S)
        gc.collect()
        gc.freeze()


def main() -> None:
    """Serve until the controller ends."""
    connection = connect_to_parent()
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    gc.disable()
    gc.freeze()
    try:
        asyncio.run(serve(connection))
    except* (asyncio.IncompleteReadError, ConnectionError):
        pass  # the controller has ended


if __name__ == "__main__":
    main()
