"""Streams at thousands of frames a second, and what arrives at sensors: the count on the wire."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from tests.frames import ethernet
from tests.ovs.endpoint import Endpoint
from tests.ovs.packet_sockets import is_anything_waiting, own_inodes
from tests.ovs.traffic import Streaming
from tests.ovs.waiting import wait_for

SIZES = (64, 200, 1000, 1500)
"""Lengths of the frames, in bytes."""
PERIOD_S = 0.004
BODY = struct.Struct("!H")
NOTHING_NEW_S = 0.2
"""So long nothing may wait in sockets or arrive before a pause counts as quiet; what ovs-vswitchd
has read by then takes less, and who compares looks again."""
QUIET_S = 60.0
"""A bound for the time that a busy machine needs for what was sent."""


@dataclass(frozen=True)
class MixedStream:
    """Frames of one EtherType and mixed sizes from one endpoint to one address."""

    sender: Endpoint
    source: int
    destination: int
    ether_type: int = 0x88B7


@dataclass
class Arrived:
    """What one sensor got: frames, the bytes of the original frames, without our tags, and those
    that came cut, by their length.
    """

    frames: int = 0
    octets: int = 0
    cut: Counter[int] = field(default_factory=Counter)


@dataclass
class Sensors:
    """What arrived at each sensor since the start; a cut frame still tells its original length."""

    by_endpoint: dict[Endpoint, Arrived] = field(default_factory=dict)

    def total(self, endpoints: Iterable[Endpoint]) -> tuple[int, int]:
        """Frames and bytes at some sensors together."""
        seen = [self.by_endpoint[endpoint] for endpoint in endpoints]
        return sum(one.frames for one in seen), sum(one.octets for one in seen)


class Wire(Streaming):
    """Random frames of several streams, so many a second, and what arrives at sensors."""

    def __init__(
        self,
        streams: Sequence[MixedStream],
        sensors: Sequence[Endpoint],
        per_second: int,
        seed: int,
    ) -> None:
        super().__init__(sensors, PERIOD_S, behind_s=5 * PERIOD_S)
        self._ends = sensors
        self.sensors = Sensors({endpoint: Arrived() for endpoint in sensors})
        self.sent = 0
        self._at_once = max(1, round(per_second * PERIOD_S))
        self._streams, self._random = streams, Random(seed)
        self._frames = [[_frame(stream, size) for size in SIZES] for stream in streams]
        self._last_arrival = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, nothing is sent, and nothing is on its way any more."""
        self._is_paused.set()
        with self._sending:
            self._last_arrival = time.monotonic()
        read_by_nobody = own_inodes() - {os.fstat(each.fileno()).st_ino for each in self._ends}

        def quiet_for() -> float:
            if is_anything_waiting(read_by_nobody):
                self._last_arrival = time.monotonic()
            return time.monotonic() - self._last_arrival

        wait_for(quiet_for, lambda seconds: seconds >= NOTHING_NEW_S, QUIET_S)
        try:
            yield
        finally:
            self._is_paused.clear()

    def wait_until_sent(self, more: int) -> None:
        """Block until so many more frames have been sent."""
        wanted, pause = self.sent + more, threading.Event()
        while self.sent < wanted:
            pause.wait(0.005)

    def _send_some(self) -> None:
        for _ in range(self._at_once):
            stream = self._random.randrange(len(self._streams))
            self._streams[stream].sender.send(self._random.choice(self._frames[stream]))
            self.sent += 1

    def _note(self, endpoint: Endpoint, frame: bytes) -> None:
        arrived = self.sensors.by_endpoint[endpoint]
        tag = 4 if frame[12:14] == b"\x81\x00" else 0
        (original,) = BODY.unpack_from(frame, 14 + tag)
        arrived.frames += 1
        arrived.octets += original
        if len(frame) - tag < original:
            arrived.cut[len(frame) - tag] += 1
        self._last_arrival = time.monotonic()


def _frame(stream: MixedStream, size: int) -> bytes:
    body = BODY.pack(size).ljust(size - 14, b"\0")
    return ethernet(stream.destination, stream.source, stream.ether_type, body)
