"""Routes from bridges to remote sensors, as the ovs-vswitchd of this machine knows them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import is_

import structlog
from netaddr import AddrFormatError, IPAddress

from controller.southbound import CommandFailed, NotAnswered, ask_vswitchd
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from flows.model import Dpid, Route, RouteState

EVERY_S = 2.0
"""How often routes are looked up again, in seconds."""
ADDRESSES_MAX = 1000
"""Addresses whose routes are looked up; those of further ones are not known."""
ROUTES_ITSELF = "netdev"
"""The datapath type that routes tunnels itself; others leave it to the kernel, which has the same
routes, and MAC addresses of its own."""
PORTS_NAMED_MAX = 5
"""Ports that are named when all of a bridge are down."""
FAR_AWAY = "its host cannot be asked from here; `cloudtap session verify` shows what arrives"
TOO_MANY = f"more than {ADDRESSES_MAX} addresses are in use"
NOT_YET = "it is being looked up"

Routes = Mapping[tuple[Dpid, IPAddress], Route]

log = structlog.get_logger(__name__)


class RouteTable:
    """Looks up the routes to the addresses in use, in a thread, and signals when they change.

    Only ovs-vswitchd of this machine can be asked: it routes for the bridges of databases on this
    machine. ``databases`` returns what is believed of them. ``changed`` is called when routes have
    changed. ``ask`` asks it one command (see ask_vswitchd).
    """

    def __init__(
        self,
        databases: Callable[[], OvsdbSnapshot],
        changed: Callable[[], object],
        ask: Callable[..., str] = ask_vswitchd,
        every_s: float = EVERY_S,
    ) -> None:
        self._databases, self._changed, self._ask = databases, changed, ask
        self._every_s = every_s
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._wanted: frozenset[IPAddress] = frozenset()
        """The addresses whose routes are looked up; ``_asked`` are all in use."""
        self._asked: frozenset[IPAddress] = frozenset()
        self._found: Mapping[IPAddress, Route] = {}
        self._seen: tuple[frozenset[IPAddress], object, object] | None = None
        self._routes: Routes = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, addresses: Iterable[IPAddress]) -> Routes:
        """The routes of every bridge to these addresses, which are looked up from now on.

        New addresses are looked up at once. The same value again until something changes.
        """
        asked = frozenset(addresses)
        wanted = frozenset(sorted(asked)[:ADDRESSES_MAX])
        with self._lock:
            new, self._wanted, self._asked = wanted - self._wanted, wanted, asked
        if not new <= self._found.keys():
            self._look()
        with self._lock:
            if wanted and self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="routes", daemon=True)
                self._thread.start()
            return self._all_routes()

    def stop(self) -> None:
        """Look up no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self._look()
                with self._lock:
                    before = self._routes
                    has_changed = self._all_routes() is not before
                if has_changed:
                    self._changed()
            except Exception as problem:  # the edge of the loop: it must go on
                log.error("routes not looked up", exc_info=problem)

    def _look(self) -> None:
        """Look up the routes to the addresses in use; what is found replaces what was known.

        Which these are is read once nobody else looks: what one look finds, a look for the
        addresses of before does not undo.
        """
        with self._looking:
            wanted = self._wanted
            found: dict[IPAddress, Route] = {}
            if wanted and any(row.is_here for row in self._databases().bridges):
                try:
                    neighbours = _read_neighbours(self._ask("tnl/neigh/show"))
                    for address in sorted(wanted):
                        found[address] = self._look_up(address, neighbours)
                except (NotAnswered, CommandFailed) as problem:
                    found = dict.fromkeys(wanted, Route(why=str(problem)))
            if found != self._found:
                self._found = found

    def _look_up(self, address: IPAddress, neighbours: frozenset[IPAddress]) -> Route:
        """One route.

        Raises:
            NotAnswered: ovs-vswitchd does not answer.
        """
        try:
            answer = self._ask("ovs/route/lookup", str(address))
        except CommandFailed as problem:
            if "not found" in str(problem).lower():
                return Route(RouteState.MISSING)
            return Route(why=f"ovs-vswitchd says: {problem}")
        words = dict(line.split(" ", 1) for line in answer.splitlines() if " " in line)
        gateway = _address(words.get("gateway", ""))
        hop = address if gateway is None or int(gateway) == 0 else gateway
        unresolved = "" if hop in neighbours else str(hop)
        return Route(RouteState.FOUND, words.get("dev", ""), unresolved=unresolved)

    def _all_routes(self) -> Routes:
        """The routes by bridge; the same value until something changes. With the lock held."""
        snapshot, asked = self._databases(), self._asked
        seen = asked, self._found, snapshot
        before, self._seen = self._seen, seen
        if before is not None and before[0] == asked and all(map(is_, before[1:], seen[1:])):
            return self._routes
        here = {row.dpid for row in snapshot.bridges if row.is_here}
        mtu_by_device = {r.name: r.device.mtu for r in snapshot.interfaces if r.dpid in here}
        ports = _ports_by_bridge(r for r in snapshot.interfaces if r.dpid in here)
        stuck = _without_uplink(ports)
        rates = _rates_by_device((r for r in snapshot.interfaces if r.dpid in here), ports)
        routes = {
            (row.dpid, address): self._with_rate(
                self._route(row, address, mtu_by_device, stuck), rates
            )
            for row in snapshot.bridges
            for address in asked
        }
        if routes != self._routes:
            self._routes = routes
        return self._routes

    def _route(
        self,
        bridge: BridgeRow,
        address: IPAddress,
        mtu_by_device: Mapping[str, int | None],
        stuck: Mapping[str, str],
    ) -> Route:
        if not bridge.is_here:
            return Route(why=FAR_AWAY)
        why = NOT_YET if address in self._wanted else TOO_MANY
        route = self._found.get(address, Route(why=why))
        if route.state is not RouteState.FOUND:
            return route
        mtu, is_userspace = mtu_by_device.get(route.device), bridge.datapath_type == ROUTES_ITSELF
        if is_userspace and route.device not in mtu_by_device:
            return Route(RouteState.OFF_BRIDGE, route.device)
        if route.device in stuck:
            return Route(RouteState.UPLINK_DOWN, route.device, mtu, why=stuck[route.device])
        unresolved = route.unresolved if is_userspace else ""
        return Route(RouteState.FOUND, route.device, mtu, unresolved)

    @staticmethod
    def _with_rate(route: Route, rates: Mapping[str, int]) -> Route:
        rate = rates.get(route.device)
        return route if rate is None else replace(route, rate_kbps=rate)


