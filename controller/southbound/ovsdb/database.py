"""One database as this process knows it: its state, its last rows, and what is to be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import structlog

from controller.databases import Record
from controller.southbound.ovsdb.mirror import MirrorDemand, MirrorId
from controller.southbound.ovsdb.mirror_rows import MirrorRows
from controller.southbound.ovsdb.rows import DatabaseContent, DatabaseRows, OvsdbSnapshot
from controller.southbound.ovsdb.tunnel_port import TunnelDemand, TunnelKey
from controller.southbound.ovsdb.tunnel_rows import TunnelRows
from controller.southbound.ovsdb.wanted_rows import WRITE_RETRY_S, WantedRows, WriteResult
from controller.southbound.ovsdb.write_pace import WritePace
from flows.model import Dpid

SECURE = "secure"
SECURED_SPARE = 64
"""Bridges to be secured that may be kept, besides twice as many as are known."""
SAY_AGAIN_S = 60.0
"""A database that is left again and again is in the log at most so often, in seconds."""
UNMADE_S = 5.0
"""A bridge that has no datapath id for so long is not being created, in seconds."""
AGE_STEPS_S = (5, 15, 60, 300, 1800)
"""How old what is known of a database may be, as it is said, in seconds."""

log = structlog.get_logger(__name__)


class RemoteState(Enum):
    """The state of the connection to one database."""

    UNREACHABLE = "unreachable"
    """There is no connection; the last rows stay known, and connecting is retried."""
    CONNECTED = "connected"
    """Connected; the rows were requested. There is a reason while they have not come, that of
    before if none is known: a peer that hangs is connected, too."""
    SYNCED = "synced"
    """All rows were received, and changes are received as they happen; a reason says if late."""


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """The state of one database, with a sentence unless all that it says is known in time."""

    state: RemoteState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that was not answered yet, the bridge that it is about, and who has made it."""

    dpid: Dpid
    rows: WantedRows[Any, Any] | None = None


