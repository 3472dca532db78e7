"""Reconciles the tunnel ports in one database with the demand: adds, repairs and removes ports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import is_
from typing import Any

import structlog

from controller.southbound.ovsdb.rows import BridgeRow, DatabaseContent, InterfaceRow
from controller.southbound.ovsdb.tunnel_port import (
    TunnelDemand,
    TunnelKey,
    tunnel_name,
    tunnel_options,
    tunnel_type,
)
from controller.southbound.ovsdb.write_pace import WRITE_PAUSE_MAX_S, WritePace
from flows.model import Dpid, TunnelKind

WRITE_RETRY_S = 5.0
"""Time until a refused transaction is tried again, in seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What came of a request: a clause why it was refused, and names of ports that others have."""

    refused: str = ""
    taken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _TunnelChanges:
    """What to change on one bridge: kinds to add, interfaces to repair, ports to remove."""

    add: tuple[TunnelKind, ...] = ()
    repair: tuple[InterfaceRow, ...] = ()
    remove: tuple[InterfaceRow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.repair or self.remove)

    def request(self, dpid: Dpid) -> dict[str, Any]:
        """The request to write them."""
        return {
            "do": "tunnels",
            "add": [{"kind": k.value, **_port(dpid, k, tunnel_name(dpid, k))} for k in self.add],
            "repair": [_port(dpid, r.tunnel, r.name) for r in self.repair if r.tunnel],
            "remove": [row.name for row in self.remove],
        }


class TunnelRows:
    """Keeps the tunnel ports of one database as demanded.

    Only rows with our mark are changed or removed, and only on bridges with a demand. ``clock``
    returns monotonic seconds.
    """

    def __init__(self, remote: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.problems: dict[TunnelKey, str] = {}
        self._remote, self._clock, self._pace = remote, clock, WritePace(clock)
        self._confirmed: set[TunnelKey] = set()
        """The ports that the database has confirmed to write, and that it has not shown since."""
        self._pending: dict[Dpid, tuple[BridgeRow, _TunnelChanges, DatabaseContent]] = {}
        self._taken: dict[TunnelKey, tuple[DatabaseContent, float]] = {}
        self._again_at: dict[Dpid, float] = {}
        self._wanted: dict[Dpid, frozenset[TunnelKind]] = {}
        self._seen: tuple[DatabaseContent, Mapping[Dpid, TunnelDemand], frozenset[str]] | None = (
            None
        )

    def due(
        self,
        content: DatabaseContent,
        demands: Mapping[Dpid, TunnelDemand],
        rows: frozenset[str],
    ) -> Iterator[tuple[Dpid, dict[str, Any]]]:
        """The requests to make now, for which bridge; ``answered`` is to follow each.

        ``rows`` are the Bridge rows that may be changed.
        """
        now = self._clock()
        times = chain(self._again_at.values(), (until for _, until in self._taken.values()))
        seen = (content, demands, rows)
        if (
            self._seen is not None
            and all(map(is_, self._seen[:2], seen))
            and self._seen[2] == rows
            and min(times, default=now + 1) > now
        ):
            return
        self._seen = seen
        for key in [key for key in self.problems if key[0] not in demands]:
            del self.problems[key]
            self._taken.pop(key, None)
        self._confirmed = {key for key in self._confirmed if key[0] in demands}
        self._pace.keep(demands)
        self._note_wanted(demands)
        there = demands.keys() & {bridge.dpid for bridge in content.bridges}
        for gone in self._again_at.keys() - there:
            del self._again_at[gone]
        for bridge in content.bridges:
            dpid, demand = bridge.dpid, demands.get(bridge.dpid)
            if demand is None or bridge.row not in rows:
                continue
            if self._pace.next_at(dpid) > now:
                self._note_paused(dpid, demand, content, bridge)
            if dpid in self._pending or self._again_at.get(dpid, 0) > now:
                continue
            self._again_at.pop(dpid, None)
            todo = self._compare(dpid, demand, content, bridge.row)
            if todo:
                self._pending[dpid] = bridge, todo, content
                yield dpid, {"bridge": bridge.row, **todo.request(dpid)}

    def answered(self, dpid: Dpid, result: WriteResult) -> bool:
        """A request was carried out, or was not; whether ``problems`` have changed."""
        if dpid not in self._pending:
            return False
        before = dict(self.problems)
        bridge, todo, content = self._pending.pop(dpid)
        again_at = self._clock() + WRITE_RETRY_S
        self._seen = None
        taken = [k for k in todo.add if tunnel_name(dpid, k) in result.taken]
        for kind in todo.add:
            self.problems.pop((dpid, kind), None)
            if kind in taken:
                self._taken[dpid, kind] = content, again_at
                self.problems[dpid, kind] = _taken_sentence(bridge, kind)
            elif result.refused:
                self.problems[dpid, kind] = self._refused_sentence(dpid, kind, result.refused)
        if result.refused:
            self._again_at[dpid] = again_at
            return self.problems != before
        self._note_confirmed(dpid, [k for k in todo.add if k not in taken], "")
        self._note_confirmed(dpid, [r.tunnel for r in todo.repair if r.tunnel], "the repair of ")
        if len(taken) < len(todo.add) or todo.repair or todo.remove:
            self._pace.note(dpid)
            log.info(
                "tunnel ports changed", dpid=f"{dpid:016x}",
                made=[kind.value for kind in todo.add if kind not in taken],
                mended=[row.name for row in todo.repair],
                removed=[row.name for row in todo.remove],
            )  # fmt: skip
        return self.problems != before

    def forget(self) -> None:
        """The connection is over, and with it all requests."""
        self._pending.clear()
        self._seen = None

    def _note_wanted(self, demands: Mapping[Dpid, TunnelDemand]) -> None:
        """What sessions need anew is written at once: the pace is for what does not last."""
        for dpid, demand in demands.items():
            if self._wanted.get(dpid, demand.wanted) != demand.wanted:
                self._pace.forget(dpid)
                self._again_at.pop(dpid, None)
        self._wanted = {dpid: demand.wanted for dpid, demand in demands.items()}

    def _note_paused(
        self, dpid: Dpid, demand: TunnelDemand, content: DatabaseContent, bridge: BridgeRow
    ) -> None:
        """Wait, and say of each port that is missing that it is made later, and why."""
        self._again_at[dpid] = max(self._pace.next_at(dpid), self._again_at.get(dpid, 0.0))
        if dpid in self._pending:
            return
        todo = _compare(dpid, demand, content.tunnels.get(bridge.row, ()))
        for kind in {*TunnelKind} - {*todo.add, *(row.tunnel for row in todo.repair)}:
            self.problems.pop((dpid, kind), None)
        for kind in todo.add:
            self.problems.setdefault(
                (dpid, kind),
                f"the tunnel port for {kind} of bridge {bridge.name} was made, and removed "
                "or altered by somebody else, again and again: it is made again within "
                f"{WRITE_PAUSE_MAX_S:.0f} s; see what else changes {tunnel_name(dpid, kind)!r}",
            )

    def _note_confirmed(self, dpid: Dpid, kinds: Sequence[TunnelKind], what: str) -> None:
        """The database has confirmed a write; for the second time if it has not shown the first."""
        for key in ((dpid, kind) for kind in kinds):
            if key in self._confirmed:
                self.problems[key] = (
                    f"the database {self._remote} confirmed {what}the tunnel port for "
                    f"{key[1]} of bridge {dpid:016x}, but does not show it: it is tried "
                    "again, ever more seldom"
                )
            self._confirmed.add(key)

    def _compare(
        self, dpid: Dpid, demand: TunnelDemand, content: DatabaseContent, row: str
    ) -> _TunnelChanges:
        """What to change now; problems of ports that are there, or not wanted, are over."""
        todo = _compare(dpid, demand, content.tunnels.get(row, ()))
        now, free = self._clock(), []
        altered = {row.tunnel for row in todo.repair}
        for kind in TunnelKind:
            seen, until = self._taken.get((dpid, kind), (None, 0.0))
            if kind in altered:
                pass
            elif kind not in todo.add:
                self.problems.pop((dpid, kind), None)
                self._confirmed.discard((dpid, kind))
            elif seen is content and now < until:
                continue
            else:
                free.append(kind)
            self._taken.pop((dpid, kind), None)
        return replace(todo, add=tuple(free))

    def _refused_sentence(self, dpid: Dpid, kind: TunnelKind, why: str) -> str:
        return (
            f"the database {self._remote} refused the tunnel port for {kind} of "
            f"bridge {dpid:016x}: {why}; let this controller write to it"
        )


def _taken_sentence(bridge: BridgeRow, kind: TunnelKind) -> str:
    return (
        f"bridge {bridge.name} cannot have its tunnel port for {kind}: a port "
        f"{tunnel_name(bridge.dpid, kind)!r} is there already and is not ours; give that another "
        "name"
    )


def _port(dpid: Dpid, kind: TunnelKind, name: str) -> dict[str, Any]:
    return {"name": name, "type": tunnel_type(kind), "options": tunnel_options(dpid, kind)}


def _compare(dpid: Dpid, demand: TunnelDemand, ours: tuple[InterfaceRow, ...]) -> _TunnelChanges:
    present = {row.tunnel for row in ours if _has_our_name(dpid, row)}
    unwanted = [
        row for row in ours if row.tunnel in demand.unwanted or not _has_our_name(dpid, row)
    ]
    return _TunnelChanges(
        tuple(kind for kind in TunnelKind if kind in demand.wanted - present),
        tuple(row for row in ours if row.is_altered and row not in unwanted),
        tuple(unwanted),
    )


def _has_our_name(dpid: Dpid, row: InterfaceRow) -> bool:
    return row.tunnel is not None and row.name == tunnel_name(dpid, row.tunnel)
