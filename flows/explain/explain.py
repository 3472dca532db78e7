"""Why a packet is, or is not, copied: session by session, from the flows that are desired.

Settings of ports and links that stop the packet, or its copies, are taken into account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from flows.compile import Program, leads_nowhere
from flows.explain.trace import Interpreter, Trace
from flows.model import (
    ALL,
    Direction,
    Dpid,
    Mode,
    Placement,
    Port,
    Rule,
    Session,
    SessionId,
    cut_length,
    is_watched,
)
from flows.openflow import Fields, Flow, Metered, read_fields
from flows.pipeline import CUT, DELIVER, EGRESS, INGRESS
from flows.resolve import (
    BridgeView,
    ResolvedSession,
    ResolvedWorld,
    at_links,
    at_receiver,
    at_sender,
)
from flows.semantics import PortDirection, first_match, may_send, meaning, wants

AS_SENT, AS_RECEIVED = (f"copied, as a watched port {did} it" for did in ("sent", "received"))
NO_OTHERS: Mapping[Dpid, ResolvedWorld] = {}
TRACED_BETWEEN_PAUSES = 256
"""Flows that are read between two calls of ``pause``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one session does with a packet, and why, in a sentence.

    ``bridge`` makes the copy; ``rule`` decided, unless the session has no filter of its own.
    ``outdated`` decides by what it was told last, which is another version of the session.
    """

    session: Session
    is_copied: bool
    sentence: str
    bridge: Dpid | None = None
    direction: Direction | None = None
    rule: Rule | None = None
    outdated: Dpid | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happens to one packet: its receivers, an answer for each session, and every flow hit.

    ``obstacles`` say what keeps the packet itself from ports that should receive it.
    """

    answers: tuple[Answer, ...]
    receivers: tuple[Port, ...]
    steps: tuple[str, ...]
    obstacles: tuple[str, ...] = ()


def explain(
    resolved: ResolvedWorld,
    sender: Port,
    frame: bytes,
    pause: Callable[[], None] = lambda: None,
    links_down: Set[Placement] = frozenset(),
    told: Mapping[Dpid, ResolvedWorld] = NO_OTHERS,
) -> Explanation:
    """Traces ``frame`` from ``sender``, a placed workload, through the compiled flows.

    Bridges start with no learned addresses, so a destination that no port declares is unknown.
    ``pause`` is called after every few flows, to let other threads run. Ports of workloads at
    ``links_down`` send and receive nothing. Bridges that cannot be told of this world have the
    flows of the one that they were ``told`` of last.

    Raises:
        InvalidValue: ``frame`` is shorter than an Ethernet header.
    """
    world = resolved.world
    fields = read_fields(frame)
    place = world.placements[sender.id]
    reached = [dpid for dpid in world.dpids if resolved.is_joined(dpid, place.dpid)]
    flows = {dpid: _flows(dpid, told.get(dpid, resolved), pause) for dpid in reached}
    interpreter = Interpreter(flows, world.links, world.datapaths, world.segmenters)
    wanted = interpreter.send(place, frame)  # as if no setting stopped it
    closed = at_links(world)
    crossed = tuple(closed[end] for end in sorted(wanted.crossed & closed.keys()))
    trace = interpreter.send(place, frame, closed) if crossed else wanted
    expected = meaning(frame, sender, world)
    receivers = tuple(world.port_by_id[port_id] for port_id in sorted(expected.receivers))
    question = _Question(resolved, sender, receivers, fields, expected.taken, told)
    answers = tuple(
        _answer(question, resolved_session, wanted)
        for resolved_session in resolved.sessions.values()
    )
    if why := at_sender(sender, world, links_down):
        return Explanation(tuple(_withheld(each, why) for each in answers), (), (), (why,))
    if crossed:
        answers = _on_this_side(answers, question, trace, "; ".join(crossed))
    missed = {port: at_receiver(sender, port, world, links_down) for port in receivers}
    at = {emission.place for emission in trace.emissions}
    gone = {emission.place for emission in wanted.emissions} - at
    return Explanation(
        tuple(_with_missed(each, missed) for each in answers),
        tuple(p for p in receivers if not missed[p] and world.placements[p.id] not in gone),
        tuple(map(str, trace.steps)),
        (*crossed, *filter(None, missed.values())),
    )


def _withheld(answer: Answer, why: str) -> Answer:
    """The answer when the packet does not get to where it would be copied."""
    if not answer.is_copied:
        return answer
    return Answer(answer.session, False, f"not copied: {why}")


