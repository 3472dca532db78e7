"""The copy itself: to a tap port of this bridge, or over the links to the bridge that has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.compile.site import Site
from flows.compile.survey import Standing
from flows.field import IN_PORT, VLAN_PRESENT, VLAN_VID
from flows.flow import (
    PRODUCTION,
    Action,
    Clone,
    Flow,
    ForgetInPort,
    Load,
    Match,
    Output,
    PopVlan,
    PushVlan,
    SetVlan,
)
from flows.model import NetworkId, Ofport, Port
from flows.pipeline import DELIVER, NETWORK, SESSION, START


def delivery_frame() -> Flow:
    """What is there whatever sessions there are."""
    why = "no such session any more"
    return Flow(DELIVER.number, DELIVER["nothing"], Match(), (), PRODUCTION, why)


def deliver(site: Site, standing: Standing) -> Iterator[Flow]:
    """The copy of one session that this bridge serves; the counters of its flows count copies.

    A session that watches networks with tags of their own has one flow for each network.
    """
    number = site.world.numbers.session[standing.session.id]
    tap, tags = _tap(standing), tags_of(site, standing)
    why = f"copy of session {standing.session.name} for tap port {tap.id}"
    same = len(set(tags.values())) == 1
    for network, tag in list(tags.items())[: 1 if same else None]:
        terms = [SESSION.eq(number)]
        if not same:
            terms.append(NETWORK.eq(site.world.numbers.network[network]))
        priority = DELIVER["session" if same else "network"]
        actions = tuple(_copy(site, standing, tag))
        yield Flow(DELIVER.number, priority, Match.of(*terms), actions, number, why)


def transport(site: Site, tap: Port, tag: int | None) -> Iterator[Flow]:
    """Take copies that come over a link to the tap port, or to the link that leads there."""
    link_tag, way = site.link_tag_of_copies(tap, tag), site.way(tap)
    if link_tag is not None and way is not None:
        for link in site.link_ports:
            if link != way:
                yield _carry(site, tap, tag, link_tag, link)


def tags_of(site: Site, standing: Standing) -> Mapping[NetworkId, int | None]:
    """The tag that copies of a session wear, for each network that it watches."""
    networks = {port.network for port in standing.watched if port.network is not None}
    return {n: site.survey.tag_of_copy(standing.session, n) for n in sorted(networks)}


def _tap(standing: Standing) -> Port:
    assert standing.tap is not None, "a served session has a tap port"
    return standing.tap


def _copy(site: Site, standing: Standing, tag: int | None) -> Iterator[Action]:
    """Output to the tap port here, or to the link towards it; cut if the session asks for it."""
    tap = _tap(standing)
    way, length = site.ofport(tap), standing.session.packet_length or 0
    before: tuple[Action, ...] = ()
    if site.is_here(tap):
        before = () if tag is None else (PushVlan(), SetVlan(tag))
    else:
        link_tag = site.link_tag_of_copies(tap, tag)
        if link_tag is None:
            return
        # a packet that came over this very link is copied back over it
        before = (PushVlan(), SetVlan(link_tag), ForgetInPort())
    if not before and not length:
        yield Output(way)
        return
    yield Clone((*before, Output(way, length)))
    if length:
        # Open vSwitch cuts before it makes pending changes of tags, so their bytes would count.
        # A clone that cuts and is not the last action is done in earnest, on a finished packet.
        yield Load(SESSION, 0)


def _carry(site: Site, tap: Port, tag: int | None, link_tag: int, link: Ofport) -> Flow:
    match = Match.of(IN_PORT.eq(link), VLAN_VID.eq(VLAN_PRESENT | link_tag))
    last: tuple[Action, ...] = ()
    if site.is_here(tap):
        last = (PopVlan(),) if tag is None else (SetVlan(tag),)
    why = f"copies for tap port {tap.id} from another bridge"
    actions = (*last, Output(site.ofport(tap)))
    return Flow(START.number, START["transport"], match, actions, PRODUCTION, why)
