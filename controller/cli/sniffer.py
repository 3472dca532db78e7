"""Listens to an interface of a sensor, in whatever network namespace it is."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from controller.cli.client import Failure
from flows.beacon.arrivals import Arrivals
from flows.beacon.beacon import MAGIC

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 6, 8, 23
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
AUXDATA = struct.Struct("=IIIHHHH")
"""tpacket_auxdata of linux/if_packet.h: status, len, snaplen, mac, net, vlan_tci, vlan_tpid."""
RECEIVE_BUFFER = 64 << 20
FRAME_MAX = 65_600
CLONE_NEWNET = 0x40000000
NAMED = Path("/run/netns")
"""Where `ip netns` keeps the namespaces that have a name."""
PROCESSES = Path("/proc")
MININET = "mininet:"
LOOK_S = 0.05
LINGER_S = 0.2


class Listener:
    """Takes every frame that arrives at an interface, inside a `with` block.

    ``namespace`` is the name of one (`ip netns`), a path, the number of a process in it, or
    ``mininet:HOST`` for the host of a running Mininet.

    Raises:
        Failure: there is no such interface or namespace, or one may not listen.
    """

    def __init__(self, interface: str, namespace: str | None) -> None:
        self.arrivals = Arrivals()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._socket = _inside(namespace, lambda: _open(interface, namespace))
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def wait(self, run: int, frames: int, seconds: float) -> None:
        """Return a moment after so many frames of a check have arrived, or when time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._is_over.wait(LOOK_S):
            with self._lock:
                has_all = self.arrivals.count(run) >= frames
            if has_all:
                self._is_over.wait(LINGER_S)  # what arrives twice shall not be overlooked
                return

    def missed(self) -> int:
        """How many frames the kernel dropped because this socket was full."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", statistics)[1])

    def _listen(self) -> None:
        while not self._is_over.is_set():
            if select.select([self._socket], [], [], LOOK_S)[0]:
                with self._lock:
                    while (frame := _receive(self._socket)) is not None:
                        if MAGIC in frame:
                            self.arrivals.take(frame)


def _receive(source: socket.socket) -> bytes | None:
    """The next frame as it was on the wire: the kernel reports the outer tag beside it."""
    try:
        frame, notes, _, _ = source.recvmsg(FRAME_MAX, 64)
    except OSError:  # nothing there now, or the interface went away
        return None
    for level, kind, data in notes:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, *_, tci, tpid = AUXDATA.unpack_from(data)
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def _open(interface: str, namespace: str | None) -> socket.socket:
    where = "" if namespace is None else f" in network namespace {namespace!r}"
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as error:
        raise Failure("listening needs root (CAP_NET_RAW): run it with sudo") from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        opened.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        opened.bind((interface, ETH_P_ALL))
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise Failure(f"cannot listen on {interface!r}{where}: {error.strerror}") from error
    return opened


def _inside(namespace: str | None, make: Callable[[], socket.socket]) -> socket.socket:
    """Make a socket in a namespace; only a thread that ends goes there, this one stays."""
    if namespace is None:
        return make()
    path = _path(namespace)
    result: list[socket.socket | Failure] = []

    def run() -> None:
        try:
            _enter(path)
            result.append(make())
        except Failure as failure:
            result.append(failure)

    thread = threading.Thread(target=run, name="entering a namespace")
    thread.start()
    thread.join()
    [found] = result
    if isinstance(found, Failure):
        raise found
    return found


def _path(namespace: str) -> Path:
    if namespace.startswith(MININET):
        return Path(f"/proc/{_process_of(namespace)}/ns/net")
    if namespace.isdecimal():
        return Path(f"/proc/{namespace}/ns/net")
    return Path(namespace) if "/" in namespace else NAMED / namespace


def _process_of(host: str) -> str:
    """The shell of a Mininet host: it bears the host's name in its arguments."""
    for arguments in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may have ended
            if host.encode() in arguments.read_bytes().split(b"\0"):
                return arguments.parent.name
    raise Failure(f"no Mininet with a host {host.removeprefix(MININET)!r} runs here")


def _enter(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(
            f"there is no network namespace {str(path)!r} ({error.strerror}): name one of "
            "`ip netns list`, a path, or the number of a process in it"
        ) from error
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise Failure(f"cannot enter network namespace {str(path)!r}: {reason}")
    finally:
        os.close(descriptor)
