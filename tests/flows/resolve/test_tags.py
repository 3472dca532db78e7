"""Tags of copies: by what each receiving place gets, from all its collectors."""

from __future__ import annotations

from dataclasses import replace

from netaddr import IPAddress

from flows.model import (
    Collector,
    CollectorId,
    Delivery,
    NetworkId,
    SessionId,
    TagMode,
    TenantName,
    World,
    transport_key,
)
from flows.resolve import ResolvedSession
from flows.resolve.tags import CopyTags
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world

LAN, DMZ = NetworkId("red-lan"), NetworkId("red-dmz")
WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S2, 1), 0x020000000002)
OTHER = vm("other", at(S1, 2), 0x020000000003, network="red-dmz")
IDS, SOC = tap("ids", at(S1, 9)), tap("soc", at(S1, 8))
ON_LAN, ON_DMZ = watch("a", "web", to="ids"), watch("b", "other", to="ids")
ELSEWHERE = watch("c", "web", to="soc")
PLAIN = world(WEB, DB, OTHER, IDS, SOC, cable(at(S1, 21), at(S2, 22)), ON_LAN, ON_DMZ, ELSEWHERE)
HERE = replace(
    PLAIN, collectors=tuple(replace(c, tenant_tag=TagMode.AUTO) for c in PLAIN.collectors)
)


def with_collectors(*collectors: Collector) -> World:
    return replace(HERE, collectors=collectors)


def test_copies_wear_the_tag_of_their_network_once_a_place_gets_those_of_two() -> None:
    tags = CopyTags(HERE)
    tags.add(ON_LAN, frozenset({LAN}))
    assert tags.tag_of_copy(ON_LAN, LAN) is None
    assert not tags.wears_tags(ON_LAN)
    assert tags.shared_places() == set()

    tags.add(ON_DMZ, frozenset({DMZ}))

    assert tags.tag_of_copy(ON_LAN, LAN) == HERE.numbers.tag["network:red-lan"]
    assert tags.tag_of_copy(ON_DMZ, DMZ) == HERE.numbers.tag["network:red-dmz"]
    assert tags.wears_tags(ON_LAN)
    assert tags.shared_places() == {"ids"}
    assert tags.sessions_at({"ids"}) == {"a", "b"}
    assert not tags.wears_tags(ELSEWHERE), "its place gets one network only"


def test_the_tag_goes_with_the_last_session_of_the_second_network() -> None:
    tags = CopyTags(HERE)
    more = watch("d", "other", to="ids")
    for session, network in ((ON_LAN, LAN), (ON_DMZ, DMZ), (more, DMZ)):
        tags.add(session, frozenset({network}))
    tags.remove(ON_DMZ.id)
    assert tags.wears_tags(ON_LAN)
    tags.remove(more.id)
    assert not tags.wears_tags(ON_LAN)
    tags.remove(SessionId("never-added"))


def test_collectors_that_send_to_one_address_share_a_place() -> None:
    address = IPAddress("192.0.2.9")
    vxlan, gre = (
        Collector(
            CollectorId(to),
            to,
            TenantName("red"),
            (address,),
            delivery=delivery,
            tenant_tag=TagMode.AUTO,
            key=7,
        )
        for to, delivery in (("ids", Delivery.VXLAN), ("soc", Delivery.GRE))
    )
    tags = CopyTags(with_collectors(vxlan, gre))
    tags.add(ON_DMZ, frozenset({DMZ}))
    tags.add(ELSEWHERE, frozenset({LAN}))
    assert tags.shared_places() == {f"at {address}"}
    assert tags.wears_tags(ON_DMZ) and tags.wears_tags(ELSEWHERE)


def test_a_collector_may_name_its_tag_or_want_none() -> None:
    ids, soc = HERE.collectors
    tags = CopyTags(
        with_collectors(replace(ids, tenant_tag=77), replace(soc, tenant_tag=TagMode.NONE))
    )
    for session in (ON_LAN, ELSEWHERE):
        tags.add(session, frozenset({LAN, DMZ}))
    assert (tags.tag_of_copy(ON_LAN, LAN), tags.wears_tags(ON_LAN)) == (77, True)
    assert (tags.tag_of_copy(ELSEWHERE, LAN), tags.wears_tags(ELSEWHERE)) == (None, False)


def test_tags_that_follow_others_leave_those_as_they_are() -> None:
    first = CopyTags(HERE)
    first.add(ON_LAN, frozenset({LAN}))
    second = CopyTags(HERE, first)
    second.add(ON_DMZ, frozenset({DMZ}))
    second.add(ELSEWHERE, frozenset({LAN}))
    assert second.shared_places() == {"ids"}
    assert first.shared_places() == set()
    second.remove(ON_LAN.id)
    assert second.find_networks(ON_LAN.id) is None
    assert first.find_networks(ON_LAN.id) == frozenset({LAN})


def test_link_tags_that_copies_need_and_that_have_no_number_are_named() -> None:
    def missing(session: ResolvedSession, *left: str) -> tuple[str, ...]:
        numbers = replace(
            HERE.numbers, tag={key: n for key, n in HERE.numbers.tag.items() if key in left}
        )
        tags = CopyTags(replace(HERE, numbers=numbers))
        tags.add(session.session, frozenset({LAN, DMZ} if session.session is ON_DMZ else {LAN}))
        return tags.missing_link_tags(session, HERE.placements)

    ids = HERE.collectors[0]
    near = ResolvedSession(ON_LAN, (WEB.port,), (IDS.port,), ids)
    far = ResolvedSession(ON_LAN, (WEB.port, DB.port), (IDS.port,), ids)
    carried = transport_key(IDS.port.id, None)
    assert missing(near) == ()
    assert missing(far) == (carried,)
    assert missing(far, carried) == ()
    tagged = ResolvedSession(ON_DMZ, (WEB.port, OTHER.port), (IDS.port,), ids)
    assert missing(tagged) == ("network:red-dmz", "network:red-lan")
    assert missing(tagged, "network:red-lan") == ("network:red-dmz",)
