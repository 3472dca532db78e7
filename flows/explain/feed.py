"""What the sensors of a collector receive: networks with their tags, and what is left out of them.

A sensor that serves several collectors receives the copies of all of them. When other tenants
deliver to the same remote address, the feed shows only that they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netaddr import IPAddress

from flows.model import (
    Collector,
    CollectorId,
    Direction,
    Mode,
    Network,
    NetworkId,
    Port,
    Sensor,
    Session,
    TagMode,
    receiving_places,
    watched_by,
)
from flows.resolve import ResolvedWorld


@dataclass(frozen=True, slots=True)
class ReceivedNetwork:
    """A network and the tag on its copies; without ``sessions`` no session watches it now."""

    network: Network
    tag: int | None
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """What the configuration of a sensor must know of the copies that the sensor receives.

    ``addresses`` are those of the workloads in these networks, ``unknown`` the names of workloads
    without declared addresses. Sessions, by name: ``cut`` are those that truncate copies, with the
    length in bytes; ``one_way`` copy one direction only; ``capped`` have a rate cap; ``filtered``
    have a filter, by its name; ``exclusive`` get only what no other exclusive session took first.
    ``longest`` is how many bytes of a frame fit the path, ``shared`` are other collectors with
    sessions and the same sensors, and ``has_strangers`` is true when other tenants deliver there
    as well.
    """

    collector: Collector
    sensors: tuple[str, ...]
    networks: tuple[ReceivedNetwork, ...]
    addresses: tuple[IPAddress, ...] = ()
    unknown: tuple[str, ...] = ()
    cut: tuple[tuple[str, int], ...] = ()
    one_way: tuple[str, ...] = ()
    capped: tuple[str, ...] = ()
    filtered: tuple[tuple[str, str], ...] = ()
    exclusive: tuple[str, ...] = ()
    longest: int | None = None
    shared: tuple[str, ...] = ()
    has_strangers: bool = False

    @property
    def tags(self) -> tuple[ReceivedNetwork, ...]:
        """The tagged networks, if each has a tag of its own; otherwise none."""
        found = [received for received in self.networks if received.tag is not None]
        return tuple(found) if len({received.tag for received in found}) == len(found) else ()


def feed_of(resolved: ResolvedWorld, key: CollectorId) -> Feed | None:
    """What a collector's sensors receive of the allowed sessions; None: no such collector.

    A session counts whether its ports run now or not, so the feed does not change with every VM.
    """
    world = resolved.world
    collector = world.collector_by_id.get(key)
    if collector is None:
        return None
    places = set(receiving_places(collector))
    everybody = [c for c in world.collectors if places & set(receiving_places(c))]
    sharing = [c for c in everybody if c.tenant == collector.tenant]
    keys, all_keys = {c.id for c in sharing}, {c.id for c in everybody}
    wanted = [s for s in world.sessions if s.collector in all_keys and _is_wanted(resolved, s)]
    sessions = [s for s in wanted if s.collector in keys]
    used = {session.collector for session in sessions}
    received = tuple(_received_networks(resolved, collector, sessions))
    watched = {r.network.id for r in received if r.sessions}
    networks = watched or {r.network.id for r in received}
    workloads = [port for port in world.workloads if port.network in networks]
    limits = [resolved.limit_of(session) for session in sessions]
    return Feed(
        collector,
        tuple(_name(resolved, sensor) for sensor in collector.sensors),
        received,
        addresses=tuple(sorted({ip for port in workloads for ip in port.ips})),
        unknown=tuple(port.name for port in workloads if not port.ips),
        cut=tuple((s.name, s.packet_length) for s in sessions if s.packet_length is not None),
        one_way=tuple(s.name for s in sessions if s.direction is not Direction.BOTH),
        capped=tuple(s.name for s in sessions if s.max_rate is not None),
        filtered=tuple(
            (s.name, world.filter_by_id[s.filter].name)
            for s in sessions
            if s.filter in world.filter_by_id
        ),
        exclusive=tuple(s.name for s in sessions if s.mode is Mode.EXCLUSIVE),
        longest=min((limit for limit in limits if limit is not None), default=None),
        shared=tuple(c.name for c in sharing if c.id in used and c.id != key),
        has_strangers=len(wanted) > len(sessions),
    )


def _is_wanted(resolved: ResolvedWorld, session: Session) -> bool:
    resolved_session = resolved.sessions.get(session.id)
    return session.enabled and resolved_session is not None and resolved_session.refused is None


def _received_networks(
    resolved: ResolvedWorld, collector: Collector, sessions: Iterable[Session]
) -> Iterator[ReceivedNetwork]:
    """The networks that sessions watch, then the tenant's others, with the tag they would get."""
    world = resolved.world
    names: dict[tuple[NetworkId, int | None], list[str]] = {}
    for session in sessions:
        for network in _networks(watched_by(session, world.workloads)):
            tag = resolved.tag_of_copy(session, network)
            names.setdefault((network, tag), []).append(session.name)
    for (network, tag), watching in names.items():
        yield ReceivedNetwork(world.network_by_id[network], tag, tuple(watching))
    watched = {network for network, _ in names}
    for one in world.networks:
        if one.tenant == collector.tenant and one.id not in watched:
            yield ReceivedNetwork(one, _tag_to_be(resolved, collector, one.id))


def _tag_to_be(resolved: ResolvedWorld, collector: Collector, network: NetworkId) -> int | None:
    if isinstance(collector.tenant_tag, int):
        return collector.tenant_tag
    if collector.tenant_tag is TagMode.AUTO:
        return resolved.world.numbers.tag.get(f"network:{network}")
    return None


def _networks(ports: Iterable[Port]) -> list[NetworkId]:
    return list(dict.fromkeys(port.network for port in ports if port.network is not None))


def _name(resolved: ResolvedWorld, sensor: Sensor) -> str:
    port = None if isinstance(sensor, IPAddress) else resolved.world.port_by_id.get(sensor)
    return str(sensor) if port is None else port.name
