"""Reads the counters of copies from bridges, with a bound on how long a status waits for them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from controller.process import BackgroundThread
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.report.pair_counters import PairCounters
from controller.southbound import SwitchGone
from controller.status import (
    NO_BEACONS,
    NOTHING_UNTOLD,
    Losses,
    Measure,
    SessionCountersByBridge,
    Uncounted,
    own_meters,
    uncounted_sentence,
)
from flows.errors import CloudtapError
from flows.model import DROPPED_METERS, Dpid
from flows.openflow import PacketCount
from flows.pipeline import DELIVER
from flows.plan import count_meters, dropped_meter, own_tag_meter

FRESH_S = 1.0
"""Counters that are not older are not read again for a status, in seconds."""
PATIENCE_S = 0.25
"""How long a status waits for counters, in seconds; then it shows the last ones."""
LAST_PATIENCE_S = 2.0
"""The same for the last counters of a session that is deleted."""
COUNT_S = 10.0
"""How often every bridge is asked, in seconds: what a bridge has counted since then is lost when it
is restarted."""
LIMITS_FRESH_S = 0.2
"""Counters of copies are read at most this often while sessions have limits, in seconds."""
SINGLES_MAX = 8
"""Counters of single sessions that are read within FRESH_S; then all are read at once."""
COUNT_RETRY_S, COUNT_RETRY_MAX_S = 0.5, 4.0
"""The pause after a bridge did not report its counters, in seconds: doubled after each further
failure in a row, up to the second value. Limits wait for counters, so one failure must not cost
them more than a second."""

DROPPED_MAX, RESET_S = 5, 1.0
"""How often counters are read again that were dropped because meters changed meanwhile, and how
long at most each time until these have changed, in seconds."""

MOVED = "its datapath id has changed: they are told once it has confirmed something under this one"
FAILURES_MAX = 8
"""Failures in a row that still lengthen the pause."""

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Polling:
    """When the counters of one bridge were read, and when they may be read again."""

    busy: threading.Lock = field(default_factory=threading.Lock)
    """Held by who reads."""
    read_at: float = -math.inf
    """When all counters were last read."""
    plan: int = 0
    """Which plan the datapath followed then."""
    untold: frozenset[int] = frozenset()
    """The sessions of which was left out then what the bridge had dropped."""
    not_before: float = -math.inf
    failures: int = 0
    singles_since: float = -math.inf
    singles: int = 0
    """Sessions that were asked for since ``singles_since``."""
    doubtful: frozenset[int] = frozenset()
    """The sessions of which it has reported what no counter can have reached."""
    told_at: float | None = None
    """When it was asked for the counters of all sessions that it has told last."""
    uncounted: Uncounted | None = None
    """What it has not told since."""
    missing: int | None = None
    """The only session that it has not told of then; None: all."""

    def note_told(self, session: int | None, asked_at: float) -> None:
        """It has told the counters of one session, or of all."""
        if session is None:
            self.told_at = asked_at
        if session is None or (self.uncounted is not None and session == self.missing):
            self.uncounted = self.missing = None

    def note_missed(self, session: int | None, why: str, age_s: float) -> None:
        """It has not; what it has told last is so old."""
        if self.uncounted is None:
            since = datetime.now(UTC) - timedelta(seconds=age_s)
            self.uncounted, self.missing = Uncounted(since, why), session
            return
        self.uncounted = replace(self.uncounted, why=why)
        if session != self.missing:
            self.missing = None


class CounterPoller:
    """Asks bridges for counters, each by one thread at a time, and never waits long for any.

    Whoever asks for one session gets its counters alone, by a small request; only who asks for
    many in a row makes the switch report all. ``untold`` returns the sessions that bridges may be
    making copies of which cannot be told anything now.
    """

    def __init__(
        self,
        counters: SessionCountersByBridge,
        writers: Callable[[], Iterable[BridgeWriter]],
        now: Callable[[], float] = time.monotonic,
        untold: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._untold = untold
        self.counters, self._writers, self._now = counters, writers, now
        self.pairs = PairCounters(now)
        self._storing = threading.Lock()
        self._polling: dict[Dpid, _Polling] = {}

    def count_copies(self, sessions: Iterable[int]) -> None:
        """Ask the bridges that may have copied for these sessions how much it was."""
        numbers = frozenset(sessions)
        for writer in self._writers():
            if any(may_count(writer, number) for number in numbers):
                self.read(writer, fresh_s=LIMITS_FRESH_S)

    def count_everything(self) -> float:
        """Ask every bridge how much it has copied; returns COUNT_S, when it is due again."""
        for writer in self._writers():
            self.read(writer)
        return COUNT_S

    def uncounted(self, dpid: Dpid, session: int | None = None) -> Uncounted | None:
        """Since when a bridge has not told its counters, or those of one session; None if it has.

        Nothing is said of one that is not asked: it is not verified, and says itself why.
        """
        polling = self._polling.get(dpid)
        if polling is None or (session is not None and polling.missing not in (None, session)):
            return None
        return polling.uncounted

    def untold_of(self, session: int) -> list[str]:
        """The bridges that may have counted a session and do not tell, a sentence each."""
        asked = [writer for writer in self._writers() if may_count(writer, session)]
        found = ((w.switch.name, self.uncounted(w.dpid, session)) for w in asked)
        return [uncounted_sentence(name, one) for name, one in found if one is not None]

    def age_s(self, dpid: Dpid) -> float | None:
        """How old the counters of a bridge are, in seconds; None if it has never told them."""
        polling = self._polling.get(dpid)
        if polling is None or polling.told_at is None:
            return None
        return max(0.0, self._now() - polling.told_at)

    def copies_of(self, session: int) -> PacketCount:
        """All copies of a session, as far as they were counted."""
        return self.counters.made(session)

    def losses_of(self, session: int) -> Losses:
        """All losses of a session, as far as they were counted."""
        return self.counters.losses(session)

    def count_last(self, session: int, deadline: float = math.inf) -> None:
        """Ask every bridge that has counted for a session how much it was, and wait for it.

        After ``deadline`` (monotonic, in seconds) none is waited for longer than a status does.
        """
        for writer in self._writers():
            patience_s = max(PATIENCE_S, min(LAST_PATIENCE_S, deadline - time.monotonic()))
            self.read(writer, session, patience_s=patience_s)

    def parts(
        self, sessions: Container[int]
    ) -> Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]]:
        """What some sessions have counted, by session, bridge and measure: what was before the
        switch began at 0, and its report.
        """
        return self.counters.parts(sessions)

    def parts_on(
        self, dpid: Dpid, sessions: Container[int]
    ) -> Mapping[tuple[int, Measure], tuple[PacketCount, PacketCount]]:
        """The same of some sessions on one bridge, by session and measure."""
        return self.counters.parts_on(dpid, sessions)

    def take_unkept(self) -> Iterator[tuple[Dpid, frozenset[int]]]:
        """By bridge, the sessions that it counts from 0 from now on; each is told once."""
        return self.counters.take_unkept()

    def storing(self) -> AbstractContextManager[object]:
        """Whoever stores counts does so inside, one at a time: they belong to one datapath id."""
        return self._storing

    def restore_copies(
        self, dpid: Dpid, measure: Measure, session: int, before: PacketCount, last: PacketCount
    ) -> None:
        """Go on with what an earlier controller has counted."""
        self.counters.of(dpid).restore(session, measure, before, last)

    def keep(self, sessions: frozenset[int]) -> None:
        """Forget what was counted of sessions that no longer have these numbers."""
        self.counters.keep(sessions)

    def forget(self, dpid: Dpid) -> None:
        """Forget a bridge that has never counted a copy."""
        self.retire(dpid)
        self.counters.forget(dpid)

    def retire(self, dpid: Dpid) -> None:
        """No bridge has this datapath id any more."""
        self._polling.pop(dpid, None)
        self.pairs.forget(dpid)

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """The moves to other datapath ids that the store does not know of, the oldest first."""
        return self.counters.unstored()

    def unstored_parts(
        self, sessions: Container[int]
    ) -> tuple[
        Sequence[Mapping[Dpid, Dpid]],
        Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]],
    ]:
        """The same, and what some sessions have counted on all their ids, of one moment."""
        return self.counters.unstored_parts(sessions)

    def note_stored(self, moves: Sequence[Mapping[Dpid, Dpid]]) -> None:
        """The store knows of these moves, and has the counts of these ids as they are."""
        self.counters.note_stored(moves)

    def take_rewritten(self) -> Set[Dpid]:
        """The ids of moves that were stored since the last call, with all counts."""
        return self.counters.take_rewritten()

    def read(
        self,
        writer: BridgeWriter,
        session: int | None = None,
        fresh_s: float = FRESH_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Have the counters of a bridge, or of one session on it, be at most ``fresh_s`` old.

        Counters that were read before the datapath followed the last change are never fresh. They
        may be older when the bridge does not answer within ``patience_s``. A bridge that was not
        verified is not asked: others may have dropped what it has copied, and count that then.
        """
        if not writer.is_verified:
            return
        if session is not None and not may_count(writer, session):
            return
        polling = self._of(writer.dpid)
        if not polling.busy.acquire(timeout=patience_s):
            return
        now = self._now()
        is_fresh = now - polling.read_at < fresh_s and polling.plan == writer.settled.plan
        is_fresh = is_fresh and (not polling.untold or polling.untold <= self._untold())
        if is_fresh or now < polling.not_before:
            polling.busy.release()
            return
        if session is not None and not _is_single(polling, now):
            session = None
        asking = BackgroundThread(self._ask, writer, session, polling, name="counters")
        try:
            asking.start()
        except RuntimeError as problem:  # one more thread than the process may have
            polling.note_missed(session, str(problem), self._age_s(polling, now))
            polling.busy.release()
            log.warning("copies not counted", bridge=writer.switch.name, reason=str(problem))
            return
        asking.wait(patience_s)

    @contextmanager
    def hold(self, dpid: Dpid) -> Iterator[None]:
        """Inside, nobody else reads the counters of the bridge."""
        with self._of(dpid).busy:
            yield

    def _of(self, dpid: Dpid) -> _Polling:
        return self._polling.setdefault(dpid, _Polling())

    def _age_s(self, polling: _Polling, asked_at: float) -> float:
        """How old what a bridge has told last is, or the question if it has told nothing."""
        told_at = asked_at if polling.told_at is None else polling.told_at
        return max(0.0, self._now() - told_at)

    def _ask(self, writer: BridgeWriter, session: int | None, polling: _Polling) -> None:
        asked_at = self._now()
        try:
            counters = writer.session_counters
            if counters.has_moved:  # of which bridge this connection is, is not known
                polling.note_missed(None, MOVED, self._age_s(polling, asked_at))
                return
            for _ in range(DROPPED_MAX):
                if self._count(writer, session, polling) or not counters.wait_reset(RESET_S):
                    break
            self.pairs.read(writer)
            polling.failures = 0
            polling.note_told(session, asked_at)
            doubtful = counters.doubtful
            if more := sorted(doubtful - polling.doubtful):
                log.warning("counters left out", bridge=writer.switch.name, sessions=more)
            polling.doubtful = doubtful
        except CloudtapError as problem:
            if not isinstance(problem, SwitchGone):  # the status says that it is not connected
                polling.note_missed(session, str(problem), self._age_s(polling, asked_at))
            pause = min(COUNT_RETRY_S * 2**polling.failures, COUNT_RETRY_MAX_S)
            polling.not_before = self._now() + pause
            polling.failures = min(polling.failures + 1, FAILURES_MAX)
            log.warning("copies not counted", bridge=writer.switch.name, reason=str(problem))
        except Exception as problem:  # the edge of a thread: a defect must be seen
            why = "see `counting failed` in the log"
            polling.note_missed(session, why, self._age_s(polling, asked_at))
            log.error("counting failed", bridge=writer.switch.name, exc_info=problem)
        finally:
            polling.busy.release()

    def _count(self, writer: BridgeWriter, session: int | None, polling: _Polling) -> bool:
        """Read counters once; False if they were dropped, so that those known are not fresh."""
        untold = self._untold() if may_drop(writer) else NOTHING_UNTOLD
        if session is not None:
            return count_one(writer, session, is_untold=session in untold)
        read_at, plan = self._now(), writer.settled.plan
        is_counted = count_all(writer, untold)
        if is_counted:
            polling.read_at, polling.plan, polling.untold = read_at, plan, untold
        return is_counted


