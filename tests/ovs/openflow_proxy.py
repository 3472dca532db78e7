"""A man in the middle between bridges and the controller, who keeps answers of switches back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from tests.ovs.controller_process import OPENFLOW

LISTEN = ("127.0.0.1", 7001)
PROXY_TARGET = f"tcp:{LISTEN[0]}:{LISTEN[1]}"
"""What a bridge needs as its controller to connect through it."""
HEADER_BYTES, CHUNK = 8, 65536
MULTIPART_REPLY, BARRIER_REPLY = 19, 21
METERS = 9
"""The kind of multipart replies that hold the counters of meters."""

Kept = Callable[[bytes], bool]


def is_meter_counters(message: bytes) -> bool:
    """Whether a message tells the counters of meters."""
    return message[1] == MULTIPART_REPLY and int.from_bytes(message[8:10], "big") == METERS


def is_barrier_reply(message: bytes) -> bool:
    """Whether a message confirms all that was sent before."""
    return message[1] == BARRIER_REPLY


class OpenFlowProxy:
    """Passes everything on, except the messages of switches that it ``keeps``; use it in `with`."""

    def __init__(self) -> None:
        self.keeps: Kept = lambda message: False
        host, port = OPENFLOW.split(":")
        self._controller = host, int(port)
        self._listener = socket.create_server(LISTEN)
        self._open: list[socket.socket] = []
        self.switches: list[socket.socket] = []
        """Connections of switches that it has had."""

    def __enter__(self) -> OpenFlowProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                switch, _ = self._listener.accept()
                try:
                    controller = socket.create_connection(self._controller)
                except OSError:
                    switch.close()
                    continue
                self._open += (switch, controller)
                self.switches.append(switch)
                for way in ((switch, controller, True), (controller, switch, False)):
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_switch: bool) -> None:
        rest = b""
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if not is_switch:
                    sink.sendall(data)
                    continue
                rest += data
                while len(rest) >= HEADER_BYTES:
                    length = int.from_bytes(rest[2:4], "big")
                    if len(rest) < length:
                        break
                    message, rest = rest[:length], rest[length:]
                    if not self.keeps(message):
                        sink.sendall(message)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
