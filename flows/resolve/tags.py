"""802.1Q tags of copies: the tag that tells networks apart, and the link tags on the way.

A receiving place is a tap port or a remote address, whatever collectors send copies to it. Copies
of a collector with ``tenant_tag: auto`` wear the tag of their network as soon as one of its places
gets copies of several networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import NamedTuple

from flows.model import (
    NetworkId,
    Placement,
    PortId,
    Session,
    SessionId,
    TagMode,
    World,
    receiving_places,
    transport_key,
)
from flows.resolve.session import ResolvedSession


class _Feed(NamedTuple):
    """The receiving places that one session sends copies to, and the networks these are of."""

    places: tuple[str, ...]
    networks: frozenset[NetworkId]


class CopyTags:
    """The tags that copies of each session wear, in a world.

    ``previous`` are the tags of the world before: its sessions are taken over.
    """

    def __init__(self, world: World, previous: CopyTags | None = None) -> None:
        self._collector_by_id, self._tag_by_key = world.collector_by_id, world.numbers.tag
        self._feeds: dict[SessionId, _Feed] = {}
        self._networks_by_place: dict[str, Counter[NetworkId]] = {}
        """How many sessions send copies of each network to a receiving place."""
        self._borrowed: set[str] = set()
        """The places whose counter still belongs to ``previous``: copied before it is changed."""
        if previous is not None:
            self._feeds = dict(previous._feeds)
            self._networks_by_place = dict(previous._networks_by_place)
            self._borrowed = set(previous._networks_by_place)

    def add(self, session: Session, networks: frozenset[NetworkId]) -> None:
        """Add a session that is enabled and allowed, with the networks of its declared ports.

        The ports need not be placed: so a tag does not come and go with a machine.
        """
        feed = _Feed(receiving_places(self._collector_by_id[session.collector]), networks)
        self._feeds[session.id] = feed
        self._count(feed, 1)

    def remove(self, session: SessionId) -> None:
        """Remove a session, if it was added."""
        feed = self._feeds.pop(session, None)
        if feed is not None:
            self._count(feed, -1)

    def find_networks(self, session: SessionId) -> frozenset[NetworkId] | None:
        """The networks of a session's declared ports; None if it was not added."""
        feed = self._feeds.get(session)
        return None if feed is None else feed.networks

    def shared_places(self) -> Set[str]:
        """The receiving places that get copies of more than one network."""
        return {place for place, networks in self._networks_by_place.items() if len(networks) > 1}

    def sessions_at(self, places: Set[str]) -> Set[SessionId]:
        """The sessions that send copies to one of these places."""
        return {s for s, feed in self._feeds.items() if not places.isdisjoint(feed.places)}

    def tag_of_copy(self, session: Session, network: NetworkId) -> int | None:
        """The tag on a session's copies of the packets of a network (see flows/semantics/tags)."""
        match self._collector_by_id[session.collector].tenant_tag:
            case int(number):
                return number
            case TagMode.AUTO if self._wears_network_tags(session):
                return self._tag_by_key.get(f"network:{network}")
            case _:
                return None

    def wears_tags(self, session: Session) -> bool:
        """Whether copies of a session wear a tag that tells networks apart."""
        tag = self._collector_by_id[session.collector].tenant_tag
        return isinstance(tag, int) or self._wears_network_tags(session)

    def missing_link_tags(
        self, resolved_session: ResolvedSession, placements: Mapping[PortId, Placement]
    ) -> tuple[str, ...]:
        """The keys of the tags that a session's copies need and that have no number, sorted.

        Without them its copies are not carried over links, or wear no tag of their network.
        """
        session, keys = resolved_session.session, set[str]()
        for tap in resolved_session.taps:
            there = placements[tap.id].dpid
            far = {
                port.network
                for port in resolved_session.watched
                if port.network is not None and placements[port.id].dpid != there
            }
            keys |= {transport_key(tap.id, self.tag_of_copy(session, n)) for n in far}
        if resolved_session.collector is not None and self._wears_network_tags(session):
            keys |= {f"network:{port.network}" for port in resolved_session.watched}
        return tuple(sorted(key for key in keys if key not in self._tag_by_key))

    def _wears_network_tags(self, session: Session) -> bool:
        collector = self._collector_by_id[session.collector]
        return collector.tenant_tag is TagMode.AUTO and any(
            len(self._networks_by_place.get(place, ())) > 1 for place in receiving_places(collector)
        )

    def _count(self, feed: _Feed, by: int) -> None:
        for place in feed.places:
            networks = self._networks_by_place.get(place)
            if networks is None or place in self._borrowed:
                self._borrowed.discard(place)
                networks = self._networks_by_place[place] = Counter(networks)
            for network in feed.networks:
                networks[network] += by
                if not networks[network]:
                    del networks[network]
