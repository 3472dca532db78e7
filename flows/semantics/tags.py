"""Which 802.1Q tag a copy gets, so that a sensor can tell networks with equal addresses apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from flows.errors import Refused
from flows.model import (
    NetworkId,
    Session,
    TagMode,
    World,
    check_session,
    receiving_places,
    watched_by,
)


def tag_of_copy(session: Session, network: NetworkId, world: World) -> int | None:
    """The tag on the copies that a session makes of the packets of a network; None: no tag.

    With ``auto`` a copy gets its network's tag as soon as sessions watch ports of more than one
    network for one sensor of its collector (the same tap port, or the same address, whatever the
    tunnels and the tenants). Ports count whether they run now or not, so a tag does not come and go
    with a VM.
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
    """Whether copies of a session get an 802.1Q tag."""
    collector = world.collector_by_id[session.collector]
    received = _networks_received(world)
    return isinstance(collector.tenant_tag, int) or (
        collector.tenant_tag is TagMode.AUTO
        and any(len(received.get(place, ())) > 1 for place in receiving_places(collector))
    )


@lru_cache(maxsize=4)
def _networks_received(world: World) -> Mapping[str, frozenset[NetworkId]]:
    """The networks whose copies each receiving place gets, by inventory and sessions."""
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
