"""Which sessions suffer when a switch refuses a flow, as most flows are shared by several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TypeVar

from flows.resolve.session import Standing
from flows.resolve.world import Survey
from flows.openflow.field import ETH_DST, ETH_SRC, IN_PORT, VLAN_PRESENT, VLAN_VID, Field, RegField
from flows.openflow.flow import LEARNED_OBJECT, PRODUCTION, Flow, Load
from flows.model.session import Dpid, NetworkId, Ofport, Port, PortId
from flows.pipeline.tables import (
    ALONE,
    CAST,
    CLAIM,
    DECIDE,
    EGRESS,
    FILTER_ID,
    NETWORK,
    OUT,
    POOL,
    REGISTERS,
    SEND,
    SENDER,
    SESSION,
    UNSENT,
)
from flows.semantics.tags import transport_key
from flows.model.world import Placement

NOBODY = frozenset[int]()
K = TypeVar("K")
Users = Mapping[K, frozenset[int]]
"""The numbers of the sessions that use something."""
Asked = Mapping[Field | RegField, int]
"""What a flow asks of a packet: values by field, or by part of a register."""


class Needs:
    """Who needs the flows of one bridge, in the world that it was brought to.

    ``served`` are the numbers of the sessions that the bridge makes copies of.
    """

    def __init__(self, dpid: Dpid, survey: Survey, served: frozenset[int]) -> None:
        self._dpid, self._survey, self._served = dpid, survey, served

    def of(self, flow: Flow) -> frozenset[int]:
        """The numbers of the sessions whose copies go wrong, or nowhere, without a flow.

        What production alone needs is needed by those who watch the port that it is about.
        """
        if flow.owner not in (PRODUCTION, LEARNED_OBJECT):
            return frozenset({flow.owner})
        asked = _asked(flow)
        if SESSION in asked:
            return frozenset({asked[SESSION]})
        served_here = {a.value for a in flow.actions if isinstance(a, Load) and a.target == SESSION}
        if served_here - {0}:
            return frozenset(served_here - {0})
        if FILTER_ID in asked:
            return self._by_filter.get(asked[FILTER_ID], NOBODY)
        if POOL in asked:
            return self._by_pool.get(asked[POOL], NOBODY)
        if flow.table < EGRESS.number:
            return self._of_production(asked)
        if flow.table == ALONE.number and SENDER in asked:
            return self._competing(asked[SENDER])
        return self._of_frame(flow.table) if flow.priority or flow.actions else NOBODY

    def _of_frame(self, table: int) -> frozenset[int]:
        """Who needs what is there whatever sessions there are."""
        here = [s for s in self._survey.served if self._number(s) in self._served]
        if table in (UNSENT.number, DECIDE.number):
            here = [s for s in here if not s.is_plain and not s.is_exclusive]
        elif table == CLAIM.number:
            here = [s for s in here if s.is_exclusive]
        elif table == SEND.number:
            here = [
                s
                for s in here
                if self._survey.limit_at(self._dpid, s.session) is not None
                or self._survey.is_staged(s)
            ]
        return frozenset(map(self._number, here))

    def _of_production(self, asked: Asked) -> frozenset[int]:
        if VLAN_VID in asked:
            return self._of_link_tag(asked[VLAN_VID] & ~VLAN_PRESENT)
        if OUT in asked or IN_PORT in asked:
            place = Placement(self._dpid, Ofport(asked[OUT] if OUT in asked else asked[IN_PORT]))
            return self._watching(self._survey.world.port_by_placement.get(place))
        if SENDER in asked:
            return self._watching(self._port_by_number.get(asked[SENDER]))
        if NETWORK not in asked:
            return NOBODY
        network = self._network_by_number[asked[NETWORK]]
        if CAST in asked:
            return self._in_network(network)
        address = asked.get(ETH_DST, asked.get(ETH_SRC))
        members = self._survey.world.members_by_network[network]
        return self._watching(next((p for p in members if p.mac and int(p.mac) == address), None))

    def _of_link_tag(self, tag: int) -> frozenset[int]:
        """What comes over a link: copies for a tap port, or packets of a network or a port."""
        key = self._key_by_tag.get(tag, "")
        kind, _, name = key.partition(":")
        if kind == "network":
            return self._in_network(NetworkId(name))
        if kind == "port":
            port = self._survey.world.port_by_id.get(PortId(name))
            return (
                NOBODY if port is None or port.network is None else self._in_network(port.network)
            )
        return self._by_transport.get(key, NOBODY)

    def _watching(self, port: Port | None) -> frozenset[int]:
        return NOBODY if port is None else self._by_port.get(port.id, NOBODY)

    def _in_network(self, network: NetworkId) -> frozenset[int]:
        members = self._survey.world.members_by_network.get(network, ())
        return NOBODY.union(*map(self._watching, members))

    def _competing(self, sender: int) -> frozenset[int]:
        """The exclusive sessions of the network that a port is in."""
        port = self._port_by_number.get(sender)
        if port is None or port.network is None:
            return NOBODY
        contest = self._survey.contest(port.network, self._dpid)
        standings = () if contest is None else contest.standings
        return frozenset(map(self._number, standings))

    def _number(self, standing: Standing) -> int:
        return self._survey.world.numbers.session[standing.session.id]

    @cached_property
    def _port_by_number(self) -> Mapping[int, Port]:
        numbers = self._survey.world.numbers.port
        return {numbers[p.id]: p for p in self._survey.world.workloads if p.id in numbers}

    @cached_property
    def _network_by_number(self) -> Mapping[int, NetworkId]:
        return {n: network for network, n in self._survey.world.numbers.network.items()}

    @cached_property
    def _key_by_tag(self) -> Mapping[int, str]:
        return {tag: key for key, tag in self._survey.world.numbers.tag.items()}

    @cached_property
    def _by_port(self) -> Users[PortId]:
        """Who watches a port."""
        served = self._survey.served
        return _users((port.id, self._number(s)) for s in served for port in s.watched)

    @cached_property
    def _by_filter(self) -> Users[int]:
        numbers = self._survey.world.numbers.filter
        served = [s for s in self._survey.served if not s.is_plain]
        return _users((numbers[s.session.filter], self._number(s)) for s in served)

    @cached_property
    def _by_pool(self) -> Users[int]:
        numbers = self._survey.world.numbers.collector
        served = [s for s in self._survey.served if s.session.collector in numbers]
        return _users((numbers[s.session.collector], self._number(s)) for s in served)

    @cached_property
    def _by_transport(self) -> Users[str]:
        """Whose copies wear a link tag on their way to a tap port of another bridge."""
        survey = self._survey
        return _users(
            (transport_key(tap.id, survey.tag_of_copy(s.session, network)), self._number(s))
            for s in survey.served
            if s.is_far
            for tap in s.taps
            for network in s.networks
        )


def _users(pairs: Iterable[tuple[K, int]]) -> Users[K]:
    found: dict[K, set[int]] = defaultdict(set)
    for key, number in pairs:
        found[key].add(number)
    return {key: frozenset(numbers) for key, numbers in found.items()}


def _asked(flow: Flow) -> Asked:
    """The values that a flow asks for; registers by their parts."""
    asked: dict[Field | RegField, int] = {}
    for term in flow.match.terms:
        if not term.field.is_register:
            asked[term.field] = term.value
        for part in REGISTERS:
            if part.field == term.field and term.mask & part.mask == part.mask:
                asked[part] = (term.value & part.mask) >> part.low
    return asked
