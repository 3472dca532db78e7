"""Which 802.1Q tag a copy wears, so that a sensor can tell networks with equal addresses apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from flows.errors import Refused
from flows.model.session import Collector, Network, NetworkId, PortId, Session, TagMode
from flows.model.source import watched_by
from flows.model.tenancy import check_session
from flows.model.world import Numbers, World


def tag_of_copy(session: Session, network: NetworkId, world: World) -> int | None:
    """The tag on the copies that a session makes of the packets of a network; None: no tag.

    With ``auto`` a copy wears its network's tag as soon as sessions watch ports of more than one
    network for one sensor of its collector (the same tap port, or the same address, whatever the
    tunnels and the tenants), whether these ports run now or not: so a tag does not come and go
    with a machine.
    """
    collector = world.collector_by_id[session.collector]
    match collector.tenant_tag:
        case int(number):
            return number
        case TagMode.AUTO if wears_tags(session, world):
            return world.numbers.tag.get(f"network:{network}")
        case _:
            return None


def wears_tags(session: Session, world: World) -> bool:
    """Whether copies of a session wear a tag of ours."""
    collector = world.collector_by_id[session.collector]
    heard = _networks_heard(world)
    return isinstance(collector.tenant_tag, int) or (
        collector.tenant_tag is TagMode.AUTO
        and any(len(heard.get(place, ())) > 1 for place in receiving_places(collector))
    )


def receiving_places(collector: Collector) -> tuple[str, ...]:
    """Names of what receives the copies: tap ports, and remote addresses.

    A sensor at an address may get several kinds of tunnels with several keys, and ignores both:
    Suricata takes connections with equal addresses for one unless a tag tells them apart.
    """
    return (*collector.tap_ports, *(f"at {address}" for address in collector.addresses))


def transport_key(tap: PortId, tag: int | None) -> str:
    """The name of the link tag for copies on their way to a tap port that shall wear ``tag``.

    The id of a port may hold a colon, so the tag stands before it: "tap:x:7" is a port "x:7".
    """
    return f"tap:{tap}" if tag is None else f"tap-{tag}:{tap}"


def transport_keys(
    collectors: Iterable[Collector], networks: Iterable[Network], numbers: Numbers
) -> list[str]:
    """The names of the link tags that tagged copies may need, in a stable order."""
    keys: list[str] = []
    networks = tuple(networks)
    for collector in collectors:
        own = [n.id for n in networks if n.tenant == collector.tenant]
        tags: list[int] = []
        if isinstance(collector.tenant_tag, int):
            tags = [collector.tenant_tag]
        elif collector.tenant_tag is TagMode.AUTO and len(own) > 1:
            found = (numbers.tag.get(f"network:{network}") for network in own)
            tags = [tag for tag in found if tag is not None]
        keys += [transport_key(tap, tag) for tap in collector.tap_ports for tag in tags]
    return list(dict.fromkeys(keys))


@lru_cache(maxsize=4)
def _networks_heard(world: World) -> Mapping[str, frozenset[NetworkId]]:
    """The networks that each receiving place gets copies of, by what is declared and wanted."""
    found: dict[str, set[NetworkId]] = {}
    for session in world.sessions:
        collector = world.collector_by_id.get(session.collector)
        if not session.enabled or collector is None or not _is_allowed(session, world):
            continue
        watched = watched_by(session, world.workloads)
        networks = {port.network for port in watched if port.network is not None}
        for place in receiving_places(collector):
            found.setdefault(place, set()).update(networks)
    return {place: frozenset(networks) for place, networks in found.items()}


def _is_allowed(session: Session, world: World) -> bool:
    try:
        check_session(
            session,
            world.port_by_id,
            world.collector_by_id,
            world.filter_by_id,
            world.network_by_id,
        )
    except Refused:
        return False
    return True
