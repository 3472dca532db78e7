"""Counters of each session on each bridge: copies made, truncated, skipped and shed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace

from controller.status.counters import CountsByCookie, CumulativeCounters
from controller.status.values import Losses, Measure
from flows.model import (
    BRIDGE_METER,
    DROPPED_METERS,
    LOST_METERS,
    OWN_TAG_METERS,
    PORT_METERS,
    Dpid,
    Oversize,
)
from flows.openflow import VLAN_HEADER, MeterCount, PacketCount, make_cookie, object_of
from flows.plan import count_meters, counts_long, counts_made, long_meter, session_of_meter

RECENT_S = 60.0
"""How long a loss degrades the status of its session, in seconds."""

MEASURES = {Oversize.TRUNCATE: Measure.TRUNCATED, Oversize.SKIP: Measure.SKIPPED}
LOSSES = (
    Measure.TRUNCATED, Measure.SKIPPED, Measure.SHED, Measure.PORT_SHED, Measure.LOST
)  # fmt: skip
MEASURED = (
    (PORT_METERS, Measure.PORT_SHED), (LOST_METERS, Measure.LOST),
    (DROPPED_METERS, Measure.DROPPED), (OWN_TAG_METERS, Measure.OWN_TAG),
)  # fmt: skip
NOTED = (*LOSSES, Measure.DROPPED)
COPIES = (Measure.MADE, Measure.TAGGED, Measure.OWN_TAG, Measure.FLOWS)
NO_BEACONS: Mapping[Measure, PacketCount] = {}
METERED = (Measure.MADE, Measure.TAGGED, Measure.OWN_TAG, *LOSSES, Measure.DROPPED)
NOTHING_UNTOLD = frozenset[int]()


class SessionCounters:
    """The counters of one bridge in every measure; they outlive connections, and may be restored.

    Meters count in the datapath at the moment at which it outputs or drops a copy, so what was made
    and what was lost is exact at any moment. On a bridge without meters flows count, which is
    right only between changes: see docs/decisions/0023-what-a-count-counts.md.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counters = {measure: CumulativeCounters() for measure in Measure}
        self._bridge = CumulativeCounters()
        self._lock = threading.Lock()
        self._reset_ended = threading.Condition(self._lock)
        self._resets = self._resetting = 0
        self._lost: dict[tuple[int, Measure], tuple[int, float]] = {}
        self._unkept: set[int] = set()
        self._altered: dict[int, float] = {}
        self.has_moved = False
        """Whether what was counted is that of another datapath id now (see ``take``)."""

    def update_flows(self, counted: CountsByCookie, moment: int | None = None) -> bool:
        """Take what flows have counted of all sessions, on a bridge without meters.

        False: they are dropped, as in ``update``.
        """
        with self._lock:
            if self._is_outdated(moment):
                return False
            self._counters[Measure.FLOWS].update(counted)
            return True

    def update_flows_of(
        self,
        number: int,
        counted: CountsByCookie,
        moment: int | None = None,
        beacons: PacketCount | None = None,
    ) -> bool:
        """The same of one session; ``beacons`` of them are not copies, as in ``update_one``."""
        with self._lock:
            self._unkept |= {number} if beacons else set()
            if self._is_outdated(moment):
                if beacons is not None:
                    self._counters[Measure.FLOWS].leave_out(number, beacons)
                return False
            self._counters[Measure.FLOWS].update_one(number, counted, beacons)
            return True

    def update(
        self,
        metered: Mapping[int, MeterCount],
        session_by_meter: Mapping[int, int],
        moment: int | None = None,
        untold: Set[int] = NOTHING_UNTOLD,
    ) -> bool:
        """Take the counters of all meters of the bridge; ``session_by_meter`` has those of caps.

        False: they are dropped, as meters were reset since ``moment`` (None: they were not). What
        the caps of other sessions have shed stays as it is: it is not known which meters these are.
        So does what was dropped of the sessions ``untold``: a bridge that is away has made these
        copies, and nobody has counted them yet.
        """
        with self._lock:
            if self._is_outdated(moment):
                return False
            self._update(metered, session_by_meter, untold)
            return True

    def _update(
        self,
        metered: Mapping[int, MeterCount],
        session_by_meter: Mapping[int, int],
        untold: Set[int],
    ) -> None:
        sessions: set[int] = set()
        capped = frozenset(session_by_meter.values())
        dropped = self._counters[Measure.DROPPED].numbers()
        for measure, now in _by_measure(metered, session_by_meter).items():
            asked: Set[int] | None = capped if measure is Measure.SHED else None
            if measure is Measure.DROPPED and untold:
                asked = {*dropped, *map(object_of, now)} - untold
            self._counters[measure].update(now, asked)
            sessions |= {object_of(cookie) for cookie in now}
        shed = metered.get(BRIDGE_METER)
        self._bridge.update({} if shed is None else {_key(0, BRIDGE_METER): shed.dropped})
        self._note({*sessions, 0})

    def update_one(
        self,
        number: int,
        metered: Mapping[int, MeterCount],
        session_by_meter: Mapping[int, int],
        moment: int | None = None,
        beacons: Mapping[Measure, PacketCount] = NO_BEACONS,
        *,
        is_untold: bool = False,
    ) -> bool:
        """The same for one session, and for the cap of the bridge if its meter is among them.

        ``beacons`` were counted since the last time, or are by whoever reads next; that is to be
        stored soon, as nobody else knows that they are not copies.
        """
        with self._lock:
            self._unkept |= {number} if beacons else set()
            if self._is_outdated(moment):
                for measure, frames in beacons.items():
                    self._counters[measure].leave_out(number, frames)
                return False
            is_capped = number in session_by_meter.values()
            left_out = {Measure.SHED} if not is_capped else set[Measure]()
            left_out |= {Measure.DROPPED} if is_untold else set()
            for measure, now in _by_measure(metered, session_by_meter).items():
                if measure not in left_out:
                    self._counters[measure].update_one(number, now, beacons.get(measure))
            if (shed := metered.get(BRIDGE_METER)) is not None:
                self._bridge.update({_key(0, BRIDGE_METER): shed.dropped})
            self._note({number, 0})
            return True

    def update_some(
        self, metered: Mapping[int, MeterCount], session_by_meter: Mapping[int, int]
    ) -> None:
        """Take the counters of some meters; all others stay as they are."""
        with self._lock:
            for measure, now in _by_measure(metered, session_by_meter).items():
                for cookie, counted in now.items():
                    self._counters[measure].update_one(object_of(cookie), {cookie: counted})
                sessions = {object_of(cookie) for cookie in now}
                self._note(sessions)
                self._unkept |= sessions  # what ends is known to nobody else from now on

    @property
    def moment(self) -> int:
        """Now, for ``update``: note it before counters are read."""
        return self._resets

    def wait_reset(self, timeout_s: float) -> bool:
        """Block while meters are being reset; False if they still are after ``timeout_s``."""
        with self._reset_ended:
            return self._reset_ended.wait_for(lambda: not self._resetting, timeout_s)

    def _is_outdated(self, moment: int | None) -> bool:
        return moment is not None and (self._resetting > 0 or moment != self._resets)

    @contextmanager
    def resetting(
        self, added: Iterable[int], changed: Iterable[int], session_by_meter: Mapping[int, int]
    ) -> Iterator[None]:
        """Inside, these meters are added to the bridge, or changed: then they count from 0.

        Their last values are kept. Counters that are read meanwhile are dropped: nobody knows
        whether they are of before or of after.
        """
        with self._lock:
            self._resetting += 1
            self._restart(added, session_by_meter)
        try:
            yield
            with self._lock:
                self._restart(changed, session_by_meter)
        finally:
            with self._lock:
                self._resetting, self._resets = self._resetting - 1, self._resets + 1
                self._reset_ended.notify_all()

    def _restart(self, meters: Iterable[int], session_by_meter: Mapping[int, int]) -> None:
        for meter in meters:
            if meter == BRIDGE_METER:
                self._bridge.restart(0)
                self._lost.setdefault((0, Measure.SHED), (0, -math.inf))
            elif (counted := _counted_by(meter, session_by_meter)) is not None:
                session, measure = counted
                self._counters[measure].restart(session)
                self._unkept.add(session)

    def note_altered(self, meters: Iterable[int], session_by_meter: Mapping[int, int]) -> None:
        """Somebody else has removed or changed these meters: some of what they counted is lost."""
        counted = (_counted_by(meter, session_by_meter) for meter in meters)
        sessions = {session for session, _ in filter(None, counted)}
        with self._lock:
            self._altered |= dict.fromkeys(sessions, self._now())
            self._unkept |= sessions

    def was_altered(self, number: int) -> bool:
        """Whether meters of a session were found altered within RECENT_S."""
        return self._altered.get(number, -math.inf) > self._now() - RECENT_S

    @property
    def doubtful(self) -> frozenset[int]:
        """The sessions of which the bridge has reported a value that no counter can have; 0 stands
        for the cap of the bridge.
        """
        sessions = (counters.doubtful for counters in self._counters.values())
        return self._bridge.doubtful.union(*sessions)

    def is_doubtful(self, number: int) -> bool:
        """Whether the bridge has reported such a value of one session."""
        return any(counters.is_doubtful(number) for counters in self._counters.values())

    def has_counted(self, number: int) -> bool:
        """Whether anything was ever counted for a session."""
        return any(counters.has_counted(number) for counters in self._counters.values())

    def numbers(self) -> set[int]:
        """The sessions for which anything was ever counted."""
        return set[int]().union(*(counters.numbers() for counters in self._counters.values()))

    def note_gone(self) -> None:
        """The bridge is away: perhaps nobody else knows any more what it has counted."""
        with self._lock:
            self._unkept |= self.numbers()

    def take_unkept(self) -> frozenset[int]:
        """The sessions whose counters are to be stored now, since the last call: they began at 0,
        went, or hold beacons.
        """
        with self._lock:
            found, self._unkept = self._unkept, set()
        return frozenset(found & self.numbers() if found else found)

    def dropped(self, number: int) -> PacketCount:
        """The copies of one session that other bridges have made, and that were dropped here."""
        return self._counters[Measure.DROPPED].of(number)

    def made(self, number: int) -> PacketCount:
        """The copies of one session that were made, as far as counters were read."""
        return sum((self._counters[measure].of(number) for measure in COPIES), PacketCount())

    def losses(self, number: int) -> Losses:
        """The wanted copies of one session that were not made, or were truncated."""
        return Losses(*(self._counters[measure].of(number).packets for measure in LOSSES))

    def recent_losses(self, number: int) -> frozenset[Measure]:
        """The measures that lost copies within RECENT_S; session 0 is the cap of the bridge."""
        since = self._now() - RECENT_S
        found = {m for m in NOTED if self._lost.get((number, m), (0, since))[1] > since}
        return frozenset(Measure.LOST if m is Measure.DROPPED else m for m in found)

    @property
    def bridge_shed(self) -> int:
        """Packets that exceeded the cap of the whole bridge."""
        return self._bridge.of(0).packets

    def parts_of(self, number: int) -> Mapping[Measure, tuple[PacketCount, PacketCount]]:
        """What to store of a session, by measure (CumulativeCounters.parts_of); without zeros."""
        parts = {measure: each.parts_of(number) for measure, each in self._counters.items()}
        return {measure: both for measure, both in parts.items() if any(map(_is_some, both))}

    def restore(
        self, number: int, measure: Measure, before: PacketCount, last: PacketCount
    ) -> None:
        """Continue with what an earlier controller process has counted; losses are not recent."""
        self._counters[measure].restore(number, before, last)
        self._lost[number, measure] = (before + last).packets, -math.inf

    def keep(self, numbers: Set[int]) -> None:
        """Forget all other sessions: new sessions may get their numbers."""
        for counters in self._counters.values():
            counters.keep(numbers)
        wanted = numbers | {0}
        self._lost = {key: lost for key, lost in list(self._lost.items()) if key[0] in wanted}
        self._altered = {n: at for n, at in list(self._altered.items()) if n in numbers}

    def take(self) -> SessionCounters:
        """All that was counted under a datapath id that another bridge has from now on, or none.

        Nothing is left here, and counters that are read meanwhile are dropped.
        """
        found = SessionCounters(self._now)
        with self._lock:
            self._counters, found._counters = found._counters, self._counters
            self._bridge, found._bridge = found._bridge, self._bridge
            self._lost, found._lost = found._lost, self._lost
            self._unkept, found._unkept = found._unkept, self._unkept
            self._altered, found._altered = found._altered, self._altered
            self._resets += 1
            self.has_moved = True
        return found

    def absorb(self, other: SessionCounters) -> None:
        """Continue with what was counted of the same bridge under another datapath id.

        Nobody else may use ``other`` meanwhile.
        """
        with self._lock:
            for measure, counters in other._counters.items():
                self._counters[measure].absorb(counters)
            self._bridge.absorb(other._bridge)
            self._lost = other._lost | self._lost
            self._unkept |= other._unkept
            self._altered = other._altered | self._altered
            self._resets += 1

    def _note(self, numbers: Iterable[int]) -> None:
        """Note the time at which losses have grown.

        What the cap of a bridge has shed is not stored: the first value of a meter that an earlier
        controller process has added is of nobody knows when.
        """
        now = self._now()
        self._lost.setdefault((0, Measure.SHED), (self.bridge_shed, -math.inf))
        for number in numbers:
            for measure in NOTED:
                counted = self._counters[measure].of(number).packets
                if number == 0 and measure is Measure.SHED:
                    counted = self.bridge_shed
                if counted > self._lost.get((number, measure), (0, 0.0))[0]:
                    self._lost[number, measure] = counted, now


