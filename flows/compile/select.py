"""Selection: which sessions want a packet, and at which tap point each of them takes its one copy.

The sender's own bridge makes the copy of a session that watches the sender, if the filter accepts
the packet. Otherwise the bridge that delivers a unicast packet makes it; the copy of a flooded
packet is made by the designated bridge of the session, the lowest on which it watches a port that
receives the packet. Every bridge decides by itself, from the sender of the packet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flows.compile.filter import filter_key
from flows.compile.production import GROUP
from flows.model import Attachment, Direction, Dpid, NetworkId, Ofport, Port, Session
from flows.openflow import (
    ETH_DST,
    ETH_SRC,
    GROUP_BIT,
    IN_PORT,
    NOTHING,
    PRODUCTION,
    Action,
    Flow,
    Load,
    Match,
    Pattern,
    Resubmit,
    Steps,
    Term,
    make_flow,
)
from flows.pipeline import (
    ACCEPT,
    AGREED,
    ALONE,
    CAST,
    CLAIM,
    COPIED_FROM,
    COPIED_TO,
    DECIDE,
    DELIVER,
    EGRESS,
    FILTER,
    FILTER_ID,
    IDENTIFY,
    INGRESS,
    NETWORK,
    ONCE,
    OUT,
    PROBE,
    RULES,
    SENDER,
    SESSION,
    TAKEN,
    UNSENT,
    VERDICT,
    WINNER,
    Cast,
    Rules,
    Table,
)
from flows.resolve import (
    BridgeView,
    MirrorUse,
    ResolvedSession,
    Taken,
    owner_port,
    told_by_address,
)

TO_ONCE, TO_ACCEPT, TO_DELIVER, TO_FILTER, TO_CLAIM = (
    Resubmit(table.number) for table in (ONCE, ACCEPT, DELIVER, FILTER, CLAIM)
)
OF_EGRESS, OF_INGRESS = Load(RULES, Rules.EGRESS), Load(RULES, Rules.INGRESS)
ACCEPTED, COPIED = Steps.of(TO_ACCEPT), Steps.of(TO_DELIVER)

# the patterns of flows that exist once for each port, network or session
SENT_BY_PORT = EGRESS.pattern("port", IN_PORT)
RECEIVED_BY_PORT = INGRESS.pattern("port", OUT, CAST.eq(Cast.UNICAST))
FLOODED_IN_NETWORK = INGRESS.pattern("network", NETWORK, CAST)
SENDER_BY_ADDRESS = IDENTIFY.pattern("address", NETWORK, ETH_SRC)
COPIED_WHEN_SENT = ONCE.pattern("sent", SENDER, SESSION)
SENT_BY_ONLY_PORT = ONCE.pattern("sender", SENDER, CAST.eq(Cast.FLOOD), SESSION)
ACCEPT_SESSION = ACCEPT.pattern("session", SESSION)
# of copies from a Mirror that several sessions share
SENT_BY_ADDRESS = COPIED_FROM.pattern("address", IN_PORT, NETWORK, ETH_SRC)
RECEIVED_BY_ADDRESS = COPIED_TO.pattern("address", IN_PORT, NETWORK, ETH_DST)
RECEIVED_BY_GROUP = COPIED_TO.pattern("group", IN_PORT, NETWORK, GROUP)
COPIED_FROM_ADDRESS = ONCE.pattern("address", NETWORK, SESSION, ETH_SRC)

EVERY_GROUP = GROUP_BIT
"""Stands for every broadcast and multicast address at a tap point of addresses."""

TapPoint = tuple[int, Ofport] | tuple[int, NetworkId, Cast] | tuple[int, Ofport, NetworkId, int]
"""Where sessions are asked about packets: those that a port sends or receives (the number of the
table, the port), those that are flooded in a network (the table, the network, the cast), or those
of a shared Mirror from or to an address (the table, its port, the network, the address)."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What one session adds to the selection tables of a bridge.

    Its own ``flows``, the ``tap_points`` where it is asked, and the ``senders`` that its flows
    must be able to identify.
    """

    flows: tuple[Flow, ...]
    tap_points: tuple[TapPoint, ...]
    senders: tuple[Port, ...]


NOTHING_SELECTED = Selected((), (), ())


def fixed_selection_flows() -> Iterator[Flow]:
    """The flows of the selection tables that do not depend on sessions."""
    go = (Resubmit(ACCEPT.number),)
    copy = (Resubmit(DELIVER.number),)
    yield shared_flow(EGRESS, "nothing", (), (), "no session watches what this port sends")
    yield shared_flow(INGRESS, "nothing", (), (), "no session watches the port that it goes to")
    yield shared_flow(ONCE, "first", (), go, "no bridge has copied it before")
    yield shared_flow(UNSENT, "unsent", (), go, "the sender's bridge had no reason to copy it")
    yield shared_flow(UNSENT, "sent", (VERDICT.eq(1),), (), "the sender's bridge has copied it")
    yield shared_flow(ACCEPT, "nothing", (), (), "no such session any more")
    yield shared_flow(DECIDE, "rejected", (), (), "the filter rejects it")
    yield shared_flow(DECIDE, "accepted", (VERDICT.eq(1),), copy, "the filter accepts it")
    yield shared_flow(IDENTIFY, "nothing", (), (), "no session asks who sent it")


def select(view: BridgeView, resolved_session: ResolvedSession) -> Selected:
    """Where a session takes its copies on this bridge; no tap points when it takes none here."""
    return _Selection(view, resolved_session).selected()


def tap_point_flow(
    view: BridgeView,
    tap_point: TapPoint,
    resolved_sessions: Mapping[int, ResolvedSession],
    chain: tuple[ResolvedSession, ...],
) -> Flow:
    """The flow that asks the sessions of one tap point, one after the other.

    ``resolved_sessions`` are the copy sessions by number; they are asked in that order, and after
    them the exclusive ones, ``chain``.
    """
    ordered = (
        sorted(resolved_sessions.items())
        if len(resolved_sessions) > 1
        else list(resolved_sessions.items())
    )
    competing = tuple(compete(view, chain)) if chain else ()
    count = len(ordered) + len(chain)
    match tap_point:
        case (EGRESS.number, int(ofport)) if view.dpid in view.world.attachments:
            steps = Steps.of(*_ask_mirrored(view, ofport, ordered))
            why = f"{count} session(s) have this Mirror"
            return make_flow(SENT_BY_PORT, (ofport,), steps, PRODUCTION, why)
        case (EGRESS.number, int(ofport)):
            steps = Steps.of(OF_EGRESS, *_ask_each(ordered, None), *competing)
            why = f"{count} session(s) watch what this port sends"
            return make_flow(SENT_BY_PORT, (ofport,), steps, PRODUCTION, why)
        case (table, patch, network, address):
            where = patch, view.world.numbers.network[network], address
            return _told_by_address(table, where, ordered)
        case (_, int(ofport)):
            steps = Steps.of(*_received(Cast.UNICAST, ordered, competing))
            why = f"{count} session(s) watch what this port receives"
            return make_flow(RECEIVED_BY_PORT, (ofport,), steps, PRODUCTION, why)
        case (_, network, cast):
            values = view.world.numbers.network[network], cast.value
            steps = Steps.of(*_received(cast, ordered, competing))
            why = f"{count} session(s) watch a port that receives a flooded packet"
            return make_flow(FLOODED_IN_NETWORK, values, steps, PRODUCTION, why)
        case _:
            raise AssertionError(f"no tap point {tap_point}")


def identify(view: BridgeView, port: Port) -> Iterator[Flow]:
    """The flow that identifies a protected sender on another bridge by its address.

    Ports of this bridge and link tags of unprotected ports identify their senders by themselves.
    """
    if view.is_here(port) or not port.is_protected or port.mac is None:
        return
    values = view.world.numbers.network[_network(port)], int(port.mac)
    load = Steps.of(Load(SENDER, view.number(port.id)))
    yield make_flow(
        SENDER_BY_ADDRESS, values, load, PRODUCTION, f"{port.id} alone may use this address"
    )


def ask(view: BridgeView, session: Session) -> tuple[Action, ...]:
    """The actions that evaluate the filter of a session; VERDICT then holds the result."""
    number = view.world.numbers.filter[session.filter]
    key = filter_key(number, view.filter_by_id[session.filter])
    return (Load(FILTER_ID, key), Load(VERDICT, 0), TO_FILTER)


def compete(view: BridgeView, chain: Iterable[ResolvedSession]) -> Iterator[Action]:
    """The actions that offer the packet to exclusive sessions, one after the other."""
    for resolved_session in chain:
        yield Load(SESSION, view.world.numbers.session[resolved_session.session.id])
        yield TO_CLAIM


def leaves_to_others(flow: Flow) -> bool:
    """Whether a flow leaves copies of a session to another bridge, which should make them."""
    if flow.table != ONCE.number or flow.steps == ACCEPTED:
        return False
    return flow.priority in (ONCE["sent"], ONCE["sender"], ONCE["elsewhere"])


def sender_of_copied(flow: Flow) -> int | None:
    """The number of the sender whose bridge is expected to have made a copy, if a flow says it."""
    return flow.values[0] if flow.pattern == COPIED_WHEN_SENT else None


class DesignatedBridge(NamedTuple):
    """The bridge that makes a session's copy of flooded packets: the lowest with a watched port.

    If ``only_port``, the only watched port there, is the sender, ``backup`` makes the copy.
    """

    dpid: Dpid
    only_port: Port | None
    backup: Dpid | None


def designated_bridge(view: BridgeView, ports: Sequence[Port]) -> DesignatedBridge:
    """The bridge that copies what is flooded to some ports (at least one) of one network."""
    if len(ports) == 1:
        return DesignatedBridge(view.resolved.place(ports[0]), ports[0], None)
    ports_by_dpid: dict[Dpid, list[Port]] = defaultdict(list)
    for port in ports:
        ports_by_dpid[view.resolved.place(port)].append(port)
    lowest, *others = sorted(ports_by_dpid)
    if len(ports_by_dpid[lowest]) > 1:
        return DesignatedBridge(lowest, None, None)
    return DesignatedBridge(lowest, ports_by_dpid[lowest][0], others[0] if others else None)


def shared_flow(
    table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action], why: str
) -> Flow:
    """A flow that is not owned by a single session."""
    return Flow(table.number, table[priority], Match.of(*terms), tuple(actions), PRODUCTION, why)


class _Selection:
    """Collects what one session adds to the selection tables of one bridge."""

    def __init__(self, view: BridgeView, resolved_session: ResolvedSession) -> None:
        self.view, self.resolved_session = view, resolved_session
        self.session = resolved_session.session
        self.number = view.world.numbers.session[resolved_session.session.id]
        self.is_plain, self.is_exclusive = resolved_session.is_plain, resolved_session.is_exclusive
        # bridges of other regions decide about their packets by themselves
        self.watched = tuple([p for p in resolved_session.watched if view.is_joined(p)])
        self._flows: list[Flow] = []
        self._tap_points: list[TapPoint] = []
        self._senders: dict[str, Port] = {}

    def selected(self) -> Selected:
        """All of it, in a stable order."""
        attachment = self.view.world.attachments.get(self.view.dpid)
        if attachment is not None:
            self._mirrors(attachment)
        elif self.session.direction.is_egress:
            self._egress()
        if attachment is None and self.session.direction.is_ingress:
            for network, ports in _by_network(self.watched).items():
                self._ingress(network, ports)
        if self._tap_points:
            self._accept()
            if self.is_exclusive and self.session.direction is Direction.BOTH:
                terms = (SESSION.eq(self.number), WINNER.eq(self.number))
                self._add(ONCE, "won", terms, (), "copied when it was sent")
        senders = tuple(self._senders.values())
        return Selected(tuple(self._flows), tuple(self._tap_points), senders)

    def _egress(self) -> None:
        for port in self.watched:
            if self.view.is_here(port):
                self._tap_points.append((EGRESS.number, self.view.ofport(port)))

    def _mirrors(self, attachment: Attachment) -> None:
        """Open vSwitch has selected the packets, and each Mirror has copied them once."""
        for use in self.resolved_session.mirrors:
            if use.dpid == self.view.dpid and use.made is not None and not use.is_by_address:
                self._tap_points.append((EGRESS.number, attachment.mirrors[use.made]))
        here = [port for port in self.watched if self.view.is_here(port)]
        told = told_by_address(here, self.resolved_session.mirrors, self.view.world)
        for network, ports in _by_network(tuple(told)).items() if told else ():
            by_port = [(port, told[port]) for port in ports]
            self._addresses(attachment, network, by_port)

    def _addresses(
        self, attachment: Attachment, network: NetworkId, by_port: Iterable[tuple[Port, MirrorUse]]
    ) -> None:
        """Copies of what ports of one network send and receive, told by address."""
        sent, got, points = set[int](), set[int](), dict[TapPoint, None]()
        for port, use in by_port:
            known, made = owner_port(port.id, self.view.world), use.made
            assert known is not None and made is not None and port.mac is not None, "it is told"
            patch, mac = attachment.mirrors[made], int(port.mac)
            if known.row in use.own.sources:
                sent.add(mac)
                points[COPIED_FROM.number, patch, network, mac] = None
            if known.row in use.own.targets:
                got.add(mac)
                points[COPIED_TO.number, patch, network, mac] = None
                points[COPIED_TO.number, patch, network, EVERY_GROUP] = None
        self._tap_points += points
        members = self.view.world.members_by_network.get(network, ())
        is_certain = all(port.is_protected for port in members)
        for mac in sorted(sent | got if got else ()):
            is_only_port = is_certain and got == {mac}
            steps = NOTHING if is_only_port else self._unless_sent if mac in sent else ACCEPTED
            if steps != ACCEPTED:
                values = self.view.world.numbers.network[network], self.number, mac
                why = "its one port here sent it" if is_only_port else "copied as sent"
                self._make(COPIED_FROM_ADDRESS, values, steps, why)

    def _ingress(self, network: NetworkId, ports: tuple[Port, ...]) -> None:
        here = [port for port in ports if self.view.is_here(port)]
        self._tap_points += [(INGRESS.number, self.view.ofport(port)) for port in here]
        if here and self.view.link_ports:
            self._tap_points.append((INGRESS.number, network, Cast.LATE_FLOOD))
        if self._copies_floods(network, ports):
            self._tap_points.append((INGRESS.number, network, Cast.FLOOD))
        if here and self.session.direction.is_egress and not self.is_exclusive:
            unless_sent = self._unless_sent
            for port in ports:
                if self.view.next_hop(port) is not None:
                    values = self._sender(port), self.number
                    self._make(
                        COPIED_WHEN_SENT, values, unless_sent, f"copied when {port.id} sent it"
                    )

    def _accept(self) -> None:
        steps, why = COPIED, f"session {self.session.name} has no filter"
        if self.is_exclusive:
            why = f"session {self.session.name} has taken it"
        elif not self.is_plain:
            steps = Steps.of(*ask(self.view, self.session), Resubmit(DECIDE.number))
            name = self.view.filter_by_id[self.session.filter].name
            why = f"session {self.session.name} has filter {name}"
        self._make(ACCEPT_SESSION, (self.number,), steps, why)

    def _copies_floods(self, network: NetworkId, ports: tuple[Port, ...]) -> bool:
        """Whether this bridge copies some flooded packets; its flows in ONCE select which."""
        designated = designated_bridge(self.view, ports)
        only_port = designated.only_port
        if designated.dpid == self.view.dpid:
            if only_port is not None:
                values = self._sender(only_port), self.number
                self._make(SENT_BY_ONLY_PORT, values, NOTHING, "its one watched port here sent it")
            return True
        if only_port is None or designated.backup != self.view.dpid:
            return False
        terms = (
            NETWORK.eq(self.view.world.numbers.network[network]),
            CAST.eq(Cast.FLOOD),
            SESSION.eq(self.number),
        )
        from_only_port = SENDER.eq(self._sender(only_port))
        why = f"{only_port.id} sent it, so no lower bridge copies it"
        self._add(ONCE, "sender", (*terms, from_only_port), self._unless_sent.actions, why)
        self._add(ONCE, "elsewhere", terms, (), "another bridge copies it")
        return True

    @property
    def _unless_sent(self) -> Steps:
        """Go on with a packet of a watched sender only if the sender's bridge has not copied it."""
        if self.is_exclusive or not self.session.direction.is_egress:
            return ACCEPTED
        if self.is_plain:
            return NOTHING
        back = (OF_INGRESS, Resubmit(UNSENT.number))
        return Steps.of(OF_EGRESS, *ask(self.view, self.session), *back)

    def _sender(self, port: Port) -> int:
        self._senders[port.id] = port
        return self.view.number(port.id)

    def _make(self, pattern: Pattern, values: tuple[int, ...], steps: Steps, why: str) -> None:
        self._flows.append(make_flow(pattern, values, steps, PRODUCTION, why))

    def _add(
        self,
        table: Table,
        priority: str,
        terms: Iterable[Term],
        actions: Iterable[Action],
        why: str,
    ) -> None:
        self._flows.append(shared_flow(table, priority, terms, actions, why))


