"""Disconnects switches that read nothing or send too much, so that others do not suffer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

import structlog

from controller.runtime.admission import ConnectionAdmission, Visit

MESSAGES_MAX = 20_000
WINDOW_SECONDS = 5.0
"""A switch that sends more unsolicited messages than that in this time is disconnected. A host that
starts with 1,000 ports sends about 3,000."""

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
    """How many sends are queued behind one that the switch has not read yet; at most 16."""
    queue = datapath.send_q
    return 0 if queue is None else int(queue.qsize())


def watch_echoes(datapath_class: Any) -> None:
    """Disconnect a switch that answers no echo request at once, and log why."""
    ask = datapath_class._echo_request_loop

    def ask_then_disconnect(datapath: Any) -> None:
        ask(datapath)
        missed = len(datapath.unreplied_echo_requests)
        if missed > datapath.max_unreplied_echo_requests > 0:
            why = f"it answered none of {missed} echo requests; see whether ovs-vswitchd hangs"
            cut_off(datapath.socket, f"{why} or its host is cut off", Blame.NOBODY)

    datapath_class._echo_request_loop = ask_then_disconnect


class SwitchSocket:
    """The socket of a switch, with its visit; a send that exceeds its timeout ends the visit."""

    def __init__(self, connection: Any, visit: Visit, admission: ConnectionAdmission) -> None:
        self._connection, self.visit, self.admission = connection, visit, admission

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