def _by_measure(
    metered: Mapping[int, MeterCount], session_by_meter: Mapping[int, int]
) -> Mapping[Measure, CountsByCookie]:
    """Counters of meters by measure, under cookies that hold the session number.

    Every measure that meters count is present, some of them empty.
    """
    found: dict[Measure, dict[int, PacketCount]] = {measure: {} for measure in METERED}
    for meter, counts in metered.items():
        if (counted := _counted_by(meter, session_by_meter)) is not None:
            session, measure = counted
            found[measure][_key(session, meter)] = _value(measure, counts)
    return found


def _counted_by(meter: int, session_by_meter: Mapping[int, int]) -> tuple[int, Measure] | None:
    """The session number and the measure that a meter counts; None for other meters."""
    if (made := counts_made(meter)) is not None:
        session, is_tagged = made
        return session, Measure.TAGGED if is_tagged else Measure.MADE
    if (long := counts_long(meter)) is not None:
        session, oversize = long
        return session, MEASURES[oversize]
    if meter in session_by_meter:
        return session_by_meter[meter], Measure.SHED
    for meters, measure in MEASURED:
        if (owner := session_of_meter(meter, meters)) is not None:
            return owner, measure
    return None


def _value(measure: Measure, counts: MeterCount) -> PacketCount:
    """What a meter has counted of a measure."""
    if measure in (Measure.SHED, Measure.PORT_SHED):
        return counts.dropped
    if measure in (Measure.TAGGED, Measure.DROPPED):
        packets, octets = counts.seen.packets, counts.seen.bytes
        return PacketCount(packets, octets - VLAN_HEADER * packets)
    if measure is Measure.OWN_TAG:
        packets, octets = counts.seen.packets, counts.seen.bytes
        return PacketCount(packets, octets + VLAN_HEADER * packets)
    return counts.seen


