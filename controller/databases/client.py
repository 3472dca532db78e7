"""One database: connects, watches, writes, and connects again; whatever it sends or does not send.

An OVSDB client (RFC 7047) for peers that may be hostile: everything that comes is bounded before it
is parsed, a silent peer and one that reads nothing are left, and what a peer costs is limited by
reading less from it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from controller.databases.budget import Backoff, CpuBudget
from controller.databases.checks import clean
from controller.databases.columns import WATCHED
from controller.databases.errors import BadPeer
from controller.databases.framing import JsonSplitter
from controller.databases.remote import Streams, TlsFiles, connect, explain
from controller.databases.replica import Replica, Report
from controller.databases.transactions import (
    DATABASE_NAME,
    CannotWrite,
    Operation,
    change_tunnels,
    check_result,
    secure,
)

CHUNK_BYTES = 1 << 16
"""What is read at once, in bytes."""
ECHO_AFTER_S = 5.0
"""A peer that is silent for so long gets an echo request (RFC 7047, 4.1.11), in seconds."""
PEER_SILENT_S = 15.0
"""A peer that completes no message for so long is left, in seconds."""
SLOWEST_BYTES_S = 50_000
"""A long message may take longer: so many bytes a second must come."""
UNREAD_MAX = 1 << 20
"""A peer that leaves so many bytes of ours unread is left."""
WRITE_S = 10.0
"""Deadline of a transaction, in seconds."""
REPORTS_PER_S, REPORTS_AT_ONCE = 20, 20
"""How often changes are reported: at once, but not more often than this in the long run."""

MONITOR_COND, MONITOR = "monitor_cond", "monitor"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """What came of a request: why it was refused, and names of ports that others have."""

    request: int
    refused: str
    taken: list[str]


class DatabaseListener(Protocol):
    """Who is told about databases."""

    async def state(self, number: int, state: str, reason: str) -> None:
        """The state of a connection: unreachable (with a sentence), connected or synced."""
        ...

    async def rows(self, number: int, report: Report) -> None:
        """What has changed; returns once it was passed on."""
        ...

    async def answer(self, number: int, answer: WriteAnswer) -> None:
        """A request to write was carried out, or was not."""
        ...


class DatabaseClient:
    """Watches one database from ``run`` until it is cancelled."""

    def __init__(
        self, number: int, remote: str, tls: TlsFiles | None, listener: DatabaseListener
    ) -> None:
        self._number, self._remote, self._tls = number, remote, tls
        self._listener = listener
        self._replica = Replica()
        self._budget, self._backoff = CpuBudget(), Backoff()
        self._working = asyncio.Lock()
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._splitter = JsonSplitter()
        self._heard_at = self._probed_at = 0.0
        self._synced_at: float | None = None
        self._replies: dict[str, asyncio.Future[Any]] = {}

    async def run(self) -> None:
        """Watch the database, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            while True:
                await asyncio.sleep(await self._connect_once())

    async def write(self, request: Mapping[str, Any]) -> None:
        """Carry out a request to write, and answer it."""
        refused, taken = "", []
        try:
            taken = await self._write(request)
        except CannotWrite as problem:
            refused = str(problem)
        answer = WriteAnswer(request["request"], refused, taken)
        await self._listener.answer(self._number, answer)

    # --- connections ----------------------------------------------------------------------------

    async def _connect_once(self) -> float:
        """Connect, and watch until that ends; the pause before the next time, in seconds."""
        error: OSError | None = None
        try:
            streams = await connect(self._remote, self._tls)
        except OSError as problem:
            pause_s = self._backoff.failed()
            await self._say_unreachable(explain(self._remote, problem))
            return pause_s
        try:
            await self._watch(streams)
            pause_s = self._backoff.failed()
        except BadPeer as problem:
            pause_s = self._backoff.offended()
            reason = f"{self._remote} was left: {problem}; it is tried again in {pause_s:g} s"
            await self._say_unreachable(reason)
            return pause_s
        except OSError as problem:
            error, pause_s = problem, self._backoff.failed()
        finally:
            self._end(streams)
        await self._say_unreachable(explain(self._remote, error))
        return pause_s

    async def _watch(self, streams: Streams) -> None:
        reader, self._writer = streams
        self._splitter = JsonSplitter()
        self._heard_at = self._probed_at = time.monotonic()
        await self._listener.state(self._number, "connected", "")
        self._ask_for_rows(MONITOR_COND)
        while True:
            try:
                async with asyncio.timeout(ECHO_AFTER_S) as silence:
                    chunk = await reader.read(CHUNK_BYTES)
            except TimeoutError:
                if not silence.expired():  # that of TCP: every read fails from now on
                    raise
                chunk = None
            if chunk == b"":
                return
            if chunk:
                await self._take(chunk)
            self._check_alive()

    async def _take(self, chunk: bytes) -> None:
        async for message in self._sliced(self._splitter.feed(chunk)):
            self._heard_at = time.monotonic()
            async with self._working:
                await self._receive(message)
        if debt_s := self._budget.debt():
            await asyncio.sleep(debt_s)
            self._heard_at += debt_s

    async def _sliced(self, work: Iterator[T]) -> Any:
        """The items of some work, at the cost of this database; others run in between."""
        while True:
            with self._budget:
                try:
                    item = next(work)
                except StopIteration:
                    return
            yield item
            await asyncio.sleep(0)

    def _check_alive(self) -> None:
        now = time.monotonic()
        patience_s = PEER_SILENT_S + self._splitter.waiting / SLOWEST_BYTES_S
        if now - self._heard_at > patience_s:
            raise BadPeer(f"it has completed no message for {patience_s:.0f} s")
        if now - max(self._heard_at, self._probed_at) >= ECHO_AFTER_S:
            self._probed_at = now
            self._send({"method": "echo", "params": [], "id": "echo"})

    def _end(self, streams: Streams) -> None:
        if self._synced_at is not None:
            self._backoff.lasted(time.monotonic() - self._synced_at)
        self._writer = self._synced_at = None
        streams[1].transport.abort()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(CannotWrite("the connection ended before it answered"))
        self._replies.clear()

    async def _say_unreachable(self, reason: str) -> None:
        await self._listener.state(self._number, "unreachable", reason)

    # --- messages -------------------------------------------------------------------------------

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._writer is None:
            raise CannotWrite("it is not reachable")
        self._writer.write(json.dumps(message).encode())
        if self._writer.transport.get_write_buffer_size() > UNREAD_MAX:
            raise BadPeer(f"it leaves more than {UNREAD_MAX >> 20} MiB of ours unread")

    def _ask_for_rows(self, method: str) -> None:
        wanted: dict[str, Any] = {
            table: [{"columns": list(columns)}] for table, columns in WATCHED.items()
        }
        self._send({"method": method, "params": [DATABASE_NAME, method, wanted], "id": method})

    async def _receive(self, message: Mapping[str, Any]) -> None:
        method, params = message.get("method"), message.get("params")
        if method is None:
            await self._receive_reply(message)
        elif method == "echo":
            self._send({"result": params, "error": None, "id": message.get("id")})
        elif method in ("update", "update2"):
            if not isinstance(params, list) or len(params) != 2 or self._synced_at is None:
                raise BadPeer("it sent an update that was not asked for")
            await self._apply(params[1], are_differences=method == "update2")
            self._changed.set()
        elif method == "monitor_canceled":
            raise BadPeer("it does not let us watch its rows any longer")

    async def _receive_reply(self, message: Mapping[str, Any]) -> None:
        number, error = message.get("id"), message.get("error")
        if number in (MONITOR_COND, MONITOR) and self._synced_at is None:
            if error and number == MONITOR_COND:  # before Open vSwitch 2.6
                self._ask_for_rows(MONITOR)
            elif error:
                raise BadPeer(f"it does not let us watch its rows ({clean(json.dumps(error))})")
            else:
                await self._load(message.get("result"), are_differences=number == MONITOR_COND)
        elif isinstance(number, str) and (reply := self._replies.pop(number, None)) is not None:
            if reply.done():
                return
            if error:
                reply.set_exception(CannotWrite(clean(json.dumps(error))))
            else:
                reply.set_result(message.get("result"))

    async def _load(self, updates: Any, *, are_differences: bool) -> None:
        self._replica.begin_load()
        await self._apply(updates, are_differences=are_differences)
        async for _ in self._sliced(self._replica.end_load()):
            pass
        self._synced_at = time.monotonic()
        self._backoff.synced()
        self._changed.set()

    async def _apply(self, updates: Any, *, are_differences: bool) -> None:
        work = self._replica.apply(updates, are_differences=are_differences)
        async for _ in self._sliced(work):
            pass

    # --- reports --------------------------------------------------------------------------------

    async def _report(self) -> None:
        """Report changes as they come; when they come too fast, several together."""
        said: float | None = None
        allowed, at = float(REPORTS_AT_ONCE), time.monotonic()
        while True:
            await self._wait_for_changes()
            async with self._working:
                is_synced = self._synced_at
                report = await self._look() if is_synced is not None else None
            if report:
                await self._listener.rows(self._number, report)
            if is_synced is not None and is_synced == self._synced_at != said:
                said = is_synced
                await self._listener.state(self._number, "synced", "")
            now = time.monotonic()
            allowed = min(REPORTS_AT_ONCE, allowed + (now - at) * REPORTS_PER_S) - 1
            at = now
            if allowed < 0:
                await asyncio.sleep(-allowed / REPORTS_PER_S)

    async def _wait_for_changes(self) -> None:
        due = self._replica.due()
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _look(self) -> Report | None:
        found: Report | None = None
        async for report in self._sliced(self._replica.look(time.monotonic())):
            found = report or found
        return found

    # --- writing --------------------------------------------------------------------------------

    async def _write(self, request: Mapping[str, Any]) -> list[str]:
        if self._synced_at is None:
            raise CannotWrite("it is not reachable")
        bridge: str = request["bridge"]
        if request["do"] == "secure":
            await self._transact(request["request"], secure(self._replica, bridge))
            return []
        operations, taken = change_tunnels(self._replica, bridge, request)
        if operations:
            await self._transact(request["request"], operations)
        return taken

    async def _transact(self, request: int, operations: list[Operation]) -> None:
        number = f"write {request}"
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            self._send({"method": "transact", "params": [DATABASE_NAME, *operations], "id": number})
            async with asyncio.timeout(WRITE_S):
                check_result(await reply)
        except TimeoutError as late:
            raise CannotWrite(f"it did not answer within {WRITE_S:g} s") from late
        except BadPeer as problem:
            raise CannotWrite(str(problem)) from problem
        finally:
            self._replies.pop(number, None)
