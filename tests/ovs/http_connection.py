"""An HTTP exchange over bridges, frame by frame: each is sent once the previous has arrived."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.ovs.endpoint import Endpoint
from tests.ovs.suricata import MARK, URI
from tests.ovs.waiting import wait_for

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
PORT = 80


class HttpConnection:
    """One TCP connection between two endpoints; ``port`` is the client's.

    With ``bad_checksums`` every TCP checksum is wrong, as with checksum offload.
    """

    def __init__(
        self, client: Endpoint, server: Endpoint, port: int = 40000, *, bad_checksums: bool = False
    ) -> None:
        self._client, self._server, self.port, self._bad_checksums = (
            client,
            server,
            port,
            bad_checksums,
        )
        self._next = {True: 1000, False: 5000}

    def open(self) -> None:
        """The three-way handshake."""
        self._send(True, "S")
        self._send(False, "SA")
        self._send(True, "A")

    def get(self, uri: str = URI, body: str = MARK) -> None:
        """One request and its response."""
        request = f"GET {uri} HTTP/1.1\r\nHost: web.example\r\nUser-Agent: test\r\n\r\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        self._send(True, "PA", request.encode())
        self._send(False, "PA", (head + body).encode())
        self._send(True, "A")

    def close(self) -> None:
        """The frames that close it."""
        self._send(False, "FA")
        self._send(True, "FA")
        self._send(False, "A")

    def exchange_all(self, uri: str = URI, body: str = MARK) -> None:
        """Open, one request and its response, close."""
        self.open()
        self.get(uri, body)
        self.close()

    def _send(self, is_client: bool, flags: str, data: bytes = b"") -> None:
        frame = self._frame(is_client, flags, data)
        here, there = self._client, self._server
        if not is_client:
            here, there = there, here
        list(_received(there))
        here.send(frame)
        got: list[bytes] = []

        def has_arrived() -> bool:
            got.extend(_received(there))
            return frame in got

        wait_for(has_arrived, bool)
        self._next[is_client] += len(data) + ("S" in flags or "F" in flags)

    def _frame(self, is_client: bool, flags: str, data: bytes) -> bytes:
        macs, ends = (CLIENT_MAC, SERVER_MAC), (CLIENT, SERVER)
        ports = (self.port, PORT)
        order = slice(None) if is_client else slice(None, None, -1)
        (source_mac, to_mac), (source, to), (source_port, to_port) = (
            pair[order] for pair in (macs, ends, ports)
        )
        ack = 0 if flags == "S" else self._next[not is_client]
        tcp = TCP(sport=source_port, dport=to_port, flags=flags, seq=self._next[is_client], ack=ack)
        packet = IP(src=source, dst=to) / tcp / Raw(data)
        frame = bytes(Ether(src=source_mac, dst=to_mac) / packet)
        if self._bad_checksums:
            frame = frame[:50] + bytes([frame[50] ^ 0x55, frame[51]]) + frame[52:]
        return frame.ljust(60, b"\0")


def _received(endpoint: Endpoint) -> Iterator[bytes]:
    while (frame := endpoint.receive_raw()) is not None:
        yield frame
