"""Keeps rows of one database as demanded: what is missing, altered or unwanted is written.

A database may refuse, confirm what it then does not show, or show again and again what was removed:
each leads to a sentence, and to writes that come ever more seldom.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import is_
from typing import Any, Generic, Protocol, TypeVar

import structlog

from controller.southbound.ovsdb.rows import BridgeRow, DatabaseContent
from controller.southbound.ovsdb.write_pace import WRITE_PAUSE_MAX_S, WritePace
from flows.model import Dpid

WRITE_RETRY_S = 5.0
"""Time until a refused transaction is tried again, in seconds."""

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)
K_co = TypeVar("K_co", bound=Hashable, covariant=True)


class Demand(Protocol[K_co]):
    """What is demanded of one bridge."""

    @property
    def wanted(self) -> frozenset[K_co]:
        """What has to be there."""
        ...


D = TypeVar("D", bound=Demand[Any])


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What came of a request: a clause why it was refused, and names of ports that others have."""

    refused: str = ""
    taken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes(Generic[K]):
    """What to change for one bridge: what to add and to repair, and the names of what to remove.

    ``held`` is what is wanted and cannot be added now, with a sentence.
    """

    add: tuple[K, ...] = ()
    repair: tuple[K, ...] = ()
    remove: tuple[str, ...] = ()
    held: Mapping[K, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.add or self.repair or self.remove)


