"""A connection of our own to a bridge of this machine, over the socket that Open vSwitch offers.

It needs no controller framework, and the bridge no controller: for tests, benchmarks and tools.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from struct import Struct, error
from types import TracebackType

from controller.southbound.errors import SwitchUnfit, SwitchUnreachable
from controller.southbound.openflow.channel import OWN_XID, TIMEOUT_S, XID_BITS
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.wire.flow import HEADER, VERSION, encode_message
from controller.southbound.wire.message import (
    ECHO_REPLY,
    ECHO_REQUEST,
    FEATURES_REPLY,
    FEATURES_REQUEST,
    HELLO,
)
from flows.model.session import Dpid

RUN_DIRECTORY = "/run/openvswitch"
HELLO_VERSIONS = Struct("!HHI")
"""Hello element 1: a bitmap of versions; OpenFlow 1.3 is bit 4."""
FEATURES_DPID = Struct("!Q")
READ_BYTES = 1 << 18


class ManagedSwitch(OpenFlowSwitch):
    """A bridge behind a socket and a thread of our own; ``close`` ends both."""

    def __init__(self, name: str, stream: Stream, dpid: Dpid, timeout_s: float) -> None:
        super().__init__(dpid, name, stream.send, timeout_s)
        self._stream = stream
        self._reader = threading.Thread(target=self._read, name=f"openflow {name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> ManagedSwitch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the bridge keeps its flows."""
        self._stream.close()
        self._reader.join()

    def _read(self) -> None:
        while (message := self._stream.receive()) is not None:
            if HEADER.unpack_from(message)[3] >> XID_BITS == OWN_XID:
                self.on_message(message)
        self.on_disconnect()


class Stream:
    """Whole OpenFlow messages over a connected socket; echo requests are answered by themselves."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = b""
        self._at = 0
        self._sending = threading.Lock()

    def send(self, data: bytes) -> bool:
        """Send whole messages; False when the connection is over."""
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """The next message; None when the connection is over."""
        while True:
            length = self._next_length()
            while length is None or len(self._buffer) - self._at < length:
                if not self._fill():
                    return None
                length = self._next_length()
            message = self._buffer[self._at : self._at + length]
            self._at += length
            if message[1] != ECHO_REQUEST:
                return message
            xid = HEADER.unpack_from(message)[3]
            self.send(encode_message(ECHO_REPLY, xid, message[HEADER.size :]))

    def close(self) -> None:
        """End the connection; whoever receives gets None."""
        with suppress(OSError):  # the other side may have been first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _next_length(self) -> int | None:
        if len(self._buffer) - self._at < HEADER.size:
            return None
        return max(HEADER.size, int(HEADER.unpack_from(self._buffer, self._at)[2]))

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(READ_BYTES)
        except (OSError, EOFError):  # green sockets that were closed raise EOFError
            return False
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        return bool(data)


def open_management(
    bridge: str, run_directory: str = RUN_DIRECTORY, timeout_s: float = TIMEOUT_S
) -> ManagedSwitch:
    """Connect to a bridge of this machine.

    Raises:
        SwitchUnreachable: there is no such bridge, or Open vSwitch does not run.
        SwitchUnfit: the bridge does not speak OpenFlow 1.3.
    """
    path = f"{run_directory}/{bridge}.mgmt"
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout_s)
    try:
        connected.connect(path)
    except OSError as problem:
        connected.close()
        raise SwitchUnreachable(bridge, path, problem.strerror or str(problem)) from problem
    stream = Stream(connected)
    try:
        dpid = _shake_hands(bridge, path, stream)
    except BaseException:
        stream.close()
        raise
    connected.settimeout(None)
    return ManagedSwitch(bridge, stream, dpid, timeout_s)


def _shake_hands(bridge: str, path: str, stream: Stream) -> Dpid:
    stream.send(encode_message(HELLO, 1, HELLO_VERSIONS.pack(1, 8, 1 << VERSION)))
    hello = stream.receive()
    if hello is None:
        raise SwitchUnreachable(bridge, path, "it closed the connection")
    if not _speaks_our_version(hello):
        raise SwitchUnfit(bridge, ("OpenFlow 1.3",))
    stream.send(encode_message(FEATURES_REQUEST, 2))
    while (message := stream.receive()) is not None:
        if message[1] == FEATURES_REPLY:
            return Dpid(FEATURES_DPID.unpack_from(message, HEADER.size)[0])
    raise SwitchUnreachable(bridge, path, "it closed the connection")


def _speaks_our_version(hello: bytes) -> bool:
    if hello[1] != HELLO:
        return False
    try:
        kind, _, versions = HELLO_VERSIONS.unpack_from(hello, HEADER.size)
        return kind == 1 and bool(versions >> VERSION & 1)
    except error:
        return hello[0] >= VERSION
