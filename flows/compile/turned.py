"""How no packet goes without its copy while the rules of a filter change on linked bridges.

The receiver's bridge leaves a packet to the sender's bridge if egress rules accept it. While some
bridges have the old rules and others the new ones, each asks both, and leaves none to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from flows.compile.filter import filter_key, filter_rules
from flows.compile.select import (
    ACCEPTED,
    OF_EGRESS,
    OF_INGRESS,
    TO_FILTER,
    leaves_to_others,
    sender_of_copied,
)
from flows.model import EDITIONS, Direction, Filter
from flows.openflow import Action, Flow, Load, Resubmit
from flows.pipeline import ACCEPT, DECIDE, FILTER_ID, UNSENT, VERDICT
from flows.resolve import BridgeView, ResolvedSession

RULES_MEANWHILE = 1000
"""The most flows of old rules that a bridge gets once more until others have the new ones."""


@dataclass(frozen=True, slots=True)
class TurnedFilter:
    """A filter whose rules change: what stands for the old and the new ones in FILTER_ID.

    ``rules`` are the old ones once more, if the new ones come in their places; None: they are too
    many for that.
    """

    before: int
    after: int
    rules: tuple[Flow, ...] | None = ()


def turned_filter(number: int, before: Filter, after: Filter) -> TurnedFilter:
    """A filter with other rules than before.

    If the new ones come in their places, the old ones get those of an edition far from both.
    """
    key = filter_key(number, after)
    if before.edition != after.edition:
        return TurnedFilter(filter_key(number, before), key)
    spare = replace(before, edition=(after.edition + EDITIONS // 2) % EDITIONS)
    rules = tuple(islice(filter_rules(number, spare), RULES_MEANWHILE + 1))
    many = len(rules) > RULES_MEANWHILE
    return TurnedFilter(filter_key(number, spare), key, None if many else rules)


def is_turned(view: BridgeView, resolved_session: ResolvedSession) -> bool:
    """Whether bridges leave packets of a session to each other by the rules of its filter."""
    if resolved_session.is_exclusive or resolved_session.is_plain or not view.link_ports:
        return False
    if resolved_session.session.direction is not Direction.BOTH:
        return False
    places = {view.world.placements[port.id].dpid for port in resolved_session.watched}
    return any(dpid != view.dpid and view.resolved.is_joined(view.dpid, dpid) for dpid in places)


def asks_both(view: BridgeView, flows: Iterable[Flow], turned: TurnedFilter) -> Iterator[Flow]:
    """What stands in for flows of a session while bridges ask the old rules or the new ones.

    What either accepts is copied, and nothing is left to another bridge.
    """
    ports = view.world.ports_by_dpid.get(view.dpid, ())
    here = {view.number(port.id) for port in ports}
    either: tuple[Action, ...] = (Load(VERDICT, 0), Load(FILTER_ID, turned.after), TO_FILTER)
    if turned.rules is not None:
        either = (*either, Load(FILTER_ID, turned.before), TO_FILTER)
    yield from turned.rules or ()
    for flow in flows:
        if flow.table == ACCEPT.number:
            yield flow.replace(actions=(*either, Resubmit(DECIDE.number)))
        elif leaves_to_others(flow) and flow.actions:
            if sender_of_copied(flow) in here:
                back = (OF_INGRESS, Resubmit(UNSENT.number))
                yield flow.replace(actions=(OF_EGRESS, *either, *back))
            else:
                yield flow.replace(actions=ACCEPTED.actions)