class WantedRows(ABC, Generic[K, D]):
    """Keeps such rows of one database as demanded, a demand for each bridge.

    Only rows with our mark are changed or removed, and only for bridges with a demand. ``clock``
    returns monotonic seconds. A subclass knows what is wanted, and how it is written.
    """

    SHOWN_WITHIN_S = 0.0
    """For so long the same content is not compared again after a write; in seconds."""

    def __init__(self, remote: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.problems: dict[tuple[Dpid, K], str] = {}
        self._remote, self._clock, self._pace = remote, clock, WritePace(clock)
        self._confirmed: set[tuple[Dpid, K]] = set()
        """What the database has confirmed to write, and that it has not shown since."""
        self._pending: dict[Dpid, tuple[BridgeRow, Changes[K], DatabaseContent]] = {}
        self._taken: dict[tuple[Dpid, K], tuple[DatabaseContent, float]] = {}
        self._awaited: dict[Dpid, tuple[DatabaseContent, float]] = {}
        """The bridges that were written to, with the content before, and until when to wait."""
        self._again_at: dict[Dpid, float] = {}
        self._wanted: dict[Dpid, frozenset[K]] = {}
        self._seen: tuple[DatabaseContent, Mapping[Dpid, D], frozenset[str]] | None = None

    def due(
        self,
        content: DatabaseContent,
        demands: Mapping[Dpid, D],
        rows: frozenset[str],
    ) -> Iterator[tuple[Dpid, dict[str, Any]]]:
        """The requests to make now, for which bridge; ``answered`` is to follow each.

        ``rows`` are the Bridge rows that may be changed.
        """
        if self._is_nothing_new(content, demands, rows):
            return
        now = self._clock()
        self._seen = content, demands, rows
        self._forget_others(content, demands)
        self._note_wanted(demands)
        for bridge in content.bridges:
            dpid, demand = bridge.dpid, demands.get(bridge.dpid)
            if demand is None or not rows.issuperset(self._rows_of(bridge, content)):
                continue
            if self._pace.next_at(dpid) > now:
                self._note_paused(bridge, demand, content)
            if dpid in self._pending or self._again_at.get(dpid, 0) > now:
                continue
            self._again_at.pop(dpid, None)
            todo = self._compare(bridge, demand, content)
            if todo:
                self._pending[dpid] = bridge, todo, content
                yield dpid, self._request(bridge, todo, content)

    def answered(self, dpid: Dpid, result: WriteResult) -> bool:
        """A request was carried out, or was not; whether ``problems`` have changed."""
        if dpid not in self._pending:
            return False
        before = dict(self.problems)
        bridge, todo, content = self._pending.pop(dpid)
        again_at = self._clock() + WRITE_RETRY_S
        self._seen = None
        taken = [key for key in todo.add if self._is_taken(dpid, key, result)]
        for key in todo.add:
            self.problems.pop((dpid, key), None)
            if key in taken:
                self._taken[dpid, key] = content, again_at
                self.problems[dpid, key] = self._taken_sentence(bridge, key)
            elif result.refused:
                self.problems[dpid, key] = self._refused_sentence(bridge, key, result.refused)
        if result.refused:
            self._again_at[dpid] = again_at
            return self.problems != before
        made = [key for key in todo.add if key not in taken]
        self._note_confirmed(bridge, made, "")
        self._note_confirmed(bridge, todo.repair, "the repair of ")
        if made or todo.repair or todo.remove:
            self._pace.note(dpid)
            if self.SHOWN_WITHIN_S:
                self._awaited[dpid] = content, self._clock() + self.SHOWN_WITHIN_S
            self._log_changes(bridge, made, todo)
        return self.problems != before

    def forget(self) -> None:
        """The connection is over, and with it all requests."""
        self._pending.clear()
        self._awaited.clear()
        self._seen = None

    # --- what a subclass knows ------------------------------------------------------------------

    @abstractmethod
    def _rows_of(self, bridge: BridgeRow, content: DatabaseContent) -> frozenset[str]:
        """The Bridge rows that are changed for a demand of this bridge."""

    @abstractmethod
    def _changes(self, bridge: BridgeRow, demand: D, content: DatabaseContent) -> Changes[K]:
        """What differs from the demand."""

    @abstractmethod
    def _request(
        self, bridge: BridgeRow, todo: Changes[K], content: DatabaseContent
    ) -> dict[str, Any]:
        """The request to write changes."""

    @abstractmethod
    def _names(self, dpid: Dpid, key: K) -> Sequence[str]:
        """The names of the ports of what is wanted; the first one is shown to people."""

    @abstractmethod
    def _called(self, bridge: BridgeRow, key: K) -> str:
        """What is wanted, for people."""

    @abstractmethod
    def _identified(self, bridge: BridgeRow, key: K) -> str:
        """The same where the database cannot be relied upon to name bridges."""

    @abstractmethod
    def _taken_sentence(self, bridge: BridgeRow, key: K) -> str:
        """Why it cannot be added: a port has its name, and is not ours."""

    @abstractmethod
    def _log_changes(self, bridge: BridgeRow, made: Sequence[K], done: Changes[K]) -> None:
        """Log what was written."""

    def _step(self, todo: Changes[K]) -> Changes[K]:
        """What of the changes is written first, in a request of its own."""
        return todo

    # --- what is known --------------------------------------------------------------------------

    def _is_nothing_new(
        self, content: DatabaseContent, demands: Mapping[Dpid, D], rows: frozenset[str]
    ) -> bool:
        now, seen = self._clock(), self._seen
        waiting = chain(self._taken.values(), self._awaited.values())
        times = chain(self._again_at.values(), (until for _, until in waiting))
        return (
            seen is not None
            and all(map(is_, seen[:2], (content, demands)))
            and seen[2] == rows
            and min(times, default=now + 1) > now
        )

    def _forget_others(self, content: DatabaseContent, demands: Mapping[Dpid, D]) -> None:
        """Forget what was noted of bridges without a demand, or that are not there."""
        for key in [key for key in self.problems if key[0] not in demands]:
            del self.problems[key]
            self._taken.pop(key, None)
        self._confirmed = {key for key in self._confirmed if key[0] in demands}
        self._pace.keep(demands)
        there = demands.keys() & {bridge.dpid for bridge in content.bridges}
        for gone in self._again_at.keys() - there:
            del self._again_at[gone]
        for gone in self._awaited.keys() - there:
            del self._awaited[gone]

    def _note_wanted(self, demands: Mapping[Dpid, D]) -> None:
        """What sessions need anew is written at once: the pace is for what does not last."""
        for dpid, demand in demands.items():
            if self._wanted.get(dpid, demand.wanted) != demand.wanted:
                self._pace.forget(dpid)
                self._again_at.pop(dpid, None)
        self._wanted = {dpid: demand.wanted for dpid, demand in demands.items()}

    def _note_paused(self, bridge: BridgeRow, demand: D, content: DatabaseContent) -> None:
        """Wait, and say of all that is missing that it is made later, and why."""
        dpid = bridge.dpid
        self._again_at[dpid] = max(self._pace.next_at(dpid), self._again_at.get(dpid, 0.0))
        if dpid in self._pending:
            return
        todo = self._changes(bridge, demand, content)
        for key in self._known(dpid) - {*todo.add, *todo.repair}:
            self.problems.pop((dpid, key), None)
        for key in todo.add:
            self.problems.setdefault(
                (dpid, key),
                f"{self._called(bridge, key)} was made, and removed or altered by somebody else, "
                f"again and again: it is made again within {WRITE_PAUSE_MAX_S:.0f} s; see what "
                f"else changes {self._names(dpid, key)[0]!r}",
            )

    def _note_confirmed(self, bridge: BridgeRow, keys: Sequence[K], what: str) -> None:
        """The database has confirmed a write; for the second time if it has not shown the first."""
        for key in keys:
            if (bridge.dpid, key) in self._confirmed:
                self.problems[bridge.dpid, key] = (
                    f"the database {self._remote} confirmed {what}{self._identified(bridge, key)}, "
                    "but does not show it: it is tried again, ever more seldom"
                )
            self._confirmed.add((bridge.dpid, key))

    def _compare(self, bridge: BridgeRow, demand: D, content: DatabaseContent) -> Changes[K]:
        """What to write now; problems of what is there, or not wanted, are over."""
        dpid, now, free = bridge.dpid, self._clock(), []
        before, until = self._awaited.get(dpid, (None, 0.0))
        if before is content and now < until:
            return Changes()
        self._awaited.pop(dpid, None)
        todo = self._changes(bridge, demand, content)
        for key in self._known(dpid) - {*todo.add, *todo.repair}:
            self.problems.pop((dpid, key), None)
            self._confirmed.discard((dpid, key))
            self._taken.pop((dpid, key), None)
        for key in todo.add:
            seen, until = self._taken.get((dpid, key), (None, 0.0))
            if seen is not content or now >= until:
                self._taken.pop((dpid, key), None)
                free.append(key)
        self.problems |= {(dpid, key): why for key, why in todo.held.items()}
        return self._step(Changes(tuple(free), todo.repair, todo.remove))

    def _known(self, dpid: Dpid) -> set[K]:
        """All of a bridge of which something is noted."""
        noted = chain(self.problems, self._confirmed, self._taken)
        return {key for of, key in noted if of == dpid}

    def _is_taken(self, dpid: Dpid, key: K, result: WriteResult) -> bool:
        return not frozenset(result.taken).isdisjoint(self._names(dpid, key))

    def _refused_sentence(self, bridge: BridgeRow, key: K, why: str) -> str:
        return (
            f"the database {self._remote} refused {self._identified(bridge, key)}: {why}; let this "
            "controller write to it"
        )
