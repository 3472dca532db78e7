"""Switches that take nothing, or send too much, are cut off: nobody else suffers from them."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

FLOOD_MESSAGES = 20_000
FLOOD_SECONDS = 5.0
"""A switch that sends so many messages of its own accord in this time is cut off. A host that
starts with 1,000 ports sends about 3,000."""

IsolatedCallback = Callable[[str, str], None]

log = structlog.get_logger(__name__)

_callbacks: list[IsolatedCallback] = []


def listen_isolated(callback: IsolatedCallback) -> None:
    """Have callback(address, sentence) called for each switch that is cut off."""
    _callbacks.append(callback)


def hang_up(datapath: Any, why: str) -> None:
    """End a connection at once, because of what its switch does; ``why`` is for the operator."""
    cut_off(datapath.socket, datapath.address, why)


def cut_off(connection: Any, address: Any, why: str) -> None:
    """The same for a connection that the library has not seen yet."""
    name = f"{address[0]}:{address[1]}"
    log.warning("switch cut off", switch=name, reason=why)
    for callback in _callbacks:
        callback(name, f"the switch at {name} was cut off: {why}")
    with suppress(OSError):  # it may have gone by itself
        connection.shutdown(socket.SHUT_RDWR)


def queued(datapath: Any) -> int:
    """How many sends wait until the switch takes what was sent before; at most 16."""
    queue = datapath.send_q
    return 0 if queue is None else int(queue.qsize())


def watch_echoes(datapath_class: Any) -> None:
    """Let the end of a switch that answers no echo be quick, and say why."""
    ask = datapath_class._echo_request_loop

    def ask_then_say(datapath: Any) -> None:
        ask(datapath)
        missed = len(datapath.unreplied_echo_requests)
        if missed > datapath.max_unreplied_echo_requests > 0:
            why = f"it answered none of {missed} echo requests; see whether ovs-vswitchd hangs"
            hang_up(datapath, f"{why} or its host is cut off")

    datapath_class._echo_request_loop = ask_then_say


class Patient:
    """The socket of a switch that is cut off when it takes nothing for the socket's time limit."""

    def __init__(self, connection: Any, address: Any) -> None:
        self._connection, self._address = connection, address

    def sendall(self, data: bytes) -> None:
        """Send everything, or cut the switch off."""
        try:
            self._connection.sendall(data)
        except TimeoutError:
            seconds = self._connection.gettimeout() or 0
            why = f"it took nothing of what was sent to it for {seconds:g} s"
            cut_off(self._connection, self._address, f"{why}; see whether ovs-vswitchd hangs there")
            raise

    def __getattr__(self, name: str) -> Any:
        """Everything else is the socket's own."""
        if name == "_connection":
            raise AttributeError(name)
        return getattr(self._connection, name)


class FloodGuard:
    """Counts what switches send of their own accord; cuts off who sends too much."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now

    def is_welcome(self, datapath: Any) -> bool:
        """Whether to look at one more message; False once the switch was cut off."""
        began, count = getattr(datapath, "cloudtap_unasked", (0.0, 0))
        if count > FLOOD_MESSAGES:
            return False
        now = self._now()
        if now - began > FLOOD_SECONDS:
            began, count = now, 0
        datapath.cloudtap_unasked = (began, count + 1)
        if count + 1 <= FLOOD_MESSAGES:
            return True
        hang_up(
            datapath,
            f"it sent more than {FLOOD_MESSAGES} messages in {FLOOD_SECONDS:g} s that nobody asked "
            "for; see whether its ports flap",
        )
        return False
