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

from controller.databases.budget import LONGEST_BAD_PAUSE_S, Backoff, CpuBudget
from controller.databases.checks import clean
from controller.databases.columns import WATCHED
from controller.databases.errors import BadPeer
from controller.databases.framing import JsonSplitter
from controller.databases.remote import RenewedTls, Streams, connect, explain
from controller.databases.replica import Replica, Report
from controller.databases.transactions import (
    DATABASE_NAME,
    CannotWrite,
    Operation,
    change_mirrors,
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
FIRST_ROWS_S = 15.0
"""A peer that does not answer the request for its rows for so long is left, in seconds."""
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
        """The state of a connection: unreachable or connected (with a sentence), or synced."""
        ...

    async def rows(self, number: int, report: Report) -> None:
        """What has changed; returns once it was taken in: until then, changes are collected."""
        ...

    async def answer(self, number: int, answer: WriteAnswer) -> None:
        """A request to write was carried out, or was not."""
        ...


class DatabaseClient:
    """Watches one database from ``run`` until it is cancelled."""

    def __init__(
        self, number: int, remote: str, tls: RenewedTls | None, listener: DatabaseListener
    ) -> None:
        self._number, self._remote, self._tls = number, remote, tls
        self._listener = listener
        self._replica = Replica()
        self._budget, self._backoff = CpuBudget(), Backoff()
        self._working = asyncio.Lock()
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._splitter = JsonSplitter()
        self._silent_s = self._probed_s = self._asked_s = 0.0
        """For how long we have waited since its last message, until our last echo request of that
        time, and since the request for its rows. Time in which we did not listen, or got no
        processor, is not the peer's fault and does not count."""
        self._synced_at: float | None = None
        self._refused = ""
        """Why it did not carry out the first way to ask for rows."""
        self._left = ""
        """Why it was left last; empty once it has sent its rows."""
        self._unread_since: float | None = None
        self._unsaid_since: float | None = None
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

    def behind_s(self) -> float:
        """How old at most what is reported of the database may be, in seconds.

        Either more comes than is read, or the reports are not taken in as fast as there are
        changes.
        """
        since = (self._unread_since, self._unsaid_since)
        now = time.monotonic()
        return now - min((at for at in since if at is not None), default=now)

    # --- connections ----------------------------------------------------------------------------

    async def _connect_once(self) -> float:
        """Connect, and watch until that ends; the pause before the next time, in seconds."""
        try:
            streams = await connect(self._remote, self._tls)
        except OSError as problem:
            await self._say_unreachable(explain(self._remote, problem))
            return self._backoff.failed()
        error: OSError | BadPeer | None = None
        try:
            await self._watch(streams)
        except (OSError, BadPeer) as problem:
            error = problem
        finally:
            self._end(streams)  # before anything is said: that may take as long as it likes
        if isinstance(error, BadPeer):
            self._left = f"it was left: {error}"
            within = f"it is tried again within {LONGEST_BAD_PAUSE_S:g} s"
            await self._say_unreachable(f"{self._remote} was left: {error}; {within}")
            return self._backoff.offended()
        await self._say_unreachable(explain(self._remote, error))
        return self._backoff.failed()

    async def _watch(self, streams: Streams) -> None:
        reader, self._writer = streams
        self._splitter = JsonSplitter()
        self._silent_s = self._probed_s = self._asked_s = 0.0
        before = f" (the last time {self._left})" if self._left else ""
        reason = f"{self._remote} was reached, and has not sent its rows yet{before}"
        await self._listener.state(self._number, "connected", reason)
        self._refused = ""
        self._ask_for_rows(MONITOR_COND)
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ECHO_AFTER_S) as silence:
                    chunk = await reader.read(CHUNK_BYTES)
            except TimeoutError:
                if not silence.expired():  # that of TCP: every read fails from now on
                    raise
                chunk = None
            waited_s = min(time.monotonic() - began, ECHO_AFTER_S)
            self._silent_s += waited_s
            self._asked_s += waited_s
            if chunk == b"":
                return
            if chunk:
                if self._unread_since is None:
                    self._unread_since = time.monotonic()
                await self._take(chunk)
            if chunk is None or len(chunk) < CHUNK_BYTES:  # else more has come meanwhile
                self._unread_since = None
            self._check_alive()

    async def _take(self, chunk: bytes) -> None:
        async for message in self._sliced(self._splitter.feed(chunk)):
            self._silent_s = self._probed_s = 0.0
            async with self._working:
                await self._receive(message)
        if debt_s := self._budget.debt():
            await asyncio.sleep(debt_s)

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
        more_s = self._splitter.waiting / SLOWEST_BYTES_S
        if self._silent_s > PEER_SILENT_S + more_s:
            raise BadPeer(f"it has completed no message for {PEER_SILENT_S + more_s:.0f} s")
        if self._synced_at is None and self._asked_s > FIRST_ROWS_S + more_s:
            refused = f" (`{MONITOR_COND}`: {self._refused})" if self._refused else ""
            raise BadPeer(f"it has not sent its rows within {FIRST_ROWS_S + more_s:.0f} s{refused}")
        if self._silent_s - self._probed_s >= ECHO_AFTER_S:
            self._probed_s = self._silent_s
            self._send({"method": "echo", "params": [], "id": "echo"})

    def _end(self, streams: Streams) -> None:
        if self._synced_at is not None:
            self._backoff.lasted(time.monotonic() - self._synced_at)
        self._writer = self._synced_at = self._unread_since = None
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
                self._refused = clean(json.dumps(error))
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
        self._synced_at, self._left = time.monotonic(), ""
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
                self._unsaid_since = time.monotonic()
                await self._listener.rows(self._number, report)
                self._unsaid_since = None
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
        if request["do"] == "mirrors":
            operations, taken = change_mirrors(self._replica, request)
        else:
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
