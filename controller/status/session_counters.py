"""What one bridge has counted of each session: copies wanted, cut, left out, and so made."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Set

from controller.status.counters import Counters, FlowCopies
from controller.southbound.switch import Metering
from controller.status.values import Copies, Losses, Measure
from flows.openflow.flow import make_cookie, object_of
from flows.plan.meters import counts_long, long_meter
from flows.model.session import Dpid, Oversize
from flows.pipeline.tables import BRIDGE_METER

LATELY_S = 60.0
"""What was lost within so many seconds is a matter of now."""

CUT = {Oversize.TRUNCATE: Measure.TRUNCATED, Oversize.SKIP: Measure.SKIPPED}
LOST = (Measure.TRUNCATED, Measure.SKIPPED, Measure.SHED)


class Tally:
    """The counters of one bridge in every measure; they outlive connections, and may be restored.

    A flow counts what was wanted, whatever a meter makes of it. What is made is the rest. Meters
    are read after flows, and tell at once what flows tell within a second, so ``made`` is never
    more than was made; it never goes back either.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counters = {measure: Counters() for measure in Measure}
        self._bridge = Counters()
        self._made: dict[int, Copies] = {}
        self._lost: dict[tuple[int, Measure], tuple[int, float]] = {}

    @property
    def wanted(self) -> Counters:
        """The copies that sessions want."""
        return self._counters[Measure.WANTED]

    def update(self, metered: Mapping[int, Metering], session_by_meter: Mapping[int, int]) -> None:
        """Take what all meters of the bridge report; ``session_by_meter`` knows those of caps."""
        sessions: set[int] = set()
        for measure, now in _by_measure(metered, session_by_meter).items():
            self._counters[measure].update(now)
            sessions |= {object_of(cookie) for cookie in now}
        shed = metered.get(BRIDGE_METER)
        self._bridge.update({} if shed is None else {_key(0, BRIDGE_METER): shed.dropped})
        self._note({*sessions, 0})

    def update_one(
        self, number: int, metered: Mapping[int, Metering], session_by_meter: Mapping[int, int]
    ) -> None:
        """The same of one session."""
        for measure, now in _by_measure(metered, session_by_meter).items():
            self._counters[measure].update_one(number, now)
        self._note({number})

    def knows(self, number: int) -> bool:
        """Whether anything was ever counted for a session."""
        return any(counters.knows(number) for counters in self._counters.values())

    def made(self, number: int) -> Copies:
        """The copies of one session that were made, as far as they were counted."""
        wanted, before = self.wanted.of(number), self._made.get(number, Copies())
        lost = [self._counters[measure].of(number) for measure in (Measure.SKIPPED, Measure.SHED)]
        made = self._made[number] = Copies(
            max(before.packets, wanted.packets - sum(each.packets for each in lost)),
            max(before.bytes, wanted.bytes - sum(each.bytes for each in lost)),
        )
        return made

    def losses(self, number: int) -> Losses:
        """What became of wanted copies that were not made, or not whole."""
        return Losses(*(self._counters[measure].of(number).packets for measure in LOST))

    def lately(self, number: int) -> frozenset[Measure]:
        """What was lost within LATELY_S; ask for session 0 about the cap of the bridge."""
        since = self._now() - LATELY_S
        return frozenset(m for m in LOST if self._lost.get((number, m), (0, since))[1] > since)

    @property
    def bridge_shed(self) -> int:
        """Packets that exceeded the cap of the whole bridge."""
        return self._bridge.of(0).packets

    def parts_of(self, number: int) -> Mapping[Measure, tuple[Copies, Copies]]:
        """What to write down of a session: see Counters.parts_of; measures without any left out."""
        parts = {measure: each.parts_of(number) for measure, each in self._counters.items()}
        return {measure: both for measure, both in parts.items() if any(map(_is_some, both))}

    def restore(self, number: int, measure: Measure, before: Copies, last: Copies) -> None:
        """Go on with what an earlier controller has counted; its losses are not of now."""
        self._counters[measure].restore(number, before, last)
        self._lost[number, measure] = (before + last).packets, -math.inf

    def keep(self, numbers: Set[int]) -> None:
        """Forget all other sessions: their numbers may be given to new ones."""
        for counters in self._counters.values():
            counters.keep(numbers)
        self._made = {n: made for n, made in list(self._made.items()) if n in numbers}
        wanted = numbers | {0}
        self._lost = {key: lost for key, lost in list(self._lost.items()) if key[0] in wanted}

    def _note(self, numbers: Iterable[int]) -> None:
        """Remember when losses grew."""
        now = self._now()
        for number in numbers:
            for measure in LOST:
                counted = self._counters[measure].of(number).packets
                if number == 0 and measure is Measure.SHED:
                    counted = self.bridge_shed
                if counted > self._lost.get((number, measure), (0, 0.0))[0]:
                    self._lost[number, measure] = counted, now


