"""One session in a world and its fabric: what it may watch, and where its copies can go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netaddr import IPAddress

from flows.resolve.session import Standing
from flows.errors import NoMeterLeft, Refused
from flows.model.spanning_tree import Fabric
from flows.model.session import ALL, Collector, Dpid, Port, Session, SourceKind
from flows.model.source import watched_by
from flows.semantics.tags import transport_key
from flows.model.tenancy import check_session
from flows.model.world import METERS, World


@dataclass(frozen=True, slots=True)
class Estate:
    """A world and the links of it that are used."""

    world: World
    fabric: Fabric

    def stand(self, session: Session) -> Standing:
        """How a session stands, alone: what there is room for is not asked."""
        world = self.world
        try:
            check_session(
                session,
                world.port_by_id,
                world.collector_by_id,
                world.filter_by_id,
                world.network_by_id,
            )
        except Refused as refusal:
            return Standing(session, refused=refusal)
        if session.max_rate is not None and session.id not in world.numbers.meter:
            return Standing(session, refused=NoMeterLeft(session.name, len(METERS)))
        if session.filter != ALL and session.filter not in world.filter_by_id:
            return Standing(session, missing=("its filter is gone",))
        missing: list[str] = []
        collector = world.collector_by_id.get(session.collector)
        taps = self._taps(collector, missing)
        by_name = session.source.kind is SourceKind.PORT
        known = world.port_by_id
        gone = [port_id for port_id in session.source.ports if port_id not in known]
        missing += [f"port {port_id!r} is in no inventory" for port_id in gone]
        watched: list[Port] = []
        for port in watched_by(session, self.declared(session)):
            if port.id not in world.placements:
                # a list of ports means each of them; of the others, some may be switched off
                missing += [f"port {port.name!r} is on no bridge"] * by_name
            elif collector is not None and (way := self._blocked(port, collector, taps)):
                missing.append(way)
            else:
                watched.append(port)
        if not watched and not missing:
            missing.append("no port that it should watch is on a bridge now")
        is_far = self._is_far(watched, taps)
        return Standing(session, tuple(watched), taps, collector, tuple(missing), is_far=is_far)

    def _is_far(self, watched: Iterable[Port], taps: tuple[Port, ...]) -> bool:
        """Whether copies that one of the bridges makes cross a link."""
        places = self.world.placements
        homes = {places[port.id].dpid for port in watched} if taps else set[Dpid]()
        return any(
            home != places[tap.id].dpid and self.is_deliverable(home, tap)
            for home in homes
            for tap in taps
        )

    def _blocked(self, port: Port, collector: Collector, taps: tuple[Port, ...]) -> str:
        """Why copies of a port's packets reach no sensor; empty when they reach one."""
        if collector.is_tunnelled:
            if (self.world.placements[port.id].dpid, collector.delivery) in self.world.tunnels:
                return ""
            kind = collector.delivery.value
            return f"the bridge of port {port.name!r} has no tunnel port for {kind}"
        if not taps or any(
            self.is_deliverable(self.world.placements[port.id].dpid, tap) for tap in taps
        ):
            return ""
        names = " or ".join(repr(tap.name) for tap in taps)
        return f"no link leads from port {port.name!r} to tap port {names}"

    def is_deliverable(self, here: Dpid, tap: Port) -> bool:
        """Whether copies that a bridge makes reach a placed tap port."""
        there = self.world.placements[tap.id].dpid
        has_tag = transport_key(tap.id, None) in self.world.numbers.tag
        return here == there or (has_tag and self._is_joined(here, there))

    def _taps(self, collector: Collector | None, missing: list[str]) -> tuple[Port, ...]:
        """The placed tap ports of a collector; what is wrong with its sensors is noted."""
        if collector is None:
            missing.append("its collector is gone")
            return ()
        placed: list[Port] = []
        for port_id in collector.tap_ports:
            tap = self.world.port_by_id.get(port_id)
            if tap is None:
                missing.append(f"tap port {port_id!r} is in no inventory")
            elif tap.id not in self.world.placements:
                missing.append(f"tap port {tap.name!r} is on no bridge")
            else:
                placed.append(tap)
        for sensor in collector.sensors:
            if self.world.is_down(collector, sensor):
                tap = None if isinstance(sensor, IPAddress) else self.world.port_by_id.get(sensor)
                name = str(sensor) if tap is None else tap.name
                missing.append(f"sensor {name!r} is down")
        return tuple(placed)

    def declared(self, session: Session) -> Iterable[Port]:
        """The ports among which a session's are, whether they run or not."""
        if session.source.kind is SourceKind.PORT:
            known = self.world.port_by_id
            return (known[p] for p in session.source.ports if p in known)
        return self.world.workloads

    def _is_joined(self, one: Dpid, other: Dpid) -> bool:
        return self.fabric.component(one) == self.fabric.component(other)
