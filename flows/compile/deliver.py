"""The copy itself: to a tap port of this bridge, or over the links to the bridge that has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.compile.survey import Site, Standing
from flows.field import IN_PORT, VLAN_PRESENT, VLAN_VID
from flows.flow import (
    PRODUCTION,
    Action,
    Clone,
    Flow,
    ForgetInPort,
    Match,
    Output,
    PopVlan,
    PushVlan,
    SetVlan,
)
from flows.model import Ofport, Port
from flows.pipeline import DELIVER, SESSION, START


def deliver(site: Site, served: Mapping[int, Standing]) -> Iterator[Flow]:
    """One flow for each session that this bridge makes copies for; its counter counts them."""
    yield Flow(
        DELIVER.number, DELIVER["nothing"], Match(), (), PRODUCTION, "no such session any more"
    )
    for number, standing in served.items():
        assert standing.tap is not None, "a served session has a tap port"
        why = f"copy of session {standing.session.name} for tap port {standing.tap.id}"
        match = Match.of(SESSION.eq(number))
        actions = _copy(site, standing.tap)
        yield Flow(DELIVER.number, DELIVER["session"], match, actions, number, why)


def transport(site: Site) -> Iterator[Flow]:
    """Take copies that come over a link to the tap port, or to the link that leads there."""
    taps = {s.tap.id: s.tap for s in site.survey.served if s.tap is not None}
    for tap in taps.values():
        tag, way = site.tag_towards(tap), site.way(tap)
        if tag is None or way is None:
            continue
        for link in site.link_ports:
            if link != way:
                yield _carry(site, tap, tag, way, link)


def _copy(site: Site, tap: Port) -> tuple[Action, ...]:
    way, tag = site.way(tap), site.tag_towards(tap)
    assert way is not None, "only sessions whose tap port can be reached are served"
    if site.is_here(tap):
        return (Output(way),)
    assert tag is not None, "a way over a link has a tag"
    # a packet that came over this very link is copied back over it
    return (Clone((PushVlan(), SetVlan(tag), ForgetInPort(), Output(way))),)


def _carry(site: Site, tap: Port, tag: int, way: Ofport, link: Ofport) -> Flow:
    match = Match.of(IN_PORT.eq(link), VLAN_VID.eq(VLAN_PRESENT | tag))
    actions = (PopVlan(), Output(way)) if site.is_here(tap) else (Output(way),)
    why = f"copies for tap port {tap.id} from another bridge"
    return Flow(START.number, START["transport"], match, actions, PRODUCTION, why)
