"""Which bridges have ports into tunnels, which ones need them, and why one has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Protocol

import structlog

from controller.topology.placements import PlacesSnapshot
from controller.southbound.ovsdb.rows import InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.tunnel_port import KINDS, TunnelWish, tunnel_name
from controller.store import BridgeRecord
from controller.reconcile.tunnel_demand import Tunnelling
from flows.errors import CloudtapError
from flows.model.session import Delivery, Dpid, Ofport

LOOK_S = 1.0
"""What bridges need is looked at again at least so often, in seconds."""

Key = tuple[Dpid, Delivery]
Tunnels = Mapping[Key, Ofport]

log = structlog.get_logger(__name__)


class TunnelMaker(Protocol):
    """What is asked of the databases."""

    def want_tunnels(self, wishes: Mapping[Dpid, TunnelWish]) -> None:
        """See to it, from now on, that these bridges have the tunnel ports that they need."""
        ...

    def tunnel_problems(self) -> Mapping[Key, str]:
        """Why tunnel ports could not be made, a sentence each."""
        ...

    def snapshot(self) -> OvsdbSnapshot:
        """What all databases said last."""
        ...


class TunnelKeeper(Tunnelling):
    """Has the tunnel ports made that sessions need, and knows the ones that are there.

    ``needs`` says what each bridge of ours needs now; ``changed`` is called when other ports are
    there than before. A thread looks at both whenever it is woken.
    """

    def __init__(
        self,
        maker: TunnelMaker,
        places: Callable[[], PlacesSnapshot],
        needs: Callable[[], Mapping[Dpid, TunnelWish]],
        changed: Callable[[], object],
    ) -> None:
        self._maker, self._places, self._needs = maker, places, needs
        self._changed = changed
        self._told = threading.Condition()
        self._wake = threading.Event()
        self._is_stopping = False
        self._seen: tuple[PlacesSnapshot, OvsdbSnapshot] | None = None
        self._wishes: Mapping[Dpid, TunnelWish] = {}
        self.tunnels: Tunnels = {}
        """The ports of ours that OVSDB and OpenFlow agree about."""
        self._thread = threading.Thread(target=self._run, name="tunnels", daemon=True)

    def start(self) -> None:
        """Begin to look at what bridges need."""
        self._thread.start()

    def wake(self) -> None:
        """Something may be needed, or not be needed any more."""
        self._wake.set()

    def stop(self) -> None:
        """Make and remove no more; every port stays."""
        self._is_stopping = True
        self._wake.set()

    def refresh(self) -> bool:
        """Take what places and databases say now; whether there are other tunnels than before."""
        seen = (self._places(), self._maker.snapshot())
        with self._told:
            if self._seen is not None and all(map(is_, seen, self._seen)):
                return False
            self._seen = seen
            found = find_tunnels(seen[0].records, seen[1])
            has_changed = found != self.tunnels
            self.tunnels = found if has_changed else self.tunnels
            self._told.notify_all()
        return has_changed

    def prepare(self, timeout_s: float) -> bool:
        """Have made what is needed now; returns when it is there, or known not to come.

        True when something has come meanwhile.
        """
        self._ask()
        deadline, before = time.monotonic() + timeout_s, self.tunnels
        with self._told:
            while self._is_coming() and (left := deadline - time.monotonic()) > 0:
                self._told.wait(left)
            return self.tunnels is not before

    def why_missing(self, dpid: Dpid, kind: Delivery, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel, and what to do."""
        problem = self._maker.tunnel_problems().get((dpid, kind))
        if problem is not None:
            return problem
        said = self._maker.snapshot()
        if all(row.dpid != dpid for row in said.bridges):
            return (
                f"bridge {bridge} needs a tunnel port for {kind.value}, and no database that "
                "knows the bridge is reached: name that of its host in `remotes` of [ovsdb]"
            )
        for row in said.interfaces:
            if (row.dpid, row.tunnel) == (dpid, kind) and row.error:
                return (
                    f"Open vSwitch could not open the tunnel port {row.name!r} for {kind.value} "
                    f"of bridge {bridge}: {row.error}; see whether another program of its host "
                    "uses this kind of tunnel"
                )
        return f"the tunnel port for {kind.value} of bridge {bridge} is being made"

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(LOOK_S)
            self._wake.clear()
            try:
                if self.refresh():
                    self._changed()
                self._ask()
            except CloudtapError as problem:
                log.warning("tunnel ports not looked at", reason=str(problem))
            except Exception as problem:  # the edge of the loop: it must go on
                log.error("look at tunnel ports failed", exc_info=problem)

    def _ask(self) -> None:
        if not self._is_stopping:
            self._wishes = self._needs()
            self._maker.want_tunnels(self._wishes)

    def _is_coming(self) -> bool:
        """Whether a port that is needed is not there, and nothing says that it cannot be."""
        said, problems = self._maker.snapshot(), self._maker.tunnel_problems()
        known = {row.dpid for row in said.bridges}
        failed = {(row.dpid, row.tunnel) for row in said.interfaces if row.error}
        wanted = {(d, kind) for d, wish in self._wishes.items() for kind in wish.wanted}
        missing = (key for key in wanted if key not in self.tunnels and key[0] in known)
        return any(key not in problems and key not in failed for key in missing)


def find_tunnels(records: Iterable[BridgeRecord], said: OvsdbSnapshot) -> dict[Key, Ofport]:
    """The tunnel ports of all bridges.

    ``records`` are the interfaces that are beyond doubt. Where a database speaks of the bridge, the
    port must be one that we have made and nobody has altered; elsewhere its name counts, which no
    other port has.
    """
    known = {row.dpid for row in said.bridges}
    made = {_key(row) for row in said.interfaces if _is_usable(row)}
    found: dict[Key, Ofport] = {}
    for record in records:
        kind_by_name = {tunnel_name(record.dpid, kind): kind for kind in KINDS}
        for row in record.rows:
            kind = kind_by_name.get(row.interface)
            if kind is None or row.iface_id is not None:
                continue
            if record.dpid not in known or (record.dpid, kind) in made:
                found[record.dpid, kind] = Ofport(row.ofport)
    return found


def _is_usable(row: InterfaceRow) -> bool:
    return row.tunnel is not None and not row.is_altered and not row.error


def _key(row: InterfaceRow) -> tuple[Dpid, Delivery | None]:
    return row.dpid, row.tunnel