def _by_measure(
    metered: Mapping[int, Metering], session_by_meter: Mapping[int, int]
) -> Mapping[Measure, FlowCopies]:
    """What meters counted, by what it means, as counters of flows that have the session's number.

    Measures of which nothing is reported are there, and empty.
    """
    found: defaultdict[Measure, dict[int, Copies]] = defaultdict(dict)
    for number, counted in metered.items():
        long = counts_long(number)
        if long is not None:
            session, oversize = long
            found[CUT[oversize]][_key(session, number)] = counted.seen
        elif number in session_by_meter:
            found[Measure.SHED][_key(session_by_meter[number], number)] = counted.dropped
    return {measure: found[measure] for measure in LOST}


def _key(session: int, meter: int) -> int:
    return make_cookie(session, meter)


def _is_some(copies: Copies) -> bool:
    return copies != Copies()


class Tallies:
    """Those of all bridges; they are never forgotten, so that a bridge may come back."""

    def __init__(self) -> None:
        self._by_dpid: dict[Dpid, Tally] = {}

    def of(self, dpid: Dpid) -> Tally:
        """The tally of one bridge; an empty one at first."""
        return self._by_dpid.setdefault(dpid, Tally())

    def made(self, session: int) -> Copies:
        """All copies of a session that were made, as far as they were counted."""
        parts = (tally.made(session) for tally in self._knowing(session).values())
        return sum(parts, Copies())

    def by_bridge(self, session: int) -> Mapping[Dpid, tuple[Copies, Losses]]:
        """The copies of a session that each bridge has made, and what became of the others."""
        parts = {d: (t.made(session), t.losses(session)) for d, t in self._knowing(session).items()}
        return {dpid: part for dpid, part in parts.items() if part != (Copies(), Losses())}

    def lately(self, session: int) -> frozenset[Measure]:
        """What was lost lately, on any bridge."""
        found = (tally.lately(session) for tally in self._knowing(session).values())
        return frozenset[Measure]().union(*found)

    def parts_of(self, session: int) -> Mapping[tuple[Dpid, Measure], tuple[Copies, Copies]]:
        """What to write down of a session, by bridge and measure."""
        return {
            (dpid, measure): both
            for dpid, tally in list(self._by_dpid.items())
            for measure, both in tally.parts_of(session).items()
        }

    def keep(self, sessions: Set[int]) -> None:
        """Forget what was counted for all other sessions, on every bridge."""
        for tally in list(self._by_dpid.values()):
            tally.keep(sessions)

    def _knowing(self, session: int) -> Mapping[Dpid, Tally]:
        known = list(self._by_dpid.items())
        return {dpid: tally for dpid, tally in known if tally.knows(session)}


def own_meters(
    session: int, session_by_meter: Mapping[int, int], there: Container[int] | None
) -> list[int]:
    """The meters that count for a session, of those that are ``there`` (None: any may be)."""
    found = [number for number, held_by in session_by_meter.items() if held_by == session]
    found += [long_meter(session, oversize).number for oversize in Oversize]
    return [number for number in found if there is None or number in there]