def _is_single(polling: _Polling, now: float) -> bool:
    """Whether few sessions of this bridge were asked for lately; counts one more."""
    if now - polling.singles_since >= FRESH_S:
        polling.singles_since, polling.singles = now, 0
    polling.singles += 1
    return polling.singles <= SINGLES_MAX


def may_count(writer: BridgeWriter, session: int) -> bool:
    """Whether a bridge makes copies of a session, or has meters that have counted some.

    While a plan is sent, which meters it has is not known: then it may.
    """
    there = writer.meters
    if session in writer.confirmed.served or there is None:
        return True
    others = (own_tag_meter(session).number, dropped_meter(session).number)
    return any(meter in there for meter in (*count_meters(session), *others))


def may_drop(writer: BridgeWriter) -> bool:
    """Whether a bridge may have meters that count what it drops of the copies of others."""
    return writer.meters is None or any(meter in DROPPED_METERS for meter in list(writer.meters))


def count_all(writer: BridgeWriter, untold: Set[int] = NOTHING_UNTOLD) -> bool:
    """Read how many copies a bridge has made of each session, and dropped of those of others.

    False: meters were reset meanwhile, so that what was read counts for nothing.

    Raises:
        SouthboundError: the switch does not answer.
    """
    moment = writer.session_counters.moment
    if not writer.switch.has_meters:
        copies = writer.switch.copies_by_match(DELIVER.number)
        return writer.session_counters.update_flows(copies, moment)
    if writer.meters == {}:
        return True
    caps = writer.confirmed.session_by_meter
    return writer.session_counters.update(writer.switch.metered(), caps, moment, untold)


def count_one(
    writer: BridgeWriter,
    session: int,
    beacons: Mapping[Measure, PacketCount] = NO_BEACONS,
    *,
    is_untold: bool = True,
) -> bool:
    """Read how many copies a bridge has made of one session; False as in ``count_all``.

    ``beacons`` were sent since the last time, and are counted by the bridge as these measures.
    What it has dropped of copies from others is left out if these may be untold (``is_untold``).

    Raises:
        SouthboundError: the switch does not answer.
    """
    counters, caps = writer.session_counters, writer.confirmed.session_by_meter
    moment = counters.moment
    if not writer.switch.has_meters:
        counted = writer.switch.copies_by_match(DELIVER.number, session)
        of_flows = beacons.get(Measure.FLOWS)
        return counters.update_flows_of(session, counted, moment, of_flows)
    metered = writer.switch.metered(own_meters(session, caps, writer.meters))
    return counters.update_one(session, metered, caps, moment, beacons, is_untold=is_untold)
