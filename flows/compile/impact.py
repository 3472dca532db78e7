"""The impact of a refused flow: which sessions need it, as most flows are shared by several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TypeVar

from flows.compile.deliver import leads_nowhere
from flows.compile.filter import filter_key
from flows.model import OFPORT_MAX, Dpid, NetworkId, Ofport, Placement, Port, PortId, transport_key
from flows.openflow import (
    EPOCH_OBJECT,
    ETH_DST,
    ETH_SRC,
    IN_PORT,
    LEARNED_OBJECT,
    PRODUCTION,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Flow,
    Load,
    RegField,
)
from flows.pipeline import (
    AGREED,
    ALONE,
    CAST,
    CLAIM,
    DECIDE,
    EGRESS,
    FILTER_ID,
    NETWORK,
    OUT,
    OWN_TAG,
    POOL,
    REGISTER_FIELDS,
    REREAD,
    SEND,
    SENDER,
    SESSION,
    START,
    TABLE_BY_NUMBER,
    UNSENT,
)
from flows.resolve import BridgeView, MirrorUse, ResolvedSession, ResolvedWorld

NO_SESSIONS = frozenset[int]()
Used = TypeVar("Used")
Users = Mapping[Used, frozenset[int]]
"""The numbers of the sessions that use something."""
Matched = Mapping[Field | RegField, int]
"""The values that a flow matches, by field or by part of a register."""


class Impact:
    """Which sessions need the flows of one bridge, in the world that they were compiled from.

    ``served`` are the numbers of the sessions that the bridge makes copies for.
    """

    def __init__(self, dpid: Dpid, resolved: ResolvedWorld, served: frozenset[int]) -> None:
        self._dpid, self._resolved, self._served = dpid, resolved, served

    def affected_sessions(self, flow: Flow) -> frozenset[int]:
        """The numbers of the sessions whose copies are wrong or missing without a flow.

        A flow of production affects the sessions that watch its port or network.
        """
        if flow.owner == EPOCH_OBJECT:
            return self._served
        if flow.owner not in (PRODUCTION, LEARNED_OBJECT):
            return frozenset({flow.owner})
        matched = _matched(flow)
        if SESSION in matched:
            return frozenset({matched[SESSION]})
        served_here = {a.value for a in flow.actions if isinstance(a, Load) and a.target == SESSION}
        if served_here - {0}:
            return frozenset(served_here - {0})
        if FILTER_ID in matched:
            return self._by_filter.get(matched[FILTER_ID], NO_SESSIONS)
        if POOL in matched:
            return self._by_pool.get(matched[POOL], NO_SESSIONS)
        if flow.table in (OWN_TAG.number, REREAD.number):
            here = (s for s in self._resolved.served if s.session.direction.is_ingress)
            return frozenset(map(self._number, here)) & self._served
        patch = Ofport(matched.get(IN_PORT, 0))
        if patch in self._by_patch:
            networks = (
                a.value for a in flow.actions if isinstance(a, Load) and a.target == NETWORK
            )
            members = (self._in_network(self._network_by_number[number]) for number in networks)
            return self._by_patch[patch].intersection(*members)
        if flow.table < EGRESS.number:
            return self._of_production(matched)
        if flow.table == ALONE.number and SENDER in matched:
            return self._competing(matched[SENDER])
        return self._of_fixed_flow(flow.table) if flow.priority or flow.actions else NO_SESSIONS

    def preempted_sessions(self, table: int, priority: int, in_port: int | None) -> frozenset[int]:
        """The sessions whose packets a foreign flow may take, by where it is on the bridge.

        In the first table that is a flow at least as high as ours for workloads: it takes what the
        port of its ``in_port`` sends (None: what all send). In our other tables it is any flow.
        """
        if table != START.number:
            return self._served if table in TABLE_BY_NUMBER else NO_SESSIONS
        if priority < START["workload"]:
            return NO_SESSIONS
        world = self._resolved.world
        patch = Ofport(in_port or 0)
        if patch in self._by_patch:
            return self._by_patch[patch]
        sender = None
        if in_port is not None and 1 <= in_port <= OFPORT_MAX:
            sender = world.port_by_placement.get(Placement(self._dpid, Ofport(in_port)))
        if in_port is not None and sender is None and not self._is_link(in_port):
            return NO_SESSIONS  # a port of nobody
        if sender is None or sender.network is None:
            return self._served if sender is None else NO_SESSIONS
        return self._in_network(sender.network) & self._served

    def _is_link(self, ofport: int) -> bool:
        ends = (end for link in self._resolved.world.links for end in (link.a, link.b))
        return any((end.dpid, end.ofport) == (self._dpid, ofport) for end in ends)

    def _of_fixed_flow(self, table: int) -> frozenset[int]:
        """The sessions that need the flows of a table that do not depend on sessions."""
        here = [s for s in self._resolved.served if self._number(s) in self._served]
        if table in (UNSENT.number, DECIDE.number):
            here = [s for s in here if not s.is_plain and not s.is_exclusive]
        elif table == CLAIM.number:
            here = [s for s in here if s.is_exclusive]
        elif table == AGREED.number:
            here = [s for s in here if any(use.taken.asks_both_lists for use in self._used(s))]
        elif table == SEND.number:
            view = BridgeView(self._dpid, self._resolved)
            here = [
                s
                for s in here
                if self._resolved.limit_at(self._dpid, s.session) is not None
                or self._resolved.is_staged(s)
                or leads_nowhere(view, s)
            ]
        return frozenset(map(self._number, here))

    def _of_production(self, matched: Matched) -> frozenset[int]:
        if VLAN_VID in matched:
            return self._of_link_tag(matched[VLAN_VID] & ~VLAN_PRESENT)
        if OUT in matched or IN_PORT in matched:
            place = Placement(
                self._dpid, Ofport(matched[OUT] if OUT in matched else matched[IN_PORT])
            )
            return self._watching(self._resolved.world.port_by_placement.get(place))
        if SENDER in matched:
            return self._watching(self._port_by_number.get(matched[SENDER]))
        if NETWORK not in matched:
            return NO_SESSIONS
        network = self._network_by_number[matched[NETWORK]]
        if CAST in matched:
            return self._in_network(network)
        address = matched.get(ETH_DST, matched.get(ETH_SRC))
        members = self._resolved.world.members_by_network[network]
        return self._watching(next((p for p in members if p.mac and int(p.mac) == address), None))

    def _of_link_tag(self, tag: int) -> frozenset[int]:
        """The sessions that need a link tag: for copies, or for packets of a network or port."""
        key = self._key_by_tag.get(tag, "")
        kind, _, name = key.partition(":")
        if kind == "network":
            return self._in_network(NetworkId(name))
        if kind == "port":
            port = self._resolved.world.port_by_id.get(PortId(name))
            return (
                NO_SESSIONS
                if port is None or port.network is None
                else self._in_network(port.network)
            )
        return self._by_transport.get(key, NO_SESSIONS)

    def _watching(self, port: Port | None) -> frozenset[int]:
        return NO_SESSIONS if port is None else self._by_port.get(port.id, NO_SESSIONS)

    def _in_network(self, network: NetworkId) -> frozenset[int]:
        members = self._resolved.world.members_by_network.get(network, ())
        return NO_SESSIONS.union(*map(self._watching, members))

    def _competing(self, sender: int) -> frozenset[int]:
        """The exclusive sessions of the network that a port is in."""
        port = self._port_by_number.get(sender)
        if port is None or port.network is None:
            return NO_SESSIONS
        arbitration = self._resolved.arbitration(port.network, self._dpid)
        resolved_sessions = () if arbitration is None else arbitration.sessions
        return frozenset(map(self._number, resolved_sessions))

    def _number(self, resolved_session: ResolvedSession) -> int:
        return self._resolved.world.numbers.session[resolved_session.session.id]

    @cached_property
    def _port_by_number(self) -> Mapping[int, Port]:
        numbers = self._resolved.world.numbers.port
        return {numbers[p.id]: p for p in self._resolved.world.workloads if p.id in numbers}

    @cached_property
    def _network_by_number(self) -> Mapping[int, NetworkId]:
        return {n: network for network, n in self._resolved.world.numbers.network.items()}

    @cached_property
    def _key_by_tag(self) -> Mapping[int, str]:
        return {tag: key for key, tag in self._resolved.world.numbers.tag.items()}

    @cached_property
    def _by_port(self) -> Users[PortId]:
        """The sessions that watch a port."""
        served = self._resolved.served
        return _users((port.id, self._number(s)) for s in served for port in s.watched)

    def _used(self, resolved_session: ResolvedSession) -> Iterator[MirrorUse]:
        return (use for use in resolved_session.mirrors if use.dpid == self._dpid)

    @cached_property
    def _by_patch(self) -> Users[Ofport]:
        """The sessions that have a Mirror, by the port at which its copies arrive."""
        attachment = self._resolved.world.attachments.get(self._dpid)
        if attachment is None:
            return {}
        used = _users(
            (attachment.mirrors[use.made], self._number(s))
            for s in self._resolved.served
            for use in self._used(s)
            if use.made is not None
        )
        return {patch: used.get(patch, NO_SESSIONS) for patch in attachment.mirrors.values()}

    @cached_property
    def _by_filter(self) -> Users[int]:
        world = self._resolved.world
        keys = {
            f.id: filter_key(world.numbers.filter[f.id], f)
            for f in world.filters
            if f.id in world.numbers.filter
        }
        served = [s for s in self._resolved.served if not s.is_plain]
        return _users((keys[s.session.filter], self._number(s)) for s in served)

    @cached_property
    def _by_pool(self) -> Users[int]:
        numbers = self._resolved.world.numbers.collector
        served = [s for s in self._resolved.served if s.session.collector in numbers]
        return _users((numbers[s.session.collector], self._number(s)) for s in served)

    @cached_property
    def _by_transport(self) -> Users[str]:
        """The sessions whose copies wear a link tag on the path to a tap port of another bridge."""
        resolved = self._resolved
        return _users(
            (transport_key(tap.id, resolved.tag_of_copy(s.session, network)), self._number(s))
            for s in resolved.served
            if s.is_far
            for tap in s.taps
            for network in s.networks
        )


def _users(pairs: Iterable[tuple[Used, int]]) -> Users[Used]:
    found: dict[Used, set[int]] = defaultdict(set)
    for key, number in pairs:
        found[key].add(number)
    return {key: frozenset(numbers) for key, numbers in found.items()}


def _matched(flow: Flow) -> Matched:
    """The values that a flow matches; those of registers by part."""
    matched: dict[Field | RegField, int] = {}
    for term in flow.match.terms:
        if not term.field.is_register:
            matched[term.field] = term.value
        for part in REGISTER_FIELDS:
            if part.field == term.field and term.mask & part.mask == part.mask:
                matched[part] = (term.value & part.mask) >> part.low
    return matched
