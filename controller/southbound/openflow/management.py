"""An OpenFlow connection to a bridge of this machine over its management socket (BRIDGE.mgmt).

It needs no controller framework, and the bridge needs no controller: for tests, benchmarks, tools.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from struct import Struct, error
from types import TracebackType

from controller.process import BackgroundThread
from controller.southbound.errors import SwitchUnfit, SwitchUnreachable
from controller.southbound.openflow.channel import TIMEOUT_S
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.unixctl import RUN_DIRECTORY
from controller.southbound.wire import (
    ECHO_REPLY,
    ECHO_REQUEST,
    FEATURES_REPLY,
    FEATURES_REQUEST,
    HEADER,
    HELLO,
    VERSION,
    encode_message,
)
from flows.model import Dpid
from flows.openflow import OWN_XID, XID_BITS

HELLO_VERSIONS = Struct("!HHI")
"""Hello element 1: a bitmap of versions; OpenFlow 1.3 is bit 4."""
FEATURES_DPID = Struct("!Q")
READ_BYTES = 1 << 18


class ManagedSwitch(OpenFlowSwitch):
    """A bridge behind a management connection, read by a thread of its own; ``close`` ends both."""

    def __init__(self, name: str, stream: Stream, dpid: Dpid, timeout_s: float) -> None:
        super().__init__(dpid, name, stream.send, timeout_s)
        self._stream = stream
        self._reader = BackgroundThread(self._read, name=f"openflow {name}")
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
        """Close the connection; the bridge keeps its flows."""
        self._stream.close()
        self._reader.wait()

    def _read(self) -> None:
        while (message := self._stream.receive()) is not None:
            if HEADER.unpack_from(message)[3] >> XID_BITS == OWN_XID:
                self.on_message(message)
        self.on_disconnect()


class Stream:
    """Whole OpenFlow messages over a connected socket; it answers echo requests by itself."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = b""
        self._offset = 0
        self._sending = threading.Lock()

    def send(self, data: bytes) -> bool:
        """Send whole messages; False if the connection is over."""
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Wait for the next message; None if the connection is over."""
        while True:
            length = self._next_length()
            while length is None or len(self._buffer) - self._offset < length:
                if not self._fill():
                    return None
                length = self._next_length()
            message = self._buffer[self._offset : self._offset + length]
            self._offset += length
            if message[1] != ECHO_REQUEST:
                return message
            xid = HEADER.unpack_from(message)[3]
            self.send(encode_message(ECHO_REPLY, xid, message[HEADER.size :]))

    def close(self) -> None:
        """Close the connection; a thread in ``receive`` gets None."""
        with suppress(OSError):  # the peer may have closed it already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _next_length(self) -> int | None:
        if len(self._buffer) - self._offset < HEADER.size:
            return None
        return max(HEADER.size, int(HEADER.unpack_from(self._buffer, self._offset)[2]))

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(READ_BYTES)
        except (OSError, EOFError):  # green sockets that were closed raise EOFError
            return False
        self._buffer, self._offset = self._buffer[self._offset :] + data, 0
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
        dpid = _handshake(bridge, path, stream)
    except BaseException:
        stream.close()
        raise
    connected.settimeout(None)
    return ManagedSwitch(bridge, stream, dpid, timeout_s)


def _handshake(bridge: str, path: str, stream: Stream) -> Dpid:
    stream.send(encode_message(HELLO, 1, HELLO_VERSIONS.pack(1, 8, 1 << VERSION)))
    hello = stream.receive()
    if hello is None:
        raise SwitchUnreachable(bridge, path, "it closed the connection")
    if not _supports_version(hello):
        raise SwitchUnfit(bridge, ("OpenFlow 1.3",))
    stream.send(encode_message(FEATURES_REQUEST, 2))
    while (message := stream.receive()) is not None:
        if message[1] == FEATURES_REPLY:
            return Dpid(FEATURES_DPID.unpack_from(message, HEADER.size)[0])
    raise SwitchUnreachable(bridge, path, "it closed the connection")


def _supports_version(hello: bytes) -> bool:
    if hello[1] != HELLO:
        return False
    try:
        kind, _, versions = HELLO_VERSIONS.unpack_from(hello, HEADER.size)
        return kind == 1 and bool(versions >> VERSION & 1)
    except error:
        return hello[0] >= VERSION
