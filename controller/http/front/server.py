"""Accepts connections: how many there may be, who makes room for whom, and TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

import structlog

from controller.http.errors import BadApiCertificate
from controller.http.front.answer import HttpAnswer
from controller.http.front.connection import Connection, ConnectionPhase
from controller.http.front.dispatch import RequestDispatcher, WholeRequest, receive_message
from controller.http.front.head import RequestHead
from controller.http.settings import FrontSettings

HTTP_RECEIVE_BYTES = 16 * 1024
"""Most bytes that one connection receives before others have their turn."""
ACCEPTS = 64
"""Connections that are accepted before others have their turn."""
BODIES, BODIES_PER_CLIENT = 96 << 20, 32 << 20
"""Bytes of bodies that may be in memory."""
HTTPS_HANDSHAKE_S = 10.0
"""How long a whole TLS handshake may take, in seconds."""
REPORT_S = 2.0
"""Interval of the reports to the controller, in seconds."""
HTTP_ACCEPT_PAUSE_S = 0.5
"""Pause after a failed accept(), in seconds, as when no file descriptor is left."""
LOOK_AT_ANSWERS_S = 0.02
"""How often a front that stops looks whether all answers are sent, in seconds."""
ANSWERING = frozenset({ConnectionPhase.WAITING, ConnectionPhase.WRITING})
QUIET_S = 60.0
"""The same warning is logged once in so many seconds."""

log = structlog.get_logger("controller.http.front")


async def serve(parent: socket.socket, listener: socket.socket) -> None:
    """Serve until the parent closes its end; its first message are the settings."""
    reader, writer = await asyncio.open_connection(sock=parent)
    message = await receive_message(reader)
    if message is None:
        return
    settings = FrontSettings.from_json(message.head)
    dispatcher = RequestDispatcher(reader, writer)
    server = Server(settings, dispatcher, listener)
    server.start()
    await dispatcher.receive(server.learn)
    server.stop()
    rest = asyncio.create_task(dispatcher.receive(server.learn))
    while server.is_answering:
        await asyncio.sleep(LOOK_AT_ANSWERS_S)
    rest.cancel()


class Server:
    """All connections of all clients."""

    def __init__(
        self, settings: FrontSettings, dispatcher: RequestDispatcher, listener: socket.socket
    ) -> None:
        self._settings, self._dispatcher, self._listener = settings, dispatcher, listener
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(HTTP_RECEIVE_BYTES))
        self._certificate = None if settings.tls is None else settings.tls.renewed()
        self._connections: dict[Connection, asyncio.Task[None] | None] = {}
        """Each with its TLS handshake while that lasts; oldest first."""
        self._is_stopping = self._is_paused = False
        self._bodies: Counter[str] = Counter()
        self._refused: Counter[int] = Counter()
        """Refusals since the last report, by status."""
        self._warned_at: dict[str, float] = {}

    def start(self) -> None:
        """Accept connections from now on, and report."""
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        self._report()

    def stop(self) -> None:
        """Accept no more connections, and drop those that ask for nothing."""
        self._loop.remove_reader(self._listener)
        self._is_stopping = True
        for connection in list(self._connections):
            if connection.phase not in ANSWERING:
                connection.drop()

    def learn(self, news: Mapping[str, Any]) -> None:
        """Use what the controller says from now on, also on connections that there are."""
        self._settings = replace(self._settings, token_digest=news["token_digest"])

    @property
    def is_answering(self) -> bool:
        """Whether some client still waits for an answer or takes it."""
        return any(one.phase in ANSWERING or one.unsent for one in self._connections)

    # --- what connections call ------------------------------------------------------------------

    @property
    def settings(self) -> FrontSettings:
        """Limits and secrets."""
        return self._settings

    @property
    def buffer(self) -> memoryview:
        """Where all connections receive."""
        return self._buffer

    def ask(self, request: WholeRequest) -> asyncio.Future[HttpAnswer]:
        """Pass a request to the controller."""
        return self._dispatcher.ask(request)

    @property
    def is_stopping(self) -> bool:
        """Whether no request is taken any more."""
        return self._is_stopping

    def may_wait(self, client: str, head: RequestHead) -> bool:
        """Whether one more request of this client may wait; health may, while there is room.

        A quarter of the connections are left for others, and for health.
        """
        if head.is_health:
            return True
        waiting = [one for one in self._connections if one.phase is ConnectionPhase.WAITING]
        of_client = sum(one.client == client for one in waiting)
        return (
            of_client < self._settings.connections_per_client * 3 // 4
            and len(waiting) < self._settings.connections * 3 // 4
        )

    def reserve(self, client: str, count: int) -> bool:
        """Take memory for a body, or give it back (a negative count)."""
        if count > 0 and (
            self._bodies[client] + count > BODIES_PER_CLIENT
            or self._bodies.total() + count > BODIES
        ):
            return False
        self._bodies[client] += count
        if not self._bodies[client]:
            del self._bodies[client]
        return True

    def make_room_for_answer(self, size: int) -> None:
        """Drop those who have taken longest over their answers, while there are too many bytes."""
        writing = [one for one in self._connections if one.unsent]
        unsent = sum(one.unsent for one in writing)
        for slow in sorted(writing, key=lambda one: one.since):
            if unsent + size <= self._settings.answers_bytes:
                return
            self._warn("slow client dropped", client=slow.client, bytes=slow.unsent)
            unsent -= slow.unsent
            slow.drop()

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._refused[status] += 1

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)

    # --- accepting ------------------------------------------------------------------------------

    def _accept(self) -> None:
        new: set[Connection] = set()
        for _ in range(ACCEPTS):
            try:
                accepted, address = self._listener.accept()
            except BlockingIOError:  # none is left that waits
                self._note_accepting()
                return
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._pause(error, new)
                return
            client = client_of(address)
            if not self._make_room(client):
                self._warn("connection refused", client=client, reason="all others are busy")
                accepted.close()
                continue
            accepted.setblocking(False)
            if accepted.family in (socket.AF_INET, socket.AF_INET6):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, client, str(address[0]))
            task = self._loop.create_task(self._open(connection, accepted))
            self._connections[connection] = task
            new.add(connection)

    def _pause(self, error: OSError, new: Set[Connection]) -> None:
        """Accept nothing for a moment; an idle connection gives its file descriptor back.

        Those that are ``new`` could not ask for anything yet.
        """
        self._is_paused = True
        self._warn(
            "no client can connect", reason=error.strerror or str(error),
            remedy="raise the limit of open files of this process (LimitNOFILE, ulimit -n)",
        )  # fmt: skip
        self._drop_one([one for one in self._connections if one not in new])
        self._loop.remove_reader(self._listener)
        self._loop.call_later(HTTP_ACCEPT_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if not self._is_stopping:
            self._loop.add_reader(self._listener, self._accept)
            self._accept()

    def _note_accepting(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._warn("clients can connect again")

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        """Connect the transport, with TLS if there is a certificate."""
        try:
            context = None
            if self._certificate is not None:
                self._certificate.look_again()
                context = self._certificate.value
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=None if context is None else HTTPS_HANDSHAKE_S,
            )
        except (OSError, BadApiCertificate) as error:  # ssl.SSLError is an OSError
            self._warn("TLS handshake failed", client=connection.address, reason=str(error))
            self.left(connection)
        except asyncio.CancelledError:
            self.left(connection)
        else:
            if connection in self._connections:
                self._connections[connection] = None

    def _make_room(self, client: str) -> bool:
        """Drop what is idle or slow if there are too many connections; False if none is."""
        mine = [one for one in self._connections if one.client == client]
        if len(mine) >= self._settings.connections_per_client:
            return self._drop_one(mine)
        if len(self._connections) >= self._settings.connections:
            counts = Counter(one.client for one in self._connections)
            most = max(counts.values())
            return self._drop_one([c for c in self._connections if counts[c.client] == most])
        return True

    def _drop_one(self, candidates: list[Connection]) -> bool:
        droppable = sorted(
            (one for one in candidates if one.may_be_dropped), key=lambda one: one.rank
        )
        if not droppable:
            return False
        chosen = next((one for one in droppable if not one.has_unread()), droppable[0])
        self._warn("idle connections dropped", client=chosen.client, connections=len(candidates))
        handshake = self._connections.pop(chosen)
        chosen.drop()
        if handshake is not None:
            handshake.cancel()
        return True

    # --- reports --------------------------------------------------------------------------------

    def _report(self) -> None:
        problem = None
        if self._certificate is not None:
            self._certificate.look_again()
            problem = self._certificate.problem
        refused = {str(status): count for status, count in self._refused.items()}
        self._refused.clear()
        self._dispatcher.tell(
            {"connections": len(self._connections), "refused": refused, "problem": problem}
        )
        self._loop.call_later(REPORT_S, self._report)

    def _warn(self, event: str, **keys: object) -> None:
        now = self._loop.time()
        if now - self._warned_at.get(event, -QUIET_S) >= QUIET_S:
            self._warned_at[event] = now
            log.warning(event, **keys)


def client_of(address: tuple[object, ...]) -> str:
    """Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
