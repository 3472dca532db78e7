"""Cumulative packet counters of one bridge, which survive resets of the counters of its switch."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

from flows.openflow import PacketCount, object_of

CountsByCookie = Mapping[int, PacketCount]
"""The counters of flows by cookie, which holds the session number and identifies the flow."""


class CumulativeCounters:
    """Packets by session number, summed over counter resets.

    The counter of a flow starts at 0 again when the switch restarts, or when the flow is removed
    and added again. The last value that was read before a reset is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[int, PacketCount] = {}
        self._now: dict[int, CountsByCookie] = {}
        self._restored: dict[int, PacketCount] = {}
        self._doubtful: set[int] = set()

    @property
    def doubtful(self) -> frozenset[int]:
        """The sessions whose last report had a value that no counter can have.

        Such a value is left out: that counter keeps the value that it had before.
        """
        with self._lock:
            return frozenset(self._doubtful)

    def is_doubtful(self, number: int) -> bool:
        """Whether one session is among them."""
        return number in self._doubtful

    def update(self, now: CountsByCookie, asked: Set[int] | None = None) -> None:
        """Take the current counters of all sessions, or only of those in ``asked``.

        A session without a counter in ``now`` has none any more.
        """
        by_session: defaultdict[int, dict[int, PacketCount]] = defaultdict(dict)
        for cookie, copies in now.items():
            by_session[object_of(cookie)][cookie] = copies
        with self._lock:
            numbers = {*self._now, *self._restored, *self._doubtful, *by_session}
            for number in numbers if asked is None else numbers & asked:
                self._take(number, by_session.get(number, {}))

    def update_one(
        self, number: int, now: CountsByCookie, beacons: PacketCount | None = None
    ) -> None:
        """Take the current counters of one session; ``beacons`` of them are not copies."""
        with self._lock:
            self._take(number, now)
            if beacons is not None:
                self._leave_out(number, beacons)

    def leave_out(self, number: int, beacons: PacketCount) -> None:
        """The same of beacons alone, which the counters of a session hold, or soon will.

        They are subtracted from the sum before the last reset: the last report stays unchanged, so
        that the next reset is still detected by comparison with it.
        """
        with self._lock:
            self._leave_out(number, beacons)

    def _leave_out(self, number: int, beacons: PacketCount) -> None:
        before = self._before.get(number, PacketCount())
        packets, octets = before.packets - beacons.packets, before.bytes - beacons.bytes
        self._before[number] = PacketCount(packets, octets)

    def restart(self, number: int) -> None:
        """The counters of a session begin at 0 now; their last values are kept.

        Whoever makes a counter anew calls this before: the new one may be higher than the old one
        when it is read first, and then nothing else tells that it is another one.
        """
        with self._lock:
            last = self._restored.pop(number, None)
            lost = [*self._now.pop(number, {}).values(), *([] if last is None else [last])]
            if lost:
                self._before[number] = _sum([self._before.get(number, PacketCount()), *lost])

    def has_counted(self, number: int) -> bool:
        """Whether anything was ever counted for a session."""
        return number in self._now or number in self._before or number in self._restored

    def numbers(self) -> set[int]:
        """The sessions for which anything was ever counted."""
        with self._lock:
            return {*self._now, *self._before, *self._restored}

    def of(self, number: int) -> PacketCount:
        """The packets of one session, as far as counters were read."""
        return _sum(self.parts_of(number))

    def parts_of(self, number: int) -> tuple[PacketCount, PacketCount]:
        """The same in two parts: the sum before the last reset, and the last report."""
        with self._lock:
            last = self._restored.get(number) or _sum(self._now.get(number, {}).values())
            return self._before.get(number, PacketCount()), last

    def restore(self, number: int, before: PacketCount, last: PacketCount) -> None:
        """Continue with what an earlier controller process has counted."""
        with self._lock:
            self._before[number], self._restored[number] = before, last

    def absorb(self, other: CumulativeCounters) -> None:
        """Add what was counted of the same flows before, under another datapath id of the switch.

        A flow that went on counts from where it was; what it has reported since is not counted
        twice.
        """
        for number in other.numbers():
            with self._lock:
                if not self.has_counted(number):
                    self._take_over(other, number)
                    continue
            before, last = other.parts_of(number)
            with self._lock:
                total = _sum([self._before.get(number, PacketCount()), before])
                if number not in self._now:
                    self._restored[number] = last
                elif _sum(self._now[number].values()).packets < last.packets:
                    total = _sum([total, last])
                self._before[number] = total

    def _take_over(self, other: CumulativeCounters, number: int) -> None:
        """Go on with a session of another one, of which nothing was counted here."""
        with other._lock:
            if number in other._before:
                self._before[number] = other._before[number]
            if number in other._now:
                self._now[number] = other._now[number]
            if number in other._restored:
                self._restored[number] = other._restored[number]
            if number in other._doubtful:
                self._doubtful.add(number)

    def keep(self, numbers: Set[int]) -> None:
        """Forget all other sessions: new sessions may get their numbers."""
        with self._lock:
            self._doubtful &= numbers
            for known in (self._before, self._now, self._restored):
                for number in known.keys() - numbers:
                    known.pop(number)

    def _take(self, number: int, now: CountsByCookie) -> None:
        possible = {cookie: counted for cookie, counted in now.items() if counted.is_possible}
        if len(possible) == len(now):
            self._doubtful.discard(number)
        else:
            self._doubtful.add(number)
            if number in self._restored:  # a sum: which part of it is of which flow is not known
                return
            last = self._now.get(number, {})
            kept = {
                cookie: last[cookie] for cookie in now.keys() - possible.keys() if cookie in last
            }
            now = possible | kept
        lost: list[PacketCount] = []
        restored = self._restored.pop(number, None)
        if restored is not None and _sum(now.values()).packets < restored.packets:
            lost.append(restored)
        for cookie, before in self._now.get(number, {}).items():
            if now.get(cookie, PacketCount()).packets < before.packets:
                lost.append(before)
        if lost:
            self._before[number] = _sum([self._before.get(number, PacketCount()), *lost])
        self._now.pop(number, None)
        if now:
            self._now[number] = dict(now)


def _sum(parts: Iterable[PacketCount]) -> PacketCount:
    parts = tuple(parts)
    return PacketCount(sum(part.packets for part in parts), sum(part.bytes for part in parts))
