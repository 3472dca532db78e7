"""The controller's side of the HTTP edge: receives checked requests, and calls a WSGI application.

The listening socket belongs to this process: while the front is started again, connections wait.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import structlog

from controller.http.errors import ApiAddressInUse
from controller.http.lanes import LANES, Lane, lane_of
from controller.http.settings import MAX_MESSAGE, FrontSettings
from controller.http.wsgi import call
from controller.process import (
    HTTP_CONNECTIONS,
    HTTP_REFUSALS,
    ChildProcess,
    ChildProgram,
    Message,
    MessageSocket,
    PeerGone,
)

FRONT_NAME = "HTTP front"
BACKLOG = 1024
"""Connections that the kernel holds until the front accepts them."""
FREE_S, BIND_AGAIN_S = 3.0, 0.1
"""How long to wait for an address that the front of a controller just killed still holds."""
FRONT_SILENCE_S = 60.0
"""A front that says nothing for so long hangs; it reports every two seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A request, and where its answer goes."""

    message: Message
    front: MessageSocket


class HttpServer:
    """Serves a WSGI application over HTTP; the requests come from a process of its own.

    ``address`` is (host, port) as bound, also for port 0.

    Raises:
        ApiAddressInUse: the address cannot be listened on.
        BadApiCertificate: certificate or private key cannot be used.
    """

    def __init__(self, app: Any, host: str, port: int, settings: FrontSettings) -> None:
        if settings.tls is not None:
            settings.tls.context()
        self._app, self._settings = app, settings
        self._telling = threading.Lock()
        self._front: MessageSocket | None = None
        self._listener = _listen(host, port)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._jobs: dict[str, queue.Queue[_Job | None]] = {
            lane.name: queue.Queue(lane.threads) for lane in LANES
        }
        self._complaint: str | None = None
        self._heard_at = time.monotonic()
        self._is_stopped = threading.Event()
        program = ChildProgram(
            FRONT_NAME, "controller.http.front", MAX_MESSAGE, (self._listener.fileno(),)
        )
        self._child = ChildProcess(program, self._talk)
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"http {lane.name}", daemon=True)
            for lane in LANES
            for _ in range(lane.threads)
        ]

    def start(self) -> None:
        """Start the front and the threads that answer."""
        self._child.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer the requests that have arrived, then close the address; any number of times."""
        if self._is_stopped.is_set():
            return
        self._is_stopped.set()
        self._child.stop(Message({"stop": True}))
        self._listener.close()
        for lane in LANES:
            for _ in range(lane.threads):
                self._drop_jobs(lane)
                self._jobs[lane.name].put(None)

    def use_token(self, digest: str | None) -> None:
        """Ask for another token from now on; its digest is that of ``token_digest``."""
        with self._telling:  # a front that starts meanwhile gets it with its settings
            self._settings = replace(self._settings, token_digest=digest)
            if self._front is not None:
                with contextlib.suppress(PeerGone):  # the next front learns it as it starts
                    self._front.send(Message({"token_digest": digest}))

    @property
    def front_pid(self) -> int | None:
        """The process id of the front."""
        return self._child.pid

    def problems(self) -> tuple[str, ...]:
        """Sentences on what is wrong with the front."""
        return tuple(filter(None, (self._child.problem, self._complaint)))

    def _talk(self, front: MessageSocket) -> None:
        """Receive requests from one front until it ends."""
        with self._telling:
            front.send(Message(self._settings.to_json()))
            self._front = front
        self._heard_at = time.monotonic()
        is_over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(front, is_over), daemon=True)
        watch.start()
        try:
            while (message := front.receive()) is not None:
                self._heard_at = time.monotonic()
                self._receive(message, front)
        finally:
            is_over.set()
            self._front = self._complaint = None

    def _receive(self, message: Message, front: MessageSocket) -> None:
        if "id" not in message.head:
            self._complaint = message.head["problem"]
            HTTP_CONNECTIONS.set(message.head["connections"])
            for status, count in message.head["refused"].items():
                HTTP_REFUSALS.labels(status).inc(count)
            return
        lane = lane_of(message.head["path"], message.head["method"])
        try:
            self._jobs[lane.name].put_nowait(_Job(message, front))
        except queue.Full:
            raise PeerGone("it sent more requests than it may") from None

    def _watch(self, front: MessageSocket, is_over: threading.Event) -> None:
        while not is_over.wait(FRONT_SILENCE_S / 10):
            if time.monotonic() - self._heard_at > FRONT_SILENCE_S:
                log.error("HTTP front hangs", seconds=FRONT_SILENCE_S)
                front.end()
                return

    def _work(self, lane: Lane) -> None:
        while (job := self._jobs[lane.name].get()) is not None:
            answer = call(self._app, job.message, self.address, self._settings.tls is not None)
            head = {"id": job.message.head["id"], "status": answer.status}
            try:
                job.front.send(Message({**head, "headers": answer.headers}, answer.body))
            except PeerGone:
                continue  # this front has ended; so have the connections of its clients
            except ValueError:
                log.error("answer too long", path=job.message.head["path"], bytes=MAX_MESSAGE)
                job.front.end()  # whoever waits for it learns that the connection has ended

    def _drop_jobs(self, lane: Lane) -> None:
        while True:
            try:
                self._jobs[lane.name].get_nowait()
            except queue.Empty:
                return


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_both = host == "::" and socket.has_dualstack_ipv6()
    deadline = time.monotonic() + FREE_S
    while True:
        try:
            return socket.create_server(
                (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_both
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise ApiAddressInUse(host, port, error) from error
        time.sleep(BIND_AGAIN_S)
