"""OVSDB servers of our own that misbehave: real sockets, a thread for each connection."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from controller.databases.framing import JsonSplitter
from tests.controller.databases.random_databases import RandomDatabase, Tables, initial2, uuid_of

PATIENCE_S = 120.0
"""How long a server waits for anything."""
Update = Mapping[str, Any]


class Connection:
    """One client of a server."""

    def __init__(self, peer: socket.socket, stopping: threading.Event) -> None:
        self.peer, self.stopping = peer, stopping
        self._splitter, self._waiting = JsonSplitter(), list[dict[str, Any]]()

    def receive(self) -> dict[str, Any] | None:
        """The next message of the client; None at the end."""
        while not self._waiting:
            chunk = self.peer.recv(1 << 16)
            if not chunk:
                return None
            self._waiting += self._splitter.feed(chunk)
        return self._waiting.pop(0)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        self.peer.sendall(json.dumps(message).encode())

    def send_rows(self, tables: Tables) -> None:
        """Wait for the request to watch, and answer it."""
        request = self.receive()
        if request is None:
            raise ConnectionError("the client has gone")
        assert request["method"] == "monitor_cond", request
        self.send({"id": request["id"], "error": None, "result": initial2(tables)})

    def update(self, update: Update) -> None:
        """Report a change of rows."""
        self.send({"id": None, "method": "update2", "params": ["monitor_cond", update]})

    def serve(self, answer: Callable[[dict[str, Any]], Any] | None = None) -> None:
        """Answer echo requests, and others as told, until the client goes."""
        while (message := self.receive()) is not None:
            if message.get("method") == "echo":
                self.send({"id": message["id"], "error": None, "result": message["params"]})
            elif message.get("method") and answer is not None:
                found = answer(message)
                if found is not None:
                    self.send({"id": message["id"], "error": None, "result": found})

    def flood(self, chunk: bytes) -> None:
        """Send the same again and again, until the client goes."""
        while not self.stopping.is_set():
            self.peer.sendall(chunk)

    def trickle(self, data: bytes, pause_s: float) -> None:
        """Send a byte, pause, send the next one; until the client goes."""
        for number in range(1 << 30):
            self.peer.sendall(data[number % len(data) :][:1])
            if self.stopping.wait(pause_s):
                return


Behaviour = Callable[[Connection], None]


class HostileDatabase:
    """A server that does the same to each client; ``connections`` counts them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour, self._stopping = behaviour, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self.connections = 0
        self.remote = f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close everything."""
        self._stopping.set()
        for each in (self._listening, *self._peers):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in (self._accepting, *self._threads):
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            peer.settimeout(PATIENCE_S)
            self._peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError):  # the client has gone
            self._behaviour(Connection(peer, self._stopping))
        with suppress(OSError):
            peer.close()


@contextmanager
def databases(*behaviours: Behaviour) -> Iterator[list[HostileDatabase]]:
    """Servers with these behaviours."""
    servers = [HostileDatabase(behaviour) for behaviour in behaviours]
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def one_bridge(dpid: str = "00000000000000ff", ports: int = 1) -> RandomDatabase:
    """A database with one bridge ``br2``, which has some ports."""
    database = RandomDatabase(0)
    database.add_bridge()
    database.add_ports(uuid_of(2), ports)
    database.tables["Bridge"][uuid_of(2)]["datapath_id"] = frozenset([dpid])
    return database


# --- behaviours ----------------------------------------------------------------------------------


def says_nothing(connection: Connection) -> None:
    """Accept, and that is all."""
    while connection.receive() is not None:
        pass


def closes(connection: Connection) -> None:
    """Close at once."""


def sends_a_string_without_end(connection: Connection) -> None:
    """The answer begins well."""
    connection.receive()
    connection.peer.sendall(b'{"id":"monitor_cond","error":null,"result":{"Bridge":{"')
    connection.flood(b"a" * (1 << 16))


def sends_values_without_end(connection: Connection) -> None:
    """A list of small values, for ever."""
    connection.receive()
    connection.peer.sendall(b'{"id":"monitor_cond","error":null,"result":[')
    connection.flood(b"[]," * (1 << 14))


def sends_messages_without_end(connection: Connection) -> None:
    """Echo requests as fast as they go; the answers are not read."""
    connection.flood(b'{"method":"echo","params":[],"id":1}' * 1000)


def sends_garbage(connection: Connection) -> None:
    """No JSON at all."""
    connection.flood(bytes(range(256)) * 256)


def trickles(connection: Connection) -> None:
    """A byte now and then, never a message."""
    connection.receive()
    connection.trickle(b'{"id":"x","result":[' + b" " * 1000, 0.5)


def goes_silent(connection: Connection) -> None:
    """Rows at first, then nothing more, not even to an echo request."""
    connection.send_rows(one_bridge().tables)
    says_nothing(connection)


def never_sends_its_rows(connection: Connection) -> None:
    """An answer to each echo request, and to nothing else."""
    connection.serve()


def refuses_to_be_watched(connection: Connection) -> None:
    """An error to whoever wants its rows."""
    while (message := connection.receive()) is not None:
        result = message["params"] if message["method"] == "echo" else None
        error = None if message["method"] == "echo" else "unknown method"
        connection.send({"id": message["id"], "error": error, "result": result})


def goes_with_echo_requests(connection: Connection) -> None:
    """Many echo requests at once, and a reset: nothing can be answered any more."""
    connection.peer.sendall(b'{"method":"echo","id":"x","params":[]}' * 40_000)
    linger = struct.pack("ii", 1, 0)
    connection.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def renumbers_as_fast_as_it_goes(connection: Connection) -> None:
    """An interface gets another number, again and again."""
    database = one_bridge()
    connection.send_rows(database.tables)
    interface = next(iter(database.tables["Interface"]))
    updates = [
        {
            "id": None,
            "method": "update2",
            "params": ["monitor_cond", {"Interface": {interface: {"modify": {"ofport": number}}}}],
        }
        for number in range(1, 200)
    ]
    connection.flood("".join(map(json.dumps, updates)).encode())


def refuses_writes(connection: Connection) -> None:
    """Rows, and an answer to everything but transactions."""
    connection.send_rows(one_bridge().tables)
    connection.serve()


def has_datapath_id(text: str) -> Behaviour:
    """A bridge with this datapath id."""

    def serve(connection: Connection) -> None:
        connection.send_rows(one_bridge(text).tables)
        connection.serve()

    return serve


def has_a_long_iface_id(connection: Connection) -> None:
    """An iface-id of 1 MB."""
    database = one_bridge()
    (row,) = database.tables["Interface"].values()
    row["external_ids"] = {"iface-id": "x" * 1_000_000}
    connection.send_rows(database.tables)
    connection.serve()


def has_interfaces(count: int) -> Behaviour:
    """A bridge with so many interfaces, one of which flaps as fast as it goes."""
    database = one_bridge(ports=count)
    reply = json.dumps({"id": "monitor_cond", "error": None, "result": initial2(database.tables)})
    interface = next(iter(database.tables["Interface"]))

    def serve(connection: Connection) -> None:
        connection.receive()
        connection.peer.sendall(reply.encode())
        state = "down"
        while not connection.stopping.wait(0.001):
            state = "up" if state == "down" else "down"
            connection.update({"Interface": {interface: {"modify": {"link_state": state}}}})

    return serve


def sends_what_takes_memory(connection: Connection) -> None:
    """A message that is short enough, of values that each take many times their bytes."""
    connection.receive()
    values = b"{}," * (7 << 20)
    connection.peer.sendall(b'{"id":"monitor_cond","error":null,"result":[' + values + b"{}]}")
    says_nothing(connection)
