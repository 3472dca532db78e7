"""Numbered traffic that flows steadily, and an account of where every single frame arrived."""

from __future__ import annotations

import select
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from types import TracebackType

from tests.frames import ethernet
from tests.ovs.endpoint import Endpoint
from tests.ovs.waiting import wait_for

NUMBERED = 0x88B6
"""EtherType for local experiments (IEEE 802)."""
BODY = struct.Struct("!HQ")
FRAMES_PER_S = 200
"""For each stream: the receive buffers of the data path hold more than a second of it."""


class Stream:
    """Frames from one endpoint to one address, numbered from 1."""

    def __init__(self, key: int, sender: Endpoint, source: int, destination: int) -> None:
        self.key, self.sender, self.last = key, sender, 0
        self._head = ethernet(destination, source, NUMBERED, b"")

    def frame(self, number: int) -> bytes:
        """The frame of this number."""
        return (self._head + BODY.pack(self.key, number)).ljust(60, b"\0")


class Traffic:
    """Streams that are sent by one thread and counted by another, inside a `with` block."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = {endpoint.fileno(): endpoint for endpoint in endpoints}
        self._streams: list[Stream] = []
        self._seen: defaultdict[tuple[Endpoint, int], Counter[int]] = defaultdict(Counter)
        self._first: dict[tuple[Endpoint, int, int], float] = {}
        self._sending = threading.Lock()
        self._is_over = threading.Event()
        self._is_paused = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]

    def __enter__(self) -> Traffic:
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

    def add(self, sender: Endpoint, source: int, destination: int) -> Stream:
        """One more stream, from now on."""
        with self._sending:
            stream = Stream(len(self._streams) + 1, sender, source, destination)
            self._streams.append(stream)
        return stream

    def now(self, stream: Stream) -> int:
        """The number of the last frame sent: whatever is sent later has a higher one."""
        with self._sending:
            return stream.last

    def replug(self, old: Endpoint, new: Endpoint) -> None:
        """What was sent from ``old`` goes out of ``new`` from now on; ``new`` is watched, too."""
        with self._sending:
            self._endpoints.pop(old.fileno(), None)
            self._endpoints[new.fileno()] = new
            for stream in self._streams:
                if stream.sender is old:
                    stream.sender = new

    def stop(self) -> None:
        """Send no more; what was sent still arrives."""
        with self._sending:
            self._is_paused.set()

    def arrived(self, stream: Stream, at: Endpoint) -> Counter[int]:
        """How often each number of a stream has arrived at an endpoint."""
        return Counter(self._seen[at, stream.key])

    def wait_until_past(self, stream: Stream, at: Endpoint, number: int) -> None:
        """Return when a frame with a higher number has arrived."""
        wait_for(lambda: max(self.arrived(stream, at), default=0), lambda seen: seen > number)

    def wait_for(self, stream: Stream, at: Endpoint, number: int) -> None:
        """Return when the frame of this number has arrived."""
        wait_for(lambda: self.arrived(stream, at)[number], bool)

    def faults(self, stream: Stream, at: Endpoint, first: int, last: int) -> list[str]:
        """What is wrong with the frames ``first`` to ``last`` where each should arrive once."""
        seen = self.arrived(stream, at)
        wrong = {n: seen[n] for n in range(first, last + 1) if seen[n] != 1}
        return [f"frame {n} of {last} arrived {count} times at {at}" for n, count in wrong.items()]

    def strangers(self, at: Endpoint, streams: Iterable[Stream]) -> list[tuple[int, int]]:
        """Stream and number of what arrived at an endpoint, but for these streams."""
        known = {stream.key for stream in streams}
        every = [
            (k, n) for (where, k), seen in list(self._seen.items()) if where is at for n in seen
        ]
        return [(key, number) for key, number in every if key not in known]

    def when(self, stream: Stream, at: Endpoint, number: int) -> float:
        """The moment (monotonic seconds) at which a frame arrived."""
        return self._first[at, stream.key, number]

    def _send(self) -> None:
        due = time.monotonic()
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / FRAMES_PER_S, time.monotonic() - 0.05)  # no bursts after a stall
            with self._sending:
                if self._is_paused.is_set():
                    continue
                for stream in self._streams:
                    stream.last += 1
                    stream.sender.send(stream.frame(stream.last))

    def _receive(self) -> None:
        while not self._is_over.is_set():
            with self._sending:
                sockets = list(self._endpoints)
            for descriptor in select.select(sockets, [], [], 0.02)[0]:
                endpoint = self._endpoints.get(descriptor)
                while endpoint is not None and (frame := endpoint.receive_raw()) is not None:
                    self._note(endpoint, frame)

    def _note(self, endpoint: Endpoint, frame: bytes) -> None:
        if frame[12:14] != NUMBERED.to_bytes(2, "big"):
            return
        key, number = BODY.unpack_from(frame, 14)
        self._seen[endpoint, key][number] += 1
        self._first.setdefault((endpoint, key, number), time.monotonic())
