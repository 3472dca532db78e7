"""Steady streams of frames; here of numbered ones, with a record of where each frame arrived."""

from __future__ import annotations

import select
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests import frames
from tests.ovs.endpoint import Endpoint
from tests.ovs.packet_sockets import dropped_before
from tests.ovs.waiting import wait_for

NUMBERED = 0x88B6
"""EtherType for local experiments (IEEE 802)."""
BODY = struct.Struct("!HQ")
IPV4, UDP, UDP_FROM = 0x0800, 17, 40_000
DATAGRAM_DATA = 14 + 20 + 8
"""Where the data of an untagged UDP datagram begins, in bytes."""
FRAMES_PER_S = 200
"""For each stream: the receive buffers of the datapath hold more than one second of it."""
LATER_FRAMES = 3
"""So many frames that are sent later have arrived one after the other: then the datapath has polled
all ports, also those at the other ends of links, since it has sent an earlier one."""
LATE_S = 5.0
"""How much later than expected a frame may come, in seconds."""


class Stream:
    """Frames from one endpoint to one address, numbered from 1."""

    def __init__(self, key: int, sender: Endpoint, source: int, destination: int) -> None:
        self.key, self.sender, self.last = key, sender, 0
        self._head = frames.ethernet(destination, source, NUMBERED, b"")

    def frame(self, number: int) -> bytes:
        """The frame of this number."""
        return (self._head + BODY.pack(self.key, number)).ljust(60, b"\0")


class Datagrams(Stream):
    """The same in UDP datagrams to one port, for filters that ask for more than a MAC address."""

    def __init__(
        self, key: int, sender: Endpoint, source: int, destination: int, port: int
    ) -> None:
        super().__init__(key, sender, source, destination)
        self._macs, self._port = (destination, source), port

    def frame(self, number: int) -> bytes:
        """The frame of this number."""
        datagram = frames.udp(UDP_FROM, self._port, BODY.pack(self.key, number))
        packet = frames.ipv4("10.0.0.1", "10.0.0.2", UDP, datagram)
        return frames.pad(frames.ethernet(*self._macs, IPV4, packet))


class Streaming(ABC):
    """Frames that one thread sends at a pace and another one receives, inside a `with` block.

    After a stall at most the frames of ``behind_s`` are made up for: more at once would overflow
    receive buffers. ``_send_some`` and changes of ``_endpoints`` happen with ``_sending`` held.
    """

    def __init__(self, endpoints: Iterable[Endpoint], period_s: float, behind_s: float) -> None:
        self._endpoints = {endpoint.fileno(): endpoint for endpoint in endpoints}
        self._period_s, self._behind_s = period_s, behind_s
        self._sending = threading.Lock()
        self._is_over, self._is_paused = threading.Event(), threading.Event()
        self._looks = 0
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    @abstractmethod
    def _send_some(self) -> None:
        """Send the frames of one period."""

    @abstractmethod
    def _note(self, endpoint: Endpoint, frame: bytes) -> None:
        """Record a frame that has arrived."""

    def wait_until_read(self) -> None:
        """Block until all that is in a socket now was noted."""
        wanted = self._looks + 2  # one look may have begun already
        wait_for(lambda: self._looks, lambda looks: looks >= wanted)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period_s, time.monotonic() - self._behind_s)
            with self._sending:
                if not self._is_paused.is_set():
                    self._send_some()

    def _receive(self) -> None:
        while not self._is_over.is_set():
            with self._sending:
                sockets = list(self._endpoints)
            for descriptor in select.select(sockets, [], [], 0.02)[0]:
                endpoint = self._endpoints.get(descriptor)
                while endpoint is not None and (frame := endpoint.receive_raw()) is not None:
                    self._note(endpoint, frame)
            self._looks += 1


