"""The peer of a veth port of a bridge: sends and receives whole Ethernet frames with VLAN tags."""

from __future__ import annotations

import socket
import struct

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 6, 8, 23
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
AUXDATA = struct.Struct("=IIIHHHH")
"""tpacket_auxdata of linux/if_packet.h: status, len, snaplen, mac, net, vlan_tci, vlan_tpid."""
RECEIVE_BUFFER = 64 << 20
FRAME_MAX = 65_600


class FramesLost(AssertionError):
    """The socket of the test was too slow and has lost frames."""


class Endpoint:
    """The peer of a port, in place of the network card of a VM.

    The kernel strips the outer VLAN tag of a received frame and reports it as ancillary data;
    ``receive_raw`` inserts it again, so frames are byte for byte those that the bridge sent.
    """

    def __init__(self, bridge: str, ofport: int, interface: str, far: str) -> None:
        self.bridge, self.ofport, self.interface, self.far = bridge, ofport, interface, far
        self.frames: list[bytes] = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((far, ETH_P_ALL))
        self._socket.setblocking(False)

    def __repr__(self) -> str:
        return f"<{self.interface}: port {self.ofport} of {self.bridge}>"

    def fileno(self) -> int:
        """The descriptor of the socket, for select and epoll."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        """Send one whole frame."""
        self._socket.send(frame)

    def receive_all(self) -> list[bytes]:
        """The frames that ``Lab.flush`` has collected here, and removes them."""
        frames, self.frames = self.frames, []
        return frames

    def receive_raw(self) -> bytes | None:
        """The next frame in the socket, or None when there is none now."""
        try:
            frame, notes, _, _ = self._socket.recvmsg(FRAME_MAX, 64)
        except BlockingIOError:
            return None
        for level, kind, data in notes:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, *_, tci, tpid = AUXDATA.unpack_from(data)
                if status & TP_STATUS_VLAN_VALID:
                    tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
        return frame

    def check_nothing_was_lost(self) -> None:
        """Fail when the kernel dropped frames because this socket was full."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        _, lost = struct.unpack("=II", statistics)
        if lost:
            raise FramesLost(f"{self!r}: the receiving socket lost {lost} frames")

    def close(self) -> None:
        """Close the socket; the cable stays."""
        self._socket.close()
