"""Disconnects switches that read nothing or send too much, so that others do not suffer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

import structlog

from controller.runtime.admission import ConnectionAdmission, Visit, has_unread

MESSAGES_MAX = 20_000
WINDOW_SECONDS = 5.0
"""A switch that sends more unsolicited messages than that in this time is disconnected. A host that
starts with 1,000 ports sends about 3,000."""

QUEUED_MAX = 16
"""Sends that the library queues for a switch."""

DisconnectCallback = Callable[[str, str], None]

log = structlog.get_logger(__name__)

_callbacks: list[DisconnectCallback] = []


def listen_forced_disconnects(callback: DisconnectCallback) -> None:
    """Call callback(address, sentence) for each switch that is disconnected here."""
    _callbacks.append(callback)


def disconnect(datapath: Any, why: str) -> None:
    """End a connection at once because of what its switch does; ``why`` is for the operator."""
    cut_off(datapath.socket, why)


class Blame(Enum):
    """Who has to stay away when a connection was cut off."""

    NOBODY = "nobody"
    """The switch, or the way to it, may be broken."""
    ADDRESS = "the address"
    BRIDGE = "the bridge"
    """Its address, as long as its datapath id is not known."""


def cut_off(connection: SwitchSocket, why: str, blame: Blame = Blame.BRIDGE) -> None:
    """The same for the socket of a connection.

    Of a connection that is over already nothing is reported.
    """
    visit = connection.visit
    if visit.is_cut_off:
        return
    visit.is_cut_off = True
    log.warning("switch cut off", switch=visit.name, reason=why)
    for callback in _callbacks:
        callback(visit.name, f"the switch at {visit.name} was cut off: {why}")
    if blame is not Blame.NOBODY:
        connection.admission.offend(visit, by_address=blame is Blame.ADDRESS)
    end_connection(connection)


def end_connection(connection: Any) -> None:
    """End a connection; who reads it, or writes to it, notices that at once."""
    with suppress(OSError):  # the switch may have closed it already
        connection.shutdown(socket.SHUT_RDWR)


def close(datapath: Any) -> None:
    """End a connection at once, without a word: whoever calls has told the operator why."""
    end_connection(datapath.socket)


def queued(datapath: Any) -> int:
    """How many sends are queued behind one that the switch has not read yet; at most QUEUED_MAX."""
    queue = datapath.send_q
    return 0 if queue is None else int(queue.qsize())


def is_behind(datapath: Any) -> bool:
    """Whether the switch has sent something that was not read yet: then its answer may be there."""
    return has_unread(datapath.socket)


def ask_for_echo(datapath: Any) -> bool:
    """Send an echo request; False if the connection is over, or is ended now for lack of answers.

    Whoever was told something that was not read yet waits: a controller that is behind blames no
    switch.
    """
    if datapath.send_q is None:
        return False
    missed = len(datapath.unreplied_echo_requests)
    if missed <= datapath.max_unreplied_echo_requests:
        request = datapath.ofproto_parser.OFPEchoRequest(datapath)
        datapath.unreplied_echo_requests.append(datapath.set_xid(request))
        return bool(datapath.send_msg(request))
    if is_behind(datapath):
        return True
    datapath.close()
    why = f"it answered none of {missed} echo requests; see whether ovs-vswitchd hangs"
    cut_off(datapath.socket, f"{why} or its host is cut off", Blame.NOBODY)
    return False


def watch_echoes(datapath_class: Any) -> None:
    """Ask each switch for echoes in a thread of its connection."""

    def ask_at_intervals(datapath: Any) -> None:
        if datapath.max_unreplied_echo_requests:
            while ask_for_echo(datapath):
                time.sleep(datapath.echo_request_interval)

    datapath_class._echo_request_loop = ask_at_intervals


class SwitchSocket:
    """The socket of a switch, with its visit; a send that exceeds its timeout ends the visit."""

    def __init__(self, connection: Any, visit: Visit, admission: ConnectionAdmission) -> None:
        self._connection, self.visit, self.admission = connection, visit, admission
        self.sending = threading.Lock()
        """Held by who sends at once, counts what is unsent, or closes the socket."""
        self.unsent = 0
        """How many sends are left to ``sendall``."""

    def send_at_once(self, data: bytes) -> int:
        """Send what the socket takes without waiting; how many bytes that were, over TLS none.

        ``sending`` is held: the file descriptor cannot be that of another file meanwhile.
        """
        if not isinstance(self._connection, socket.socket):
            return 0
        try:
            return os.write(self._connection.fileno(), data)
        except BlockingIOError:
            return 0

    def sendall(self, data: bytes) -> None:
        """Send everything, or disconnect the switch.

        Raises:
            TimeoutError: the switch read nothing for the timeout of the socket.
        """
        try:
            self._connection.sendall(data)
        except TimeoutError:
            seconds = self._connection.gettimeout() or 0
            why = f"it took nothing of what was sent to it for {seconds:g} s"
            cut_off(self, f"{why}; see whether ovs-vswitchd hangs there", Blame.NOBODY)
            raise
        with self.sending:
            self.unsent -= 1

    def close(self) -> None:
        """Close the socket."""
        with self.sending:
            self._connection.close()

    def __getattr__(self, name: str) -> Any:
        """All other attributes are those of the socket."""
        if name == "_connection":
            raise AttributeError(name)
        return getattr(self._connection, name)


class MessageRateLimit:
    """Counts the unsolicited messages of each switch; disconnects one that exceeds the limit."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now

    def is_allowed(self, datapath: Any) -> bool:
        """Count one message; False if it exceeds the limit or the switch was disconnected."""
        began, count = getattr(datapath, "cloudtap_unsolicited", (0.0, 0))
        if count > MESSAGES_MAX:
            return False
        now = self._now()
        if now - began > WINDOW_SECONDS:
            began, count = now, 0
        datapath.cloudtap_unsolicited = (began, count + 1)
        if count + 1 <= MESSAGES_MAX:
            return True
        disconnect(
            datapath,
            f"it sent more than {MESSAGES_MAX} messages in {WINDOW_SECONDS:g} s that nobody asked "
            "for; see whether its ports flap",
        )
        return False