def _key(session: int, meter: int) -> int:
    return make_cookie(session, meter)


def _is_some(copies: PacketCount) -> bool:
    return copies != PacketCount()


class SessionCountersByBridge:
    """The counters of all bridges; those of ours are kept, because a bridge may connect again.

    They belong to bridges, not to datapath ids: ``move`` says which bridges have other ids now.
    Who holds the counters of an id has those of the bridge that has it.
    """

    def __init__(self) -> None:
        self._by_dpid: dict[Dpid, SessionCounters] = {}
        self._lock = threading.RLock()
        """Held while counters go to other ids, so that nobody finds them at both, or at none."""
        self._unstored: list[Mapping[Dpid, Dpid]] = []
        self._rewritten: set[Dpid] = set()

    def of(self, dpid: Dpid) -> SessionCounters:
        """The counters of one bridge; empty at first."""
        with self._lock:
            return self._by_dpid.setdefault(dpid, SessionCounters())

    def knows(self, dpid: Dpid) -> bool:
        """Whether there are counters of this bridge."""
        return dpid in self._by_dpid

    def move(self, moves: Mapping[Dpid, Dpid]) -> None:
        """Bridges have other datapath ids, all of these at once: what each has counted goes along.

        Where a bridge was counted under its new id already, that is added. Call it once for each
        change, before a bridge can connect under its new id, or as soon as that is known.
        """
        with self._lock:
            self._unstored.append(dict(moves))
            taken = {old: self._by_dpid[old].take() for old in moves if old in self._by_dpid}
            for old in taken:  # who writes to a closed connection must not begin these at 0
                del self._by_dpid[old]
            for old, counters in taken.items():
                self.of(moves[old]).absorb(counters)

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """The moves that the store does not know of, the oldest first.

        What is stored of these ids is of the bridges that had them before.
        """
        with self._lock:
            return tuple(self._unstored)

    def unstored_parts(
        self, sessions: Container[int]
    ) -> tuple[
        Sequence[Mapping[Dpid, Dpid]],
        Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]],
    ]:
        """The same, and what to store of all their ids, of one moment."""
        with self._lock:
            moves = self.unstored()
            parts = {
                (number, dpid, measure): both
                for dpid in ids_of(moves)
                for (number, measure), both in self.parts_on(dpid, sessions).items()
            }
        return moves, parts

    def note_stored(self, moves: Sequence[Mapping[Dpid, Dpid]]) -> None:
        """The store knows of these moves, which were the oldest ones."""
        with self._lock:
            del self._unstored[: len(moves)]
            self._rewritten |= ids_of(moves)

    def take_rewritten(self) -> Set[Dpid]:
        """The ids of moves that were stored since the last call, with all counts."""
        with self._lock:
            found, self._rewritten = self._rewritten, set()
            return found

    def forget(self, dpid: Dpid) -> None:
        """Forget a bridge that has never counted a copy."""
        with self._lock:
            self._by_dpid.pop(dpid, None)

    def made(self, session: int) -> PacketCount:
        """The copies of a session that all bridges have made, as far as counters were read."""
        with self._lock:
            parts = self._parts(session, self._counting(session)).values()
        return sum((copies for copies, _ in parts), PacketCount())

    def losses(self, session: int) -> Losses:
        """The losses of a session on all bridges."""
        with self._lock:
            parts = self._parts(session, self._counting(session)).values()
        return sum((losses for _, losses in parts), Losses())

    def counted(self, session: int) -> frozenset[Dpid]:
        """The bridges that have counted anything for a session."""
        return frozenset(self._counting(session))

    def numbers_by_bridge(self) -> Iterator[tuple[Dpid, set[int]]]:
        """The sessions for which each bridge has counted anything."""
        for dpid, session_counters in list(self._by_dpid.items()):
            yield dpid, session_counters.numbers()

    def by_bridge(
        self, session: int, bridges: Iterable[Dpid] | None = None
    ) -> Mapping[Dpid, tuple[PacketCount, Losses]]:
        """The copies of a session that each of some bridges (None: all) made, and its losses."""
        with self._lock:
            some = self.counted(session) if bridges is None else bridges
            parts = self._parts(session, dict(self._some(some)))
        return {dpid: part for dpid, part in parts.items() if part != (PacketCount(), Losses())}

    def _parts(
        self, session: int, bridges: Mapping[Dpid, SessionCounters]
    ) -> Mapping[Dpid, tuple[PacketCount, Losses]]:
        """The copies of a session that bridges made, without those that others had to drop.

        Which bridge has made these is not known if there are several: the one that made most.
        """
        parts = {d: (each.made(session), each.losses(session)) for d, each in bridges.items()}
        dropped = sum((each.dropped(session) for each in bridges.values()), PacketCount())
        for dpid in sorted(parts, key=lambda d: -parts[d][0].packets) if dropped.packets else ():
            made, losses = parts[dpid]
            packets = min(dropped.packets, made.packets)
            octets = dropped.bytes * packets // max(dropped.packets, 1)
            fewer = PacketCount(packets, min(octets, made.bytes))
            parts[dpid] = made - fewer, replace(losses, lost=losses.lost + packets)
            dropped = dropped - fewer
        return parts

    def recent_losses(
        self, session: int, bridges: Iterable[Dpid] | None = None
    ) -> frozenset[Measure]:
        """The measures that lost copies within RECENT_S, on any of some bridges (None: of all)."""
        some = self.counted(session) if bridges is None else bridges
        found = (counters.recent_losses(session) for _, counters in self._some(some))
        return frozenset[Measure]().union(*found)

    def doubtful(self, session: int, bridges: Iterable[Dpid]) -> list[Dpid]:
        """Those of some bridges that report of a session what no counter can have reached."""
        return sorted(dpid for dpid, found in self._some(bridges) if found.is_doubtful(session))

    def _some(self, bridges: Iterable[Dpid]) -> Iterator[tuple[Dpid, SessionCounters]]:
        for dpid in bridges:
            if (found := self._by_dpid.get(dpid)) is not None:
                yield dpid, found

    def parts(
        self, sessions: Container[int]
    ) -> Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]]:
        """What to store of some sessions, by session, bridge and measure.

        It costs as much as bridges have counted, whatever the number of sessions.
        """
        return {
            (number, dpid, measure): both
            for dpid in list(self._by_dpid)
            for (number, measure), both in self.parts_on(dpid, sessions).items()
        }

    def parts_on(
        self, dpid: Dpid, sessions: Container[int]
    ) -> Mapping[tuple[int, Measure], tuple[PacketCount, PacketCount]]:
        """What to store of some sessions on one bridge, by session and measure."""
        found = self._by_dpid.get(dpid)
        if found is None:
            return {}
        known = (number for number in found.numbers() if number in sessions)
        parts = ((number, found.parts_of(number)) for number in known)
        return {(n, measure): both for n, some in parts for measure, both in some.items()}

    def note_gone(self, dpid: Dpid) -> None:
        """A bridge is away: what it has counted is to be stored."""
        if (found := self._by_dpid.get(dpid)) is not None:
            found.note_gone()

    def take_unkept(self) -> Iterator[tuple[Dpid, frozenset[int]]]:
        """The sessions whose counters are to be stored now, by bridge; each is told once."""
        for dpid, found in list(self._by_dpid.items()):
            if sessions := found.take_unkept():
                yield dpid, sessions

    def keep(self, sessions: Set[int]) -> None:
        """Forget what was counted for all other sessions, on every bridge."""
        for session_counters in list(self._by_dpid.values()):
            session_counters.keep(sessions)

    def _counting(self, session: int) -> Mapping[Dpid, SessionCounters]:
        known = list(self._by_dpid.items())
        return {
            dpid: session_counters
            for dpid, session_counters in known
            if session_counters.has_counted(session)
        }


def ids_of(moves: Iterable[Mapping[Dpid, Dpid]]) -> frozenset[Dpid]:
    """Every datapath id that these moves are about."""
    return frozenset(dpid for each in moves for pair in each.items() for dpid in pair)


def joined(moves: Iterable[Mapping[Dpid, Dpid]]) -> Mapping[Dpid, Dpid]:
    """Moves that came one after the other, as one; a bridge that is where it was is in it, too."""
    found: dict[Dpid, Dpid] = {}
    for each in moves:
        found = {**each, **{old: each.get(now, now) for old, now in found.items()}}
    return found


def own_meters(
    session: int, session_by_meter: Mapping[int, int], there: Container[int] | None
) -> list[int]:
    """The meters that count for a session, of those on the switch (``there``; None: not known).

    If the bridge is known to have a cap for all sessions, its meter is among them.
    """
    found = [number for number, holder in session_by_meter.items() if holder == session]
    found += [long_meter(session, oversize).number for oversize in Oversize]
    found += [meters.start + session for meters, _ in MEASURED]
    found += count_meters(session)
    if there is None:
        return found
    return [number for number in (*found, BRIDGE_METER) if number in there]