def _ports_by_bridge(interfaces: Iterable[InterfaceRow]) -> Mapping[str, Sequence[InterfaceRow]]:
    """The ports by which what a bridge's own device sends has to leave, by bridge.

    Nobody knows which one of them its flows choose.
    """
    ports: defaultdict[str, list[InterfaceRow]] = defaultdict(list)
    for row in interfaces:
        if row.name != row.bridge and row.ofport is not None:
            ports[row.bridge].append(row)
    return ports


def _rates_by_device(
    interfaces: Iterable[InterfaceRow], ports: Mapping[str, Sequence[InterfaceRow]]
) -> Mapping[str, int]:
    """What may be used of devices that send little, in kilobits a second.

    Of a bridge that is the fastest port, if all are known to send little.
    """
    found = {r.name: r.device.rate_kbps for r in interfaces if r.device.rate_kbps is not None}
    for bridge, rows in ports.items():
        rates = [row.device.rate_kbps for row in rows if row.device.rate_kbps is not None]
        if len(rates) == len(rows):
            found[bridge] = min(max(rates), found.get(bridge, max(rates)))
    return found


def _without_uplink(ports: Mapping[str, Sequence[InterfaceRow]]) -> dict[str, str]:
    """The bridges that have ports, none of which is up, each with the names of these ports.

    A port whose link was never reported counts as up.
    """
    return {
        bridge: ", ".join(repr(row.name) for row in rows[:PORTS_NAMED_MAX])
        for bridge, rows in ports.items()
        if all(row.is_up is False for row in rows)
    }


def _read_neighbours(text: str) -> frozenset[IPAddress]:
    """The addresses whose MAC address ovs-vswitchd knows, from ``tnl/neigh/show``."""
    words = (line.split() for line in text.splitlines())
    found = (_address(line[0]) for line in words if len(line) >= 2)
    return frozenset(address for address in found if address is not None)


def _address(text: str) -> IPAddress | None:
    try:
        return IPAddress(text)
    except (AddrFormatError, ValueError):
        return None