def _on_this_side(
    answers: tuple[Answer, ...], question: _Question, trace: Trace, why: str
) -> tuple[Answer, ...]:
    """The answers, without copies that are made behind a link that the packet does not cross."""
    return tuple(
        each if any(_copies(trace, question.number(each.session))) else _withheld(each, why)
        for each in answers
    )


def _with_missed(answer: Answer, missed: Mapping[Port, str]) -> Answer:
    """An answer, and whether the copy is of a packet that a watched port does not get."""
    if not answer.is_copied or not answer.session.direction.is_ingress:
        return answer
    watched = [why for port, why in missed.items() if is_watched(answer.session, port)]
    whys, sentence = list(filter(None, watched)), answer.sentence
    if answer.direction is Direction.INGRESS and len(whys) == len(watched):
        sentence = sentence.replace(AS_RECEIVED, "copied, as a watched port should receive it", 1)
    return replace(answer, sentence="; ".join((sentence, *whys)))


def _flows(dpid: Dpid, resolved: ResolvedWorld, pause: Callable[[], None]) -> Iterator[Flow]:
    """The desired flows of one bridge, compiled when the first one is asked for."""
    for at, flow in enumerate(Program(dpid).update(resolved, pause).put):
        if at % TRACED_BETWEEN_PAUSES == 0:
            pause()
        yield flow


@dataclass(frozen=True, slots=True)
class _Question:
    """One packet in a world; ``taken`` says which exclusive session takes it at which port.

    ``told``: see ``explain``.
    """

    resolved: ResolvedWorld
    sender: Port
    receivers: tuple[Port, ...]
    fields: Fields
    taken: Mapping[PortDirection, SessionId]
    told: Mapping[Dpid, ResolvedWorld]

    @property
    def port_directions(self) -> Iterator[tuple[Port, Direction]]:
        """The port that sends the packet (egress), then those that receive it (ingress)."""
        yield self.sender, Direction.EGRESS
        for port in self.receivers:
            yield port, Direction.INGRESS

    def number(self, session: Session) -> int:
        """The number of a session in flows; the same in every world."""
        return self.resolved.world.numbers.session[session.id]

    def outdated(self, session: SessionId, dpid: Dpid) -> ResolvedWorld | None:
        """The world of which a bridge has another version of a session; None: it has this one."""
        there = self.told.get(dpid)
        if there is None or self.resolved.has_same_session(session, there):
            return None
        return there


def _answer(question: _Question, resolved_session: ResolvedSession, trace: Trace) -> Answer:
    session = resolved_session.session
    if resolved_session.is_adrift:  # whatever bridges were told, no sensor gets its copies
        question = replace(question, told=NO_OTHERS)
    is_served = session.enabled and resolved_session.is_served
    number = question.number(session)
    copies = list(_copies(trace, number)) if is_served else []
    for bridge, direction in copies:
        if question.outdated(session.id, bridge) is None:
            found = _copied(question, question.resolved, session, trace, bridge, direction)
            others = (dpid for dpid, _ in copies if question.outdated(session.id, dpid))
            return replace(found, outdated=next(others, None))
    for bridge, direction in copies:
        if there := question.outdated(session.id, bridge):
            then = there.sessions[session.id].session
            found = _copied(question, there, then, trace, bridge, direction)
            return replace(found, session=session, outdated=bridge)
    sentence, rule = _why_not(question, resolved_session)
    for bridge in _deciding(question, session) if is_served else ():
        if there := question.outdated(session.id, bridge):
            sentence, rule = _why_not_before(replace(question, resolved=there), session.id, bridge)
            return Answer(session, False, sentence, rule=rule, outdated=bridge)
    return Answer(session, False, sentence, rule=rule)


def _why_not_before(
    question: _Question, session: SessionId, bridge: Dpid
) -> tuple[str, Rule | None]:
    """The same for the session as a bridge was told of it, as far as it is decided there."""
    before, world = question.resolved.sessions.get(session), question.resolved.world
    if before is None or bridge != next(_deciding(question, before.session), bridge):
        return "not copied", None
    if any(
        wants(before.session, port, direction, question.fields, world)
        for port, direction in question.port_directions
    ):
        return "not copied", None
    return _why_not(question, before)


def _copied(
    question: _Question,
    resolved: ResolvedWorld,
    session: Session,
    trace: Trace,
    bridge: Dpid,
    direction: Direction,
) -> Answer:
    """The answer when a bridge makes a copy, in the world that it was told of."""
    resolved_session = resolved.sessions[session.id]
    if _is_lost(resolved, resolved_session, bridge):
        why = "; ".join(resolved_session.missing)
        return Answer(session, False, f"not copied: no sensor can get it: {why}")
    if _is_skipped(trace, question.number(session)):
        limit = cut_length(session, resolved.limit_at(bridge, session))
        why = f"it is longer than the {limit} bytes that fit the path to its sensor"
        return Answer(session, False, f"not copied: {why}")
    rule = _rule(resolved, session, direction, question.fields)
    by = f"rule {rule.number} accepts it" if rule else "it has no filter"
    what = AS_SENT if direction is Direction.EGRESS else AS_RECEIVED
    said = "; ".join((f"{what}: {by}", *resolved_session.unknown))
    return Answer(session, True, said, bridge, direction, rule)