def _received(
    cast: Cast, ordered: Sequence[tuple[int, ResolvedSession]], competing: tuple[Action, ...]
) -> list[Action]:
    """The actions at a tap point of received packets."""
    before: list[Action] = []
    if competing:
        alone = [Resubmit(ALONE.number)] if cast is Cast.FLOOD else []
        before = [Resubmit(PROBE.number), *alone, Load(TAKEN, 0)]
    return [*before, OF_INGRESS, *_ask_each(ordered, TO_ONCE), *competing]


def _ask_each(ordered: Sequence[tuple[int, ResolvedSession]], go: Resubmit | None) -> list[Action]:
    """Resubmit for one session after the other: to ``go``, or directly to its filter or copy."""
    found: list[Action] = []
    for number, resolved_session in ordered:
        found.append(Load(SESSION, number))
        found.append(go or (TO_DELIVER if resolved_session.is_plain else TO_ACCEPT))
    return found


def _told_by_address(
    table: int, where: tuple[int, int, int], ordered: Sequence[tuple[int, ResolvedSession]]
) -> Flow:
    """The flow that asks the sessions that watch an address; its Mirror copies for others, too."""
    watch, address = f"{len(ordered)} session(s) with this Mirror watch what", where[2]
    if table == COPIED_FROM.number:
        steps, why = Steps.of(OF_EGRESS, *_ask_each(ordered, None)), f"{watch} this address sends"
        return make_flow(SENT_BY_ADDRESS, where, steps, PRODUCTION, why)
    steps = Steps.of(OF_INGRESS, *_ask_each(ordered, TO_ONCE))
    if address == EVERY_GROUP:
        why = f"{watch} ports of the network receive"
        return make_flow(RECEIVED_BY_GROUP, where[:2], steps, PRODUCTION, why)
    return make_flow(
        RECEIVED_BY_ADDRESS, where, steps, PRODUCTION, f"{watch} this address receives"
    )


