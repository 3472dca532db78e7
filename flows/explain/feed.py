"""What the sensors of a collector get to see: networks and their tags, and what is missing of them.

A sensor that serves several collectors sees the copies of all of them. Of other tenants that use
the same remote address nothing is told but that they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netaddr import IPAddress

from flows.resolve.world import Survey
from flows.model.session import (
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
)
from flows.model.source import watched_by
from flows.semantics.tags import receiving_places


@dataclass(frozen=True, slots=True)
class Heard:
    """A network whose copies wear a tag, or none; without ``sessions`` nobody watches it now."""

    network: Network
    tag: int | None
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """All that a sensor must know of the copies that it gets.

    ``addresses`` are those of the workloads in these networks, ``unknown`` the names of workloads
    without any. Of the sessions, by name: ``cut`` are those that make short copies, with their
    length in bytes, ``one_way`` those that copy one direction only, ``capped`` those that shed
    copies, ``filtered`` those with a filter, by its name, and ``exclusive`` those that get what no
    other such session has taken before. ``longest`` is what fits the path in bytes, ``shared``
    names other collectors of the same sensors, and ``has_strangers`` says that other tenants send
    copies there as well.
    """

    collector: Collector
    sensors: tuple[str, ...]
    heard: tuple[Heard, ...]
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
    def tags(self) -> tuple[Heard, ...]:
        """The networks that can be told apart by a tag of their own."""
        found = [heard for heard in self.heard if heard.tag is not None]
        return tuple(found) if len({heard.tag for heard in found}) == len(found) else ()


def feed_of(survey: Survey, key: CollectorId) -> Feed | None:
    """What a collector's sensors get, by what is wanted and allowed now; None: no such collector.

    Sessions count whether their ports run now or not, so that it does not change with every VM.
    """
    world = survey.world
    collector = world.collector_by_id.get(key)
    if collector is None:
        return None
    places = set(receiving_places(collector))
    everybody = [c for c in world.collectors if places & set(receiving_places(c))]
    sharing = [c for c in everybody if c.tenant == collector.tenant]
    keys, all_keys = {c.id for c in sharing}, {c.id for c in everybody}
    wanted = [s for s in world.sessions if s.collector in all_keys and _is_wanted(survey, s)]
    sessions = [s for s in wanted if s.collector in keys]
    heard = tuple(_heard(survey, collector, sessions))
    networks = {h.network.id for h in heard if h.sessions} or {h.network.id for h in heard}
    workloads = [port for port in world.workloads if port.network in networks]
    limits = [survey.limit_of(session) for session in sessions]
    return Feed(
        collector,
        tuple(_name(survey, sensor) for sensor in collector.sensors),
        heard,
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
        shared=tuple(c.name for c in sharing if c.id != key),
        has_strangers=len(wanted) > len(sessions),
    )


def _is_wanted(survey: Survey, session: Session) -> bool:
    standing = survey.standings.get(session.id)
    return session.enabled and standing is not None and standing.refused is None


def _heard(survey: Survey, collector: Collector, sessions: Iterable[Session]) -> Iterator[Heard]:
    """The networks that sessions watch, then those that they may watch with a tag that is ready."""
    world = survey.world
    names: dict[tuple[NetworkId, int | None], list[str]] = {}
    for session in sessions:
        for network in _networks(watched_by(session, world.workloads)):
            tag = survey.tag_of_copy(session, network)
            names.setdefault((network, tag), []).append(session.name)
    for (network, tag), watching in names.items():
        yield Heard(world.network_by_id[network], tag, tuple(watching))
    watched = {network for network, _ in names}
    for one in world.networks:
        if one.tenant == collector.tenant and one.id not in watched:
            yield Heard(one, _ready_tag(survey, collector, one.id))


def _ready_tag(survey: Survey, collector: Collector, network: NetworkId) -> int | None:
    if isinstance(collector.tenant_tag, int):
        return collector.tenant_tag
    if collector.tenant_tag is TagMode.AUTO:
        return survey.world.numbers.tag.get(f"network:{network}")
    return None


def _networks(ports: Iterable[Port]) -> list[NetworkId]:
    return list(dict.fromkeys(port.network for port in ports if port.network is not None))


def _name(survey: Survey, sensor: Sensor) -> str:
    port = None if isinstance(sensor, IPAddress) else survey.world.port_by_id.get(sensor)
    return str(sensor) if port is None else port.name
