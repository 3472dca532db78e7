"""The ways by which copies from other bridges cross a bridge to tap ports.

Sessions of a tenant share them: those whose copies go to one tap port and wear one tag there. When
the last one has left, the way is closed. A bridge that cannot be told may go on to send its copies;
it counts them as made, so whoever drops them counts what was dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Set

from flows.compile.deliver import closed_way
from flows.model import CopyWay
from flows.openflow import IN_PORT, Flow


class Ways:
    """The ways over one bridge, open or closed; those ``before`` were compiled for another world.

    ``settle`` opens and closes them, after sessions have joined and left.
    """

    def __init__(self, before: Ways | None = None) -> None:
        self._users: defaultdict[CopyWay, set[int]] = defaultdict(set)
        self._left: defaultdict[CopyWay, set[int]] = defaultdict(set)
        """The sessions that have left, and that a bridge may not know of."""
        self._open: dict[CopyWay, tuple[Flow, ...]] = {}
        self._opened: frozenset[CopyWay] | None = None
        self._closed: dict[CopyWay, tuple[Flow, ...]] = {}
        self._counting: dict[CopyWay, int] = {}
        self._last: dict[CopyWay, tuple[Flow, ...]] = {}
        """The flows that a way has, or had when it was open."""
        self._touched: dict[CopyWay, None] = {}
        if before is not None:
            self._last = dict(before._last)
            for way in before._last:
                self._left[way] |= before._users[way] | before._left[way]
                self._touched[way] = None

    @property
    def open(self) -> frozenset[CopyWay]:
        """The ways that are open."""
        if self._opened is None:
            self._opened = frozenset(self._open)
        return self._opened

    @property
    def counting(self) -> frozenset[int]:
        """The sessions whose copies are counted where they are dropped."""
        return frozenset(self._counting.values())

    def is_outdated(self, untold: Set[int]) -> bool:
        """Whether a closed way need not count any more: bridges were told of its session."""
        return any(session not in untold for session in self._counting.values())

    def join(self, session: int, ways: Iterable[CopyWay]) -> None:
        """A session has these ways."""
        for way in ways:
            self._users[way].add(session)
            self._touched[way] = None

    def leave(self, session: int, ways: Iterable[CopyWay]) -> None:
        """A session that has joined does not have these ways any more."""
        for way in ways:
            self._users[way].discard(session)
            self._left[way].add(session)
            self._touched[way] = None

    def settle(
        self, untold: Set[int], links: Set[int], flows_of: Callable[[CopyWay], tuple[Flow, ...]]
    ) -> tuple[list[Flow], list[Flow]]:
        """The flows to remove, and to add, for all that was changed since the last time.

        ``untold`` are the sessions that bridges may be making copies of which cannot be told;
        ``links`` the ports of links, empty if the bridge cannot count. Copies that are dropped are
        counted only if it is certain whose they are.
        """
        touched, self._touched = self._touched, {}
        touched |= dict.fromkeys(w for w, n in self._counting.items() if n not in untold)
        gone: list[Flow] = []
        new: list[Flow] = []
        for way in touched:
            users = self._users[way]
            left = self._left[way] = (self._left[way] - users) & untold
            gone += self._closed.pop(way, ())
            self._counting.pop(way, None)
            if users and way not in self._open:
                self._open[way] = self._last[way] = flows_of(way)
                self._opened = None
                new += self._open[way]
            elif not users:
                gone += self._open.pop(way, ())
                self._opened = None
                new += self._close(way, left, links)
        return gone, new

    def _close(self, way: CopyWay, left: Set[int], links: Set[int]) -> tuple[Flow, ...]:
        """The flows that count what is dropped; without ``left`` nobody sends there any more."""
        if not left:
            for known in (self._users, self._left, self._last):
                known.pop(way, None)
            return ()
        if len(left) > 1:
            return ()
        (session,) = left
        closed = (closed_way(flow, session) for flow in self._last[way])
        flows = self._closed[way] = tuple(f for f in closed if _port_of_arrival(f) in links)
        if flows:
            self._counting[way] = session
        return flows


def _port_of_arrival(flow: Flow) -> int:
    return next(term.value for term in flow.match.terms if term.field == IN_PORT)
