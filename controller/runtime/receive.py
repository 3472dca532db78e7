"""The receive loop of a connection; it replaces the library's own.

The library's passes each message to its decoder unchecked, logs what it cannot decode as a hex
dump, and lets other green threads run once in 2,048 messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import structlog

from controller.runtime import library
from controller.runtime.admission import ConnectionAdmission, Stay, Visit
from controller.runtime.backpressure import cut_off, end_connection
from controller.runtime.cost import (
    BRIDGE,
    BRIDGES,
    GUEST,
    GUESTS,
    MESSAGE_MAX_S,
    THROTTLED_MAX_S,
    Budget,
    Pool,
)
from controller.runtime.message_check import MESSAGE_BYTES_MIN, MalformedMessage
from flows.openflow import MESSAGE_HEADER

RECEIVE_BYTES = 1 << 16
"""Bytes that are received at once; a message has 64 kB at most."""
MESSAGES_BETWEEN_LOOKS = 8
"""Messages that are handled before the clock is looked at."""
HANDLING_S = 0.002
"""How long messages of one connection are handled before other threads may run, in seconds."""

log = structlog.get_logger(__name__)

Take = Callable[[Any, bytes], bool]


class Receiver:
    """Receives from all switches: bounds what each costs, and passes on whole messages.

    ``take`` takes one message, and returns False if its switch was cut off.
    """

    def __init__(self, take: Take, admission: ConnectionAdmission) -> None:
        self._take, self._admission = take, admission
        self._guests, self._bridges = Pool(GUESTS), Pool(BRIDGES)

    def run(self, datapath: Any) -> None:
        """Receive until the connection is over; then its socket is closed."""
        visit: Visit = datapath.socket.visit
        try:
            if visit.hold_s:
                time.sleep(visit.hold_s)
            self._run(datapath, visit)
        except MalformedMessage as problem:
            cut_off(datapath.socket, f"it sent what no switch sends: {problem}")
        except Exception as problem:  # the edge of the thread: it must end in order
            log.error("connection failed", switch=visit.name, exc_info=problem)
        finally:
            self._admission.leave(visit)
            with suppress(OSError):
                datapath.socket.close()

    def _run(self, datapath: Any, visit: Visit) -> None:
        buffer = bytearray()
        budget, stay = Budget(GUEST, self._guests), Stay.GUEST
        while datapath.state != library.handler.DEAD_DISPATCHER:
            try:
                with self._admission.waiting(visit):
                    data = datapath.socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            if visit.stay is Stay.BRIDGE and stay is not Stay.BRIDGE:
                budget, stay = Budget(BRIDGE, self._bridges), Stay.BRIDGE
            if not self._handle(datapath, visit, buffer, budget):
                return

    def _handle(self, datapath: Any, visit: Visit, buffer: bytearray, budget: Budget) -> bool:
        """Handle the whole messages of a buffer, and remove them; False: cut off."""
        began = time.thread_time()
        read, used, count = 0, 0.0, 0
        for read, message in _messages(buffer):  # noqa: B007  # where it ends is used below
            before_dpid = datapath.id
            if not self._take(datapath, message):
                return False
            if datapath.id is not before_dpid and self._is_too_early(datapath, visit):
                return False
            if visit.stay is Stay.UNFINISHED:
                self._note_progress(datapath, visit)
            count += 1
            if count % MESSAGES_BETWEEN_LOOKS and len(message) < RECEIVE_BYTES // 8:
                continue
            took = time.thread_time() - began
            used += min(took, MESSAGE_MAX_S * MESSAGES_BETWEEN_LOOKS)
            if used >= HANDLING_S:
                if not self._pause(datapath, used, budget):
                    return False
                used = 0.0
            began = time.thread_time()
        del buffer[:read]
        used += min(time.thread_time() - began, MESSAGE_MAX_S * MESSAGES_BETWEEN_LOOKS)
        return self._pause(datapath, used, budget)

    def _pause(self, datapath: Any, used: float, budget: Budget) -> bool:
        """Let other threads run, for longer if the connection has no credit; False: cut off."""
        pause = budget.spend(used)
        if budget.is_exhausted:
            cut_off(
                datapath.socket,
                f"for {THROTTLED_MAX_S:g} s it sent more than is read of one switch; "
                "see whether its ports flap",
            )
            return False
        if pause:
            budget.pool.pause(pause)
        elif library.HUB != "native":  # a native thread lets others run whenever it receives
            time.sleep(0)
        return bool(datapath.state != library.handler.DEAD_DISPATCHER)

    def _note_progress(self, datapath: Any, visit: Visit) -> None:
        if datapath.state == library.handler.MAIN_DISPATCHER:
            self._admission.greeted(visit, datapath.id)

    def _is_too_early(self, datapath: Any, visit: Visit) -> bool:
        """Whether a bridge that was cut off comes back too early; then its connection ends."""
        visit.dpid = datapath.id
        left = self._admission.pause_of_bridge(visit, datapath.id)
        if left <= 0:
            return False
        log.info(
            "bridge has to stay away", switch=visit.name, dpid=f"{datapath.id:016x}",
            seconds=round(left),
        )  # fmt: skip
        end_connection(datapath.socket)
        return True


def _messages(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """The whole messages of a buffer, each with the position of its end.

    Raises:
        MalformedMessage: a message is shorter than its header.
    """
    at, end = 0, len(buffer)
    while end - at >= MESSAGE_BYTES_MIN:
        length = MESSAGE_HEADER.unpack_from(buffer, at)[2]
        if length < MESSAGE_BYTES_MIN:
            raise MalformedMessage(f"the header of a message says that it has {length} bytes")
        if end - at < length:
            return
        message = bytes(memoryview(buffer)[at : at + length])
        at += length
        yield at, message
