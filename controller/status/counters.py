"""How many copies one bridge has made, counted on although a switch may begin at 0 again."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

from controller.status.values import Copies
from flows.openflow.flow import object_of

FlowCopies = Mapping[int, Copies]
"""What each copying flow has counted, by its cookie, which names the session and the flow."""


class Counters:
    """The copies of one bridge by session number.

    A switch counts a flow from 0 again when it restarts, or when the flow goes and comes back.
    What it had counted before, as far as it was read, is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[int, Copies] = {}
        self._now: dict[int, FlowCopies] = {}
        self._restored: dict[int, Copies] = {}

    def update(self, now: FlowCopies) -> None:
        """Take what the switch reports now of all sessions."""
        by_session: defaultdict[int, dict[int, Copies]] = defaultdict(dict)
        for cookie, copies in now.items():
            by_session[object_of(cookie)][cookie] = copies
        with self._lock:
            for number in {*self._now, *self._restored, *by_session}:
                self._take(number, by_session.get(number, {}))

    def update_one(self, number: int, now: FlowCopies, beacons: Copies | None = None) -> None:
        """Take what the switch reports now of one session; ``beacons`` in it are no copies.

        They are taken off what was counted before, so that the last report stays as it came, and
        a switch that begins at 0 again is still known by it.
        """
        with self._lock:
            self._take(number, now)
            if beacons is not None:
                before = self._before.get(number, Copies())
                packets, octets = before.packets - beacons.packets, before.bytes - beacons.bytes
                self._before[number] = Copies(packets, octets)

    def knows(self, number: int) -> bool:
        """Whether anything was ever counted for a session."""
        return number in self._now or number in self._before or number in self._restored

    def of(self, number: int) -> Copies:
        """The copies of one session, as far as they were counted."""
        return _sum(self.parts_of(number))

    def parts_of(self, number: int) -> tuple[Copies, Copies]:
        """The same in two parts: before the switch began at 0 again, and its last report."""
        with self._lock:
            last = self._restored.get(number) or _sum(self._now.get(number, {}).values())
            return self._before.get(number, Copies()), last

    def restore(self, number: int, before: Copies, last: Copies) -> None:
        """Go on with what an earlier controller has counted."""
        with self._lock:
            self._before[number], self._restored[number] = before, last

    def keep(self, numbers: Set[int]) -> None:
        """Forget all other sessions: their numbers may be given to new ones."""
        with self._lock:
            for known in (self._before, self._now, self._restored):
                for number in known.keys() - numbers:
                    known.pop(number)

    def _take(self, number: int, now: FlowCopies) -> None:
        lost: list[Copies] = []
        restored = self._restored.pop(number, None)
        if restored is not None and _sum(now.values()).packets < restored.packets:
            lost.append(restored)
        for cookie, last in self._now.get(number, {}).items():
            if now.get(cookie, Copies()).packets < last.packets:
                lost.append(last)
        if lost:
            self._before[number] = _sum([self._before.get(number, Copies()), *lost])
        self._now.pop(number, None)
        if now:
            self._now[number] = dict(now)


def _sum(parts: Iterable[Copies]) -> Copies:
    parts = tuple(parts)
    return Copies(sum(part.packets for part in parts), sum(part.bytes for part in parts))