def _deciding(question: _Question, session: Session) -> Iterator[Dpid]:
    """The bridges of the ports at which a session should see the packet."""
    for port, direction in question.port_directions:
        place = question.resolved.world.placements.get(port.id)
        if place and session.direction.includes(direction) and is_watched(session, port):
            yield place.dpid


def _copies(trace: Trace, number: int) -> Iterator[tuple[Dpid, Direction]]:
    """The bridges that make copies for a session, and the direction that each is made for."""
    stage: dict[Dpid, Direction] = {}
    for step in trace.steps:
        if step.flow.table == EGRESS.number:
            stage[step.dpid] = Direction.EGRESS
        elif step.flow.table == INGRESS.number:
            stage[step.dpid] = Direction.INGRESS
        elif step.flow.table == DELIVER.number and step.flow.owner == number:
            yield step.dpid, stage[step.dpid]


def _is_lost(resolved: ResolvedWorld, resolved_session: ResolvedSession, maker: Dpid) -> bool:
    """Whether settings or missing routes keep a copy that a bridge makes from every sensor."""
    view = BridgeView(maker, resolved)
    return leads_nowhere(view, resolved_session)


def _is_skipped(trace: Trace, number: int) -> bool:
    """Whether the copy of a session is left out because it does not fit its path."""
    steps = [step.flow for step in trace.steps if step.flow.table == CUT.number]
    return any(
        flow.owner == number and all(isinstance(action, Metered) for action in flow.actions)
        for flow in steps
    )


def _why_not(question: _Question, resolved_session: ResolvedSession) -> tuple[str, Rule | None]:
    session, sender, receivers = resolved_session.session, question.sender, question.receivers
    if not session.enabled:
        return "not copied: the session is switched off", None
    if resolved_session.refused is not None:
        return f"not copied: {resolved_session.refused}", None
    if not resolved_session.is_delivered:
        return f"not copied: {'; '.join(resolved_session.missing)}", None
    sends = session.direction.is_egress and is_watched(session, sender)
    receives = session.direction.is_ingress and any(is_watched(session, p) for p in receivers)
    if not sends and not receives:
        return f"not copied: {_unwatched(session, sender, receivers, question.fields)}", None
    if others := _taken_by(question, session):
        return f"not copied: {others}", None
    direction = Direction.EGRESS if sends else Direction.INGRESS
    rule = _rule(question.resolved, session, direction, question.fields)
    what = "what it sends" if sends else "what it receives"
    if rule is None:
        return f"not copied: no rule of its filter for {what} matches", None
    return f"not copied: rule {rule.number} of its filter for {what} rejects it", rule


def _taken_by(question: _Question, session: Session) -> str:
    """The sessions that take the packet before an exclusive session; empty: none."""
    world = question.resolved.world
    names = {other.id: other.name for other in world.sessions}
    found: dict[str, str] = {}
    for port, direction in question.port_directions:
        if wants(session, port, direction, question.fields, world):
            taker = question.taken.get((port.id, direction))
            if session.mode is Mode.EXCLUSIVE and taker not in (None, session.id):
                does = "sends" if direction is Direction.EGRESS else "receives"
                found.setdefault(names[taker], f"what {port.name} {does}")
    return " and ".join(f"exclusive session {name!r} takes {what}" for name, what in found.items())


def _unwatched(session: Session, sender: Port, receivers: tuple[Port, ...], fields: Fields) -> str:
    if is_watched(session, sender):
        return f"it watches {sender.name}, but only what it receives"
    if any(is_watched(session, port) for port in receivers):
        return "it watches a port that receives the packet, but only what that port sends"
    if not may_send(sender, fields):
        return f"anti-spoofing drops it, so nobody receives it, and {sender.name} is not watched"
    return "it watches neither the sender nor anybody who receives the packet"


def _rule(
    resolved: ResolvedWorld, session: Session, direction: Direction, fields: Fields
) -> Rule | None:
    """The first matching rule of the session's filter; None when it has none."""
    if session.filter == ALL:
        return None
    wanted = resolved.world.filter_by_id[session.filter]
    rules = wanted.egress if direction is Direction.EGRESS else wanted.ingress
    return first_match(rules, fields)