def _ask_mirrored(
    view: BridgeView, patch: Ofport, ordered: Sequence[tuple[int, ResolvedSession]]
) -> Iterator[Action]:
    """Resubmit what a Mirror has copied for one session after the other."""
    made = {port: key for key, port in view.world.attachments[view.dpid].mirrors.items()}
    for number, resolved_session in ordered:
        uses = (use for use in resolved_session.mirrors if use.dpid == view.dpid)
        own = (use for use in uses if not use.is_by_address)
        taken = next((use.taken for use in own if use.made == made.get(patch)), None)
        if taken is None:
            continue
        yield Load(SESSION, number)
        if resolved_session.is_plain:
            yield TO_DELIVER
        elif not taken.asks_both_lists:
            yield OF_EGRESS if taken is Taken.EGRESS else OF_INGRESS
            yield TO_ACCEPT
        else:
            first, then, gate = _BY_BOTH_LISTS[taken]
            yield from (first, *ask(view, resolved_session.session), then, Resubmit(gate.number))


_BY_BOTH_LISTS: Mapping[Taken, tuple[Load, Load, Table]] = {
    Taken.BOTH: (OF_EGRESS, OF_INGRESS, AGREED),
    Taken.EGRESS_ALONE: (OF_INGRESS, OF_EGRESS, UNSENT),
    Taken.INGRESS_ALONE: (OF_EGRESS, OF_INGRESS, UNSENT),
}
"""Which list is asked first, which one then, and what the answer of the first has to be."""


def _by_network(ports: tuple[Port, ...]) -> Mapping[NetworkId, tuple[Port, ...]]:
    if len(ports) == 1:
        return {_network(ports[0]): ports}
    grouped: dict[NetworkId, list[Port]] = defaultdict(list)
    for port in ports:
        grouped[_network(port)].append(port)
    return {network: tuple(members) for network, members in grouped.items()}


def _network(port: Port) -> NetworkId:
    assert port.network is not None, "only workloads are watched"
    return port.network
