"""Which bridges have to do with a session: looked up for one, or indexed for many at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.protocols import InstalledSessions
from controller.reconcile.report.counter_poller import may_count
from controller.reconcile.writers import Writers
from controller.status import SessionCountersByBridge
from flows.model import DROPPED_METERS, OWN_TAG_METERS, Dpid
from flows.plan import counts_made, session_of_meter

NO_BRIDGES: frozenset[Dpid] = frozenset()


@dataclass(frozen=True, slots=True)
class SessionBridges:
    """The bridges that have to do with one session.

    ``holders`` may have flows of it, ``concerned`` make its copies or refused to, ``counting`` are
    the writers of those whose switches may count it now, and of ``counted`` something was read.
    """

    holders: frozenset[Dpid] = NO_BRIDGES
    concerned: frozenset[Dpid] = NO_BRIDGES
    counting: tuple[BridgeWriter, ...] = ()
    counted: frozenset[Dpid] = NO_BRIDGES


class BridgesOfSessions:
    """Finds the bridges of a session by its number.

    ``find`` looks at every bridge. ``index`` does so once for all sessions: what a list of them
    costs is in proportion to the sessions that bridges serve, not to all pairs of both.
    """

    def __init__(
        self,
        writers: Writers,
        installed_sessions: InstalledSessions,
        counters: SessionCountersByBridge,
    ) -> None:
        self._writers, self._installed_sessions = writers, installed_sessions
        self._counters = counters

    def find(self, number: int) -> SessionBridges:
        """The bridges of one session."""
        return SessionBridges(
            self._installed_sessions.holders(number),
            frozenset(self._writers.concerned_with(number, ())),
            tuple(w for w in self._writers.writing() if may_count(w, number)),
            self._counters.counted(number),
        )

    def index(self, pause: Callable[[], None]) -> Callable[[int], SessionBridges]:
        """The same for every session; ``pause`` is called between bridges."""
        holders, concerned = _Bridges(), _Bridges()
        counted = _Bridges()
        counting: defaultdict[int, list[BridgeWriter]] = defaultdict(list)
        for dpid, sessions in self._installed_sessions.sessions_by_bridge().items():
            holders.add(dpid, sessions)
            pause()
        for dpid, confirmed in self._writers.confirmed().items():
            concerned.add(dpid, {*confirmed.served, *confirmed.blockers})
            pause()
        for writer in self._writers.writing():
            for session in _counting(writer):
                counting[session].append(writer)
            pause()
        for dpid, numbers in self._counters.numbers_by_bridge():
            counted.add(dpid, numbers)
            pause()

        def of(number: int) -> SessionBridges:
            return SessionBridges(
                holders.of(number),
                concerned.of(number),
                tuple(counting.get(number, ())),
                counted.of(number),
            )

        return of


class _Bridges:
    """Bridges by the number of a session."""

    def __init__(self) -> None:
        self._by_session: defaultdict[int, list[Dpid]] = defaultdict(list)

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        for session in sessions:
            self._by_session[session].append(dpid)

    def of(self, session: int) -> frozenset[Dpid]:
        return frozenset(self._by_session.get(session, ()))


def _counting(writer: BridgeWriter) -> Iterable[int]:
    """The sessions for which ``may_count`` is true."""
    meters: Mapping[int, object] = writer.meters or {}
    made = (counts_made(meter) for meter in list(meters))
    ranges = (DROPPED_METERS, OWN_TAG_METERS)
    others = (session_of_meter(meter, some) for meter in list(meters) for some in ranges)
    return {
        *writer.confirmed.served,
        *(found[0] for found in made if found is not None),
        *(session for session in others if session is not None),
    }
