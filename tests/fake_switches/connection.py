"""Fake switches on connections: thousands in one event loop, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

from tests.fake_switches.model import FakeSwitch

LENGTH = Struct("!xxH")
RECONNECT_S = 0.05
TELL_AGAIN_S = 0.02
CONNECTING_AT_ONCE = 200
"""Connections that are opened at one time: more overflow the backlog of the listener."""


class Connection(asyncio.Protocol):
    """One connection of one switch."""

    def __init__(self, switch: FakeSwitch, ended: Callable[[], None] = lambda: None) -> None:
        self.switch, self._ended = switch, ended
        self._buffer = b""
        self.transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.switch.hello())
        # later: Python 3.11.2 begins to read after this, paused or not
        asyncio.get_running_loop().call_soon(self.follow_faults)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at, buffer = 0, self._buffer
        out: list[bytes] = []
        while len(buffer) - at >= 8:
            length = max(8, LENGTH.unpack_from(buffer, at)[0])
            if len(buffer) - at < length:
                break
            out += self.switch.answer(buffer[at : at + length], self)
            at += length
            limit = self.switch.faults.disconnect_after
            if limit is not None and self.switch.received >= limit:
                self.switch.faults.disconnect_after = None
                self.drop()
                return
        self._buffer = buffer[at:]
        if out and self.transport is not None:
            self.transport.write(b"".join(out))
        self.follow_faults()

    def follow_faults(self) -> None:
        """Resume or pause reading as the faults demand."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.switch.faults.reads:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def drop(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.switch.disconnected(self)
        if not self.done.done():
            self.done.set_result(None)


class Fleet:
    """Switches that connect to a controller, and connect again when the connection ends."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.switches: dict[int, FakeSwitch] = {}
        self.connections: dict[int, Connection] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._slots = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._thread.start()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def add(self, *switches: FakeSwitch) -> None:
        """Let more switches connect."""
        for switch in switches:
            self.switches[switch.dpid] = switch
        self._run(self._start, switches)

    def drop_all(self) -> None:
        """End every connection at the same time; all connect again."""

        def drop() -> None:
            for connection in [*self.connections.values()]:
                connection.drop()

        self._run(drop)

    def drop(self, dpid: int, *, restart: bool = False) -> None:
        """End one connection; with ``restart`` the switch has lost its flows when it is back."""

        def end() -> None:
            if restart:
                self.switches[dpid].restart()
            if dpid in self.connections:
                self.connections[dpid].drop()

        self._run(end)

    def tell(self, dpid: int, *messages: bytes) -> None:
        """Have a switch send unsolicited messages; nothing while it is not connected."""

        def write() -> None:
            connection = self.connections.get(dpid)
            if connection is not None and connection.transport is not None:
                connection.transport.write(b"".join(messages))

        self._run(write)

    def tell_on(self, dpid: int, *messages: bytes) -> None:
        """Have a switch send messages again and again, until the connection that it has ends."""
        data = b"".join(messages)

        def write(connection: Connection) -> None:
            transport = connection.transport
            if transport is None or transport.is_closing():
                return
            if not transport.get_write_buffer_size():
                transport.write(data)
            self._loop.call_later(TELL_AGAIN_S, write, connection)

        self._run(lambda: write(self.connections[dpid]))

    def follow_faults(self) -> None:
        """Apply changed faults of switches."""

        def follow() -> None:
            for connection in self.connections.values():
                connection.follow_faults()

        self._run(follow)

    def close(self) -> None:
        """End every connection for good."""

        def stop() -> None:
            for task in self._tasks:
                task.cancel()
            for connection in [*self.connections.values()]:
                connection.drop()

        self._run(stop)
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _drain(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, switches: tuple[FakeSwitch, ...]) -> None:
        self._tasks += [self._loop.create_task(self._stay_connected(s)) for s in switches]

    async def _stay_connected(self, switch: FakeSwitch) -> None:
        while True:
            try:
                async with self._slots:
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(switch), *self._address
                    )
            except OSError:
                again = self._loop.create_future()
                self._loop.call_later(RECONNECT_S, again.set_result, None)
                await again
                continue
            self.connections[switch.dpid] = connection
            await connection.done
            if self.connections.get(switch.dpid) is connection:
                del self.connections[switch.dpid]

    def _run(self, call: Callable[..., object], *arguments: object) -> None:
        """Call in the event loop, and wait until it is done."""

        async def run() -> None:
            call(*arguments)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)


@contextmanager
def serve_unix(switch: FakeSwitch, folder: Path) -> Iterator[Path]:
    """Offer a switch as Open vSwitch offers a bridge: at FOLDER/NAME.mgmt."""
    loop = asyncio.new_event_loop()
    path = folder / f"{switch.name}.mgmt"
    server = loop.run_until_complete(loop.create_unix_server(lambda: Connection(switch), path))
    thread = threading.Thread(target=loop.run_forever, name="fake switch", daemon=True)
    thread.start()
    try:
        yield path
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