class OvsdbDatabase:
    """One database: what its process reports is taken in by ``take``; ``requests`` are to be sent.

    ``believed`` returns the rows of databases that speak for their bridges: nothing else is written
    to. ``knows`` tells whether a bridge is known still, connected or not. ``clock`` returns
    monotonic seconds. One thread calls ``take``, another one ``requests``; any thread reads.
    """

    def __init__(
        self,
        remote: str,
        believed: Callable[[], OvsdbSnapshot],
        knows: Callable[[Dpid], bool] = lambda dpid: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remote, self._believed, self._knows = remote, believed, knows
        self._clock = clock
        self.content = DatabaseContent()
        self.problems: tuple[str, ...] = ()
        """Why rows are not used, a sentence each."""
        self.status = RemoteStatus(RemoteState.UNREACHABLE, f"{remote} was not reached yet")
        self._unmade: dict[tuple[str, str], float] = {}
        """When bridges without a datapath id were first seen, by name and datapath_type."""
        self._unmade_count = 0
        self._rows = DatabaseRows(remote)
        self._tunnels, self._mirrors = TunnelRows(remote, clock), MirrorRows(remote, clock)
        self._lock = threading.Lock()
        self._parts: list[Mapping[str, Any]] = []
        self._to_secure: dict[Dpid, float] = {}
        self._to_secure_max = SECURED_SPARE
        self._secure_pace = WritePace(clock)
        self._demands: Mapping[Dpid, TunnelDemand] = {}
        self._mirror_demands: Mapping[Dpid, MirrorDemand] = {}
        self._requests: dict[int, _Request] = {}
        self._number = 0
        self._said_at: float | None = None
        self._said = ""
        """The last reason in the log; empty once all rows were received again."""

    @property
    def tunnel_problems(self) -> Mapping[TunnelKey, str]:
        """Why tunnel ports could not be added, a sentence each."""
        return dict(self._tunnels.problems)

    @property
    def mirror_problems(self) -> Mapping[MirrorId, str]:
        """Why Mirrors could not be added, a sentence each, by tap bridge and what they select."""
        return dict(self._mirrors.problems)

    def unmade(self) -> Sequence[str]:
        """The first bridges that Open vSwitch should have created by now, a sentence each, and how
        many more there are.
        """
        late_at = self._clock() - UNMADE_S
        late = sorted(bridge for bridge, at in self._unmade.items() if at <= late_at)
        found = [f"{self.remote}: {_unmade_sentence(*bridge)}" for bridge in late]
        more = self._unmade_count - len(self._unmade)
        if found and more:
            found.append(f"{self.remote}: Open vSwitch has not created {more:,} more bridges")
        return found

    def secure(self, dpid: Dpid) -> None:
        """Set ``fail_mode=secure`` on a bridge as soon as the database has it."""
        with self._lock:
            if len(self._to_secure) >= self._to_secure_max:  # some may be known no more
                self._to_secure = {d: at for d, at in self._to_secure.items() if self._knows(d)}
                self._to_secure_max = 2 * len(self._to_secure) + SECURED_SPARE
            self._to_secure[dpid] = 0.0

    def want_tunnels(self, demands: Mapping[Dpid, TunnelDemand]) -> None:
        """Keep the tunnel ports of these bridges as demanded from now on."""
        with self._lock:
            if demands != self._demands:
                self._demands = dict(demands)

    def want_mirrors(self, demands: Mapping[Dpid, MirrorDemand]) -> None:
        """Keep the Mirrors that send to these tap bridges as demanded from now on."""
        with self._lock:
            if demands != self._mirror_demands:
                self._mirror_demands = dict(demands)

    # --- what the process reports ---------------------------------------------------------------

    def take(self, report: Mapping[str, Any]) -> bool:
        """Take a report; whether there is something that others should know."""
        if "state" in report:
            return self._take_state(report)
        if "request" in report:
            return self._take_answer(report)
        if report["is_first"]:
            self._parts = []
        self._parts.append(report)
        return bool(report["is_last"]) and self._take_rows()

    def lost(self, reason: str) -> None:
        """The process has ended: the last rows stay, and nothing more is known."""
        with self._lock:
            self.status = RemoteStatus(RemoteState.UNREACHABLE, reason)
            self._parts = []
            self._requests.clear()
            self._tunnels.forget()
            self._mirrors.forget()

    def take_age(self, age_s: float) -> None:
        """Note how old what is known may be, in seconds: more than that is lagging behind; or 0."""
        steps = [step for step in AGE_STEPS_S if step <= age_s]
        if self.status.state is not RemoteState.SYNCED or not (steps or self.status.reason):
            return
        reason = ""
        if steps:
            reason = (
                f"{self.remote} has changed faster than it is read for more than {steps[-1]} s: "
                "what is known of it lags behind; see what changes there, and whether this machine "
                "is overloaded"
            )
        self.status = RemoteStatus(RemoteState.SYNCED, reason)
        if reason and len(steps) == 1:
            self._say("database lags behind", reason)

    def _take_state(self, report: Mapping[str, Any]) -> bool:
        status = RemoteStatus(RemoteState(report["state"]), report["reason"])
        if status.state is RemoteState.CONNECTED and not status.reason:
            status = replace(status, reason=self.status.reason)  # it may be wrong still
        self.status = status
        if self.status.state is RemoteState.UNREACHABLE:
            self._say("database not reachable", self.status.reason)
        elif self.status.state is RemoteState.SYNCED:
            self._said = ""
        return self.status.state is RemoteState.SYNCED

    def _say(self, event: str, reason: str) -> None:
        """Log a reason once, until all rows were received; not more often than SAY_AGAIN_S."""
        now = self._clock()
        if reason != self._said and (self._said_at is None or now - self._said_at >= SAY_AGAIN_S):
            self._said_at, self._said = now, reason
            log.warning(event, remote=self.remote, reason=reason)

    def _take_rows(self) -> bool:
        parts, self._parts = self._parts, []
        bridges: dict[str, Record | None] = {}
        interfaces: dict[str, Record | None] = {}
        settings: Record | None = None
        unmade: list[Record] | None = [] if parts[0]["is_first"] else None
        for part in parts:
            bridges |= part.get("bridges", {})
            interfaces |= part.get("interfaces", {})
            settings = part.get("settings", settings)
            if "problems" in part:
                self._take_problems(tuple(part["problems"]))
            unmade = part.get("unmade", unmade)
        if unmade is not None:
            self._take_unmade(unmade)
        before = self.content
        if parts[0]["is_first"]:
            self.content = self._rows.take_all(bridges, interfaces, settings or {})
        else:
            self.content = self._rows.take(bridges, interfaces, settings)
        return self.content is not before

    def _take_problems(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self.problems and not self.problems:
                log.warning("row of database refused", remote=self.remote, reason=problem)
        self.problems = problems

    def _take_unmade(self, unmade: list[Record]) -> None:
        now = self._clock()
        bridges = [(one["name"], one["datapath_type"]) for one in unmade if "name" in one]
        self._unmade = {bridge: self._unmade.get(bridge, now) for bridge in bridges}
        self._unmade_count = unmade[-1]["count"] if unmade else 0

    # --- what is to be written ------------------------------------------------------------------

    def requests(self) -> Iterator[dict[str, Any]]:
        """The requests to send now."""
        bridges = self._believed().bridges
        rows = frozenset(bridge.row for bridge in bridges if bridge.database == self.remote)
        with self._lock:
            if self.status.state is not RemoteState.SYNCED:
                return
            found = [*self._secure_requests(rows), *self._row_requests(rows)]
        yield from found

    def _secure_requests(self, rows: frozenset[str]) -> Iterator[dict[str, Any]]:
        if not self._to_secure:
            return
        now = self._clock()
        self._secure_pace.keep(self._to_secure)
        of_others = {bridge.taps for bridge in self.content.bridges if bridge.taps}
        for bridge in self.content.bridges:
            if bridge.name in of_others:
                self._to_secure.pop(bridge.dpid, None)  # its fail mode is that of its owner
            again_at = self._to_secure.get(bridge.dpid)
            if again_at is None or bridge.row not in rows:
                continue
            if bridge.fail_mode == SECURE:
                del self._to_secure[bridge.dpid]
            elif max(again_at, self._secure_pace.next_at(bridge.dpid)) <= now:
                self._to_secure[bridge.dpid] = now + WRITE_RETRY_S
                self._secure_pace.note(bridge.dpid)
                request = _Request(bridge.dpid)
                yield self._number_of(request, {"do": "secure", "bridge": bridge.row})

    def _row_requests(self, rows: frozenset[str]) -> Iterator[dict[str, Any]]:
        for dpid, request in self._tunnels.due(self.content, self._demands, rows):
            yield self._number_of(_Request(dpid, self._tunnels), request)
        for dpid, request in self._mirrors.due(self.content, self._mirror_demands, rows):
            yield self._number_of(_Request(dpid, self._mirrors), request)

    def _number_of(self, request: _Request, values: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        self._requests[self._number] = request
        return {"request": self._number, **values}

    def _take_answer(self, report: Mapping[str, Any]) -> bool:
        with self._lock:
            request = self._requests.pop(report["request"], None)
            if request is None:
                return False
            if request.rows is not None:
                result = WriteResult(report["refused"], tuple(report["taken"]))
                return request.rows.answered(request.dpid, result)
        if report["refused"]:
            dpid = f"{request.dpid:016x}"
            log.warning("fail_mode was not set", dpid=dpid, why=report["refused"])
        return False


def _unmade_sentence(name: str, datapath_type: str) -> str:
    """Why Open vSwitch may not have created a bridge, and what to do."""
    begin = f"Open vSwitch has not created bridge {name!r}, so that it cannot connect: "
    if datapath_type in ("", "system"):
        return (
            f"{begin}see whether ovs-vswitchd runs on its host, and whether the kernel module is "
            "loaded (`modprobe openvswitch`); without that module, `ovs-vsctl set Bridge "
            f"{name} datapath_type=netdev`"
        )
    return (
        f"{begin}see whether ovs-vswitchd runs on its host, and what its log says; its "
        f"datapath_type is {datapath_type!r}, and `ovs-vsctl get Open_vSwitch . datapath_types` "
        "lists those that it has"
    )
