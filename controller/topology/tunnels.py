"""Which bridges have tunnel ports, and why one has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from operator import is_
from typing import Protocol

import structlog

from controller.southbound.ovsdb import (
    InterfaceRow,
    OvsdbSnapshot,
    TunnelDemand,
    TunnelKey,
    tunnel_name,
)
from controller.store import BridgeRecord
from controller.topology.bridge_state import NO_NUMBER
from controller.topology.placements import PlacementsSnapshot
from flows.model import Dpid, Ofport, TunnelKind

Tunnels = Mapping[TunnelKey, Ofport]
NEEDS_MODULE = ", and whether its kernel has the module ip6_gre"

log = structlog.get_logger(__name__)


class TunnelMaker(Protocol):
    """The databases, which make tunnel ports."""

    def want_tunnels(self, demand: Mapping[Dpid, TunnelDemand]) -> None:
        """Keep the tunnel ports of these bridges as demanded, from now on."""
        ...

    def tunnel_problems(self) -> Mapping[TunnelKey, str]:
        """Why tunnel ports could not be made, a sentence each."""
        ...


class TunnelPorts:
    """The tunnel ports of all bridges: those that there are, and those that are being made.

    What there is follows from placements and databases, and is taken in by ``refresh``. ``said``
    returns what the databases report.
    """

    def __init__(
        self,
        maker: TunnelMaker,
        placements: Callable[[], PlacementsSnapshot],
        said: Callable[[], OvsdbSnapshot],
    ) -> None:
        self._maker, self._placements, self._said = maker, placements, said
        self._refreshed = threading.Condition()
        self._seen: tuple[PlacementsSnapshot, OvsdbSnapshot] | None = None
        self._demand: Mapping[Dpid, TunnelDemand] = {}
        self._tunnels: Tunnels = {}

    @property
    def tunnels(self) -> Tunnels:
        """The ports of ours that OVSDB and OpenFlow agree about."""
        return self._tunnels

    def want(self, demand: Mapping[Dpid, TunnelDemand]) -> None:
        """Have these ports made, and those that are not needed removed, from now on."""
        self._demand = demand
        self._maker.want_tunnels(demand)

    def refresh(self) -> bool:
        """Take in what placements and databases report now; whether other ports are there."""
        seen = (self._placements(), self._said())
        with self._refreshed:
            if self._seen is not None and all(map(is_, seen, self._seen)):
                return False
            self._seen = seen
            found = find_tunnels(seen[0].records, seen[1])
            has_changed = found != self._tunnels
            self._tunnels = found if has_changed else self._tunnels
            self._refreshed.notify_all()
        return has_changed

    def wait_made(self, kinds: Set[TunnelKind], timeout_s: float) -> bool:
        """Block until every wanted port of these kinds is there, or known not to come.

        True if a port has come.
        """
        deadline, before = time.monotonic() + timeout_s, self._tunnels
        with self._refreshed:
            while self._is_coming(kinds) and (left := deadline - time.monotonic()) > 0:
                self._refreshed.wait(left)
            return self._tunnels is not before

    def why_missing(self, dpid: Dpid, kind: TunnelKind, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel, and what to do."""
        problem = self._maker.tunnel_problems().get((dpid, kind))
        if problem is not None:
            return problem
        said = self._said()
        if all(row.dpid != dpid for row in said.bridges):
            return (
                f"bridge {bridge} needs a tunnel port for {kind}, and no database that "
                "knows the bridge is reached: name that of its host in `remotes` of [ovsdb]"
            )
        for row in said.interfaces:
            if (row.dpid, row.tunnel) == (dpid, kind) and row.error:
                return (
                    f"Open vSwitch could not open the tunnel port {row.name!r} for {kind} "
                    f"of bridge {bridge}: {row.error}; see whether another program of its host "
                    f"uses this kind of tunnel{NEEDS_MODULE if kind.is_over_ipv6 else ''}"
                )
        return f"the tunnel port for {kind} of bridge {bridge} is being made"

    def _is_coming(self, kinds: Set[TunnelKind]) -> bool:
        """Whether a demanded port is missing, and no error says that it cannot be made."""
        said, problems = self._said(), self._maker.tunnel_problems()
        known = {row.dpid for row in said.bridges}
        failed = {(row.dpid, row.tunnel) for row in said.interfaces if row.error}
        wanted = {(d, kind) for d, needed in self._demand.items() for kind in needed.wanted & kinds}
        missing = (key for key in wanted if key not in self._tunnels and key[0] in known)
        return any(key not in problems and key not in failed for key in missing)


def find_tunnels(records: Iterable[BridgeRecord], said: OvsdbSnapshot) -> dict[TunnelKey, Ofport]:
    """The tunnel ports of all bridges.

    ``records`` are the interfaces that are beyond doubt. Where a database speaks of the bridge, the
    port must be one that we have made and nobody has altered; elsewhere its name counts, which no
    other port has.
    """
    known = {row.dpid for row in said.bridges}
    made = {_key(row) for row in said.interfaces if _is_usable(row)}
    found: dict[TunnelKey, Ofport] = {}
    for record in records:
        kind_by_name = {tunnel_name(record.dpid, kind): kind for kind in TunnelKind}
        for row in record.rows:
            kind = kind_by_name.get(row.interface)
            if kind is None or row.iface_id is not None or row.ofport == NO_NUMBER:
                continue
            if record.dpid not in known or (record.dpid, kind) in made:
                found[record.dpid, kind] = Ofport(row.ofport)
    return found


def _is_usable(row: InterfaceRow) -> bool:
    return row.tunnel is not None and not row.is_altered and not row.error


def _key(row: InterfaceRow) -> tuple[Dpid, TunnelKind | None]:
    return row.dpid, row.tunnel
