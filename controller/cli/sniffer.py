"""Captures frames of `session verify` at a sensor's interface, in any network namespace."""

from __future__ import annotations

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
from controller.devices import enter_namespace
from controller.process import BackgroundThread, did_you_mean
from controller.syntax import is_number
from flows.beacon import MAGIC, Arrivals

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 6, 8, 23
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
AUXDATA = struct.Struct("=IIIHHHH")
"""tpacket_auxdata of linux/if_packet.h: status, len, snaplen, mac, net, vlan_tci, vlan_tpid."""
RECEIVE_BUFFER = 64 << 20
FRAME_MAX = 65_600
NAMED_NAMESPACES = Path("/run/netns")
"""Where `ip netns` mounts named namespaces."""
PROCESSES = Path("/proc")
MININET = "mininet:"
SELECT_TIMEOUT_S = 0.05
DUPLICATES_WAIT_S = 0.2
"""How long the socket stays open after the last expected frame, to see duplicates."""
BEHIND_S = 10.0
"""How long at most it reads what waits in its socket once the time is over, in seconds."""
FRAMES_TOGETHER = 256
"""Frames that are read before others may look at what has arrived."""


class Sniffer:
    """A packet socket on an interface that captures marked frames, inside a `with` block.

    ``namespace`` is a name (of `ip netns`), a path, the id of a process in it, or
    ``mininet:HOST`` for the host of a running Mininet.

    Raises:
        Failure: there is no such interface or namespace, or one may not listen.
    """

    def __init__(self, interface: str, namespace: str | None) -> None:
        self.arrivals = Arrivals()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._emptied = 0
        """How often the socket was found empty."""
        self.is_behind = False
        """Whether the last wait ended while frames waited in the socket."""
        self._socket = _open_inside(namespace, lambda: _open(interface, namespace))
        self._thread = BackgroundThread(self._capture, name="sniffer")

    def __enter__(self) -> Sniffer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.wait()
        self._socket.close()

    def wait(self, run: int, frames: int, seconds: float) -> None:
        """Block until ``frames`` frames of a run have arrived, or ``seconds`` have passed.

        What has arrived by then and waits in the socket is read, too: on a busy machine that may
        be all.
        """
        has_all = self._has_arrived(run, frames, lambda: False, seconds)
        wanted = self._emptied + 2  # it may have been found empty before the time was over
        if not has_all:
            has_all = self._has_arrived(run, frames, lambda: self._emptied >= wanted, BEHIND_S)
        if has_all:
            self._is_over.wait(DUPLICATES_WAIT_S)
        self.is_behind = not has_all and self._emptied < wanted

    def _has_arrived(
        self, run: int, frames: int, is_enough: Callable[[], bool], seconds: float
    ) -> bool:
        """Wait for frames, or for something else that is enough; whether the frames are there."""
        deadline = time.monotonic() + seconds
        has_all = False
        while not (has_all or is_enough() or time.monotonic() > deadline):
            if self._is_over.wait(SELECT_TIMEOUT_S):
                break
            with self._lock:
                has_all = self.arrivals.count(run) >= frames
        return has_all

    def missed(self) -> int:
        """How many frames the kernel dropped because the receive buffer was full."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", statistics)[1])

    def _capture(self) -> None:
        while not self._is_over.is_set():
            select.select([self._socket], [], [], SELECT_TIMEOUT_S)
            with self._lock:
                for _ in range(FRAMES_TOGETHER):
                    frame = _receive(self._socket)
                    if frame is None:
                        self._emptied += 1
                        break
                    if MAGIC in frame:
                        self.arrivals.take(frame)


def _receive(source: socket.socket) -> bytes | None:
    """The next frame as it was on the wire, or None.

    The kernel strips the outer VLAN tag and reports it as ancillary data (PACKET_AUXDATA).
    """
    try:
        frame, ancillary, _, _ = source.recvmsg(FRAME_MAX, 64)
    except OSError:  # nothing to read, or the interface is gone
        return None
    for level, kind, data in ancillary:
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


def _open_inside(namespace: str | None, make: Callable[[], socket.socket]) -> socket.socket:
    """Make a socket in a namespace; only a short-lived thread enters it, not the caller's."""
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

    thread = BackgroundThread(run, name="enter namespace")
    thread.start()
    thread.wait()
    [found] = result
    if isinstance(found, Failure):
        raise found
    return found


def _path(namespace: str) -> Path:
    if namespace.startswith(MININET):
        return Path(f"/proc/{_process_of(namespace)}/ns/net")
    if is_number(namespace):
        return Path(f"/proc/{namespace}/ns/net")
    return Path(namespace) if "/" in namespace else NAMED_NAMESPACES / namespace


def _process_of(host: str) -> str:
    """The process id of a Mininet host."""
    shells = _mininet_shells()
    if host in shells:
        return shells[host]
    name, running = host.removeprefix(MININET), sorted(h.removeprefix(MININET) for h in shells)
    there = f"; hosts that run: {', '.join(running)}" if running else ", nor any other host of it"
    raise Failure(
        f"no Mininet with a host {name!r} runs here{did_you_mean(name, running) or there}"
    )


def _mininet_shells() -> dict[str, str]:
    """The process ids of the hosts of Mininets on this machine, by ``mininet:HOST``.

    A host is a shell that Mininet starts as ``bash --norc --noediting -is mininet:HOST``; other
    programs, like this one, have the last word among their arguments, too.
    """
    found: dict[str, str] = {}
    for arguments in PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may have ended
            words = arguments.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            if words[-2:-1] == ["-is"] and words[-1].startswith(MININET):
                found[words[-1]] = arguments.parent.name
    return found


def _enter(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(
            f"there is no network namespace {str(path)!r} ({error.strerror}): name one of "
            "`ip netns list`, a path, or the number of a process in it"
        ) from error
    try:
        enter_namespace(descriptor)
    except OSError as error:
        raise Failure(f"cannot enter network namespace {str(path)!r}: {error.strerror}") from error
    finally:
        os.close(descriptor)