class Traffic(Streaming):
    """Numbered streams, and where and when each of their frames has arrived."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        super().__init__(endpoints, 1 / FRAMES_PER_S, behind_s=0.05)
        self._streams: list[Stream] = []
        self._keys: list[int] = []
        self._seen: defaultdict[tuple[Endpoint, int], Counter[int]] = defaultdict(Counter)
        self._first: dict[tuple[Endpoint, int, int], float] = {}

    def add(self, sender: Endpoint, source: int, destination: int) -> Stream:
        """Start one more stream."""
        with self._sending:
            key = len(self._keys) + 1
            stream = Stream(key, sender, source, destination)
            self._keys.append(key)
            self._streams.append(stream)
        return stream

    def add_datagrams(self, sender: Endpoint, source: int, destination: int, port: int) -> Stream:
        """Start one more stream, of UDP datagrams to ``port``."""
        with self._sending:
            key = len(self._keys) + 1
            stream = Datagrams(key, sender, source, destination, port)
            self._keys.append(key)
            self._streams.append(stream)
        return stream

    def end(self, stream: Stream) -> None:
        """Send no more of one stream; frames in flight still arrive."""
        with self._sending:
            self._streams.remove(stream)

    def now(self, stream: Stream) -> int:
        """The number of the last frame sent; later frames have higher numbers."""
        with self._sending:
            return stream.last

    def replug(self, old: Endpoint, new: Endpoint) -> None:
        """Send the streams of ``old`` from ``new`` from now on, and receive at ``new``."""
        with self._sending:
            self._endpoints.pop(old.fileno(), None)
            self._endpoints[new.fileno()] = new
            for stream in self._streams:
                if stream.sender is old:
                    stream.sender = new

    def stop(self) -> None:
        """Stop sending; frames in flight still arrive."""
        with self._sending:
            self._is_paused.set()

    def arrived(self, stream: Stream, at: Endpoint) -> Counter[int]:
        """How often each number of a stream has arrived at an endpoint."""
        return Counter(self._seen[at, stream.key])

    def wait_until_past(self, stream: Stream, at: Endpoint, number: int) -> None:
        """Block until a frame with a higher number has arrived."""
        wait_for(lambda: max(self.arrived(stream, at), default=0), lambda seen: seen > number)

    def wait_until_spread(self, stream: Stream, at: Endpoint, number: int) -> None:
        """Block until a frame with a higher number has arrived, and whatever was made of earlier
        ones has arrived where it goes; the stream must go on.

        Open vSwitch reads up to 32 packets of a port at once, and sends what it makes of them to
        one port after the other: a copy may come long after its frame on a machine that is busy.
        """
        self.wait_until_past(stream, at, number)
        for _ in range(LATER_FRAMES):
            self.wait_until_past(stream, at, self.now(stream))
        self.wait_until_read()

    def wait_for(self, stream: Stream, at: Endpoint, number: int) -> None:
        """Block until the frame of this number has arrived."""
        wait_for(lambda: self.arrived(stream, at)[number], bool)

    def faults(self, stream: Stream, at: Endpoint, first: int, last: int) -> list[str]:
        """The frames from ``first`` to ``last`` that did not arrive exactly once.

        For those that have not arrived it waits a while: a copy may come after its frame. Those
        that the kernel has dropped because ovs-vswitchd did not run for a second are no faults: no
        bridge has got them, so they have arrived nowhere, and they are as many as it says.
        """
        wanted = range(first, last + 1)
        with suppress(AssertionError):
            wait_for(
                lambda: self.arrived(stream, at), lambda seen: all(map(seen.get, wanted)), LATE_S
            )
        seen = self.arrived(stream, at)
        wrong = {n: seen[n] for n in wanted if seen[n] != 1}
        if 0 in wrong.values():
            for number in self._unread(stream, last):
                wrong.pop(number, None)
        return [f"frame {n} of {last} arrived {count} times at {at}" for n, count in wrong.items()]

    def _unread(self, stream: Stream, last: int) -> Sequence[int]:
        """The frames up to ``last`` that no bridge has read; none if that explains not all that
        have arrived nowhere.
        """
        every = [set(seen) for (_, key), seen in list(self._seen.items()) if key == stream.key]
        nowhere = set(range(1, last + 1)).difference(*every)
        return sorted(nowhere) if len(nowhere) <= dropped_before(stream.sender.interface) else ()

    def strangers(self, at: Endpoint, streams: Iterable[Stream]) -> list[tuple[int, int]]:
        """Stream and number of frames at an endpoint that belong to none of these streams."""
        known = {stream.key for stream in streams}
        every = [
            (k, n) for (where, k), seen in list(self._seen.items()) if where is at for n in seen
        ]
        return [(key, number) for key, number in every if key not in known]

    def when(self, stream: Stream, at: Endpoint, number: int) -> float:
        """The moment (monotonic seconds) at which a frame arrived."""
        return self._first[at, stream.key, number]

    def _send_some(self) -> None:
        for stream in self._streams:
            stream.last += 1
            stream.sender.send(stream.frame(stream.last))

    def _note(self, endpoint: Endpoint, frame: bytes) -> None:
        eth_type, source_port = (int.from_bytes(frame[at : at + 2], "big") for at in (12, 34))
        if eth_type == NUMBERED:
            key, number = BODY.unpack_from(frame, 14)
        elif (eth_type, source_port) == (IPV4, UDP_FROM):
            key, number = BODY.unpack_from(frame, DATAGRAM_DATA)
        else:
            return
        self._seen[endpoint, key][number] += 1
        self._first.setdefault((endpoint, key, number), time.monotonic())
