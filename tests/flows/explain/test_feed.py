"""What the sensors of a collector receive: networks with their tags, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from flows.explain import Feed, feed_of
from flows.model import (
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Filter,
    FilterId,
    Mode,
    PortId,
    Rate,
    RateUnit,
    Session,
    TagMode,
    TenantName,
    World,
)
from flows.resolve import ResolvedWorld
from flows.semantics.tags import tag_of_copy
from tests.flows.hand_made import S1, at, tap, vm, watch, world

WEB = vm("web", at(S1, 1), 0x020000000001, ips=("10.0.0.1",))
DB = vm("db", at(S1, 2), 0x020000000002, ips=("10.0.0.2", "fd00::2"))
OTHER = vm("other", None, 0x020000000001, network="red-dmz", ips=("10.0.0.1",))
BLUE = vm("blue", at(S1, 4), 0x020000000001, network="blue-lan", ips=("10.9.9.9",))
IDS = tap("ids", at(S1, 9))
AUTO = Collector(
    CollectorId("ids"), "ids", TenantName("red"), (PortId("ids"),), tenant_tag=TagMode.AUTO
)


def feed(of: World, collector: str = "ids") -> Feed:
    found = feed_of(ResolvedWorld(of), CollectorId(collector))
    assert found is not None
    return found


def tagged(*things: Session | Filter, collectors: tuple[Collector, ...] = (AUTO,)) -> World:
    return replace(world(WEB, DB, OTHER, BLUE, IDS, *things), collectors=collectors)


def received_of(of: World) -> list[tuple[str, int | None, tuple[str, ...]]]:
    return [(r.network.name, r.tag, r.sessions) for r in feed(of).networks]


def test_networks_are_listed_with_their_tags_and_unwatched_ones_too() -> None:
    one = tagged(watch("s", "web", to="ids"))
    tags = one.numbers.tag
    assert received_of(one) == [("lan", None, ("s",)), ("dmz", tags["network:red-dmz"], ())]

    both = tagged(watch("s", "web", "other", to="ids"), watch("t", "db", to="ids"))
    assert received_of(both) == [
        ("lan", tags["network:red-lan"], ("s", "t")),
        ("dmz", tags["network:red-dmz"], ("s",)),
    ]
    assert [r.network.name for r in feed(both).tags] == ["lan", "dmz"]


def test_one_tag_for_all_tells_no_networks_apart() -> None:
    fixed = replace(AUTO, tenant_tag=7)
    found = feed(tagged(watch("s", "web", "other", to="ids"), collectors=(fixed,)))
    assert {r.tag for r in found.networks} == {7}
    assert found.tags == ()


def test_addresses_are_those_of_the_watched_networks_only() -> None:
    found = feed(tagged(watch("s", "web", to="ids")))
    assert found.addresses == (IPAddress("10.0.0.1"), IPAddress("10.0.0.2"), IPAddress("fd00::2"))
    assert feed(tagged()).addresses == found.addresses
    nameless = replace(world(WEB, vm("x", at(S1, 3), 9), IDS, watch("s", "web", to="ids")))
    assert feed(nameless).unknown == ("x",)


def test_sessions_that_are_off_or_refused_do_not_count() -> None:
    off = watch("off", "web", to="ids", enabled=False)
    refused = watch("refused", "blue", to="ids")
    assert all(not sessions for _, _, sessions in received_of(tagged(off, refused)))


def test_what_sessions_leave_out_of_the_copies_is_listed() -> None:
    web = Filter(FilterId("f"), "web", TenantName("red"))
    found = feed(
        tagged(
            web,
            watch("few", "web", to="ids", wanted=web),
            replace(watch("first", "web", to="ids"), mode=Mode.EXCLUSIVE),
            replace(watch("head", "web", to="ids"), packet_length=128),
            watch("half", "web", to="ids", direction=Direction.EGRESS),
            replace(watch("some", "web", to="ids"), max_rate=Rate(RateUnit.PPS, 100)),
        )
    )
    assert (found.cut, found.one_way, found.capped) == ((("head", 128),), ("half",), ("some",))
    assert (found.filtered, found.exclusive) == ((("few", "web"),), ("first",))
    assert found.longest is None


def test_the_feed_of_a_sensor_has_the_networks_of_all_its_collectors() -> None:
    second = replace(AUTO, id=CollectorId("soc"), name="soc")
    of = tagged(
        watch("s", "web", to="ids"), watch("t", "other", to="soc"), collectors=(AUTO, second)
    )
    assert {name for name, _, _ in received_of(of)} == {"lan", "dmz"}
    assert feed(of).shared == ("soc",)
    assert all(sessions for _, _, sessions in received_of(of))


@pytest.mark.parametrize("others", [(), (replace(watch("t", "other", to="soc"), enabled=False),)])
def test_a_collector_without_sessions_sends_the_sensor_nothing(others: tuple[Session, ...]) -> None:
    second = replace(AUTO, id=CollectorId("soc"), name="soc")
    of = tagged(watch("s", "web", to="ids"), *others, collectors=(AUTO, second))
    assert feed(of).shared == ()


def test_a_tunnel_says_how_much_fits_its_path() -> None:
    remote = replace(
        AUTO, sensors=(IPAddress("192.0.2.9"),), delivery=Delivery.VXLAN, key=7, path_mtu=1400
    )
    found = feed(tagged(watch("s", "web", to="ids"), collectors=(remote,)))
    assert found.sensors == ("192.0.2.9",)
    assert found.longest == 1400 - 36


def far(name: str, tenant: str, key: int, delivery: Delivery = Delivery.VXLAN) -> Collector:
    """A collector of a tenant at one address that all of them use."""
    there = (IPAddress("192.0.2.9"),)
    return Collector(
        CollectorId(name), name, TenantName(tenant), there, TagMode.AUTO, delivery, key
    )


@pytest.mark.parametrize("delivery", [Delivery.VXLAN, Delivery.GRE])
def test_networks_that_reach_one_address_by_different_tunnels_are_told_apart(
    delivery: Delivery,
) -> None:
    both = (far("soc", "red", 7), far("soc-2", "red", 8, delivery))
    lan, dmz = watch("s", "web", to="soc"), watch("t", "other", to="soc-2")
    of = tagged(lan, dmz, collectors=both)
    found = feed(of, "soc")
    assert [(r.network.name, r.tag) for r in found.networks] == [
        ("lan", of.numbers.tag["network:red-lan"]), ("dmz", of.numbers.tag["network:red-dmz"]),
    ]  # fmt: skip
    assert (found.shared, found.has_strangers) == (("soc-2",), False)
    alone = feed(tagged(lan, replace(dmz, enabled=False), collectors=both), "soc")
    assert [(r.network.name, r.tag) for r in alone.networks if r.sessions] == [("lan", None)]


def test_two_tenants_at_one_address_get_tags_and_see_nothing_of_each_other() -> None:
    both = (far("soc", "red", 7), far("noc", "blue", 8))
    of = tagged(
        watch("s", "web", to="soc"), watch("t", "blue", to="noc", tenant="blue"), collectors=both
    )
    for name, network in (("soc", "red-lan"), ("noc", "blue-lan")):
        found = feed(of, name)
        assert [r.tag for r in found.networks if r.sessions] == [
            of.numbers.tag[f"network:{network}"]
        ]
        assert {r.network.tenant for r in found.networks} == {network.split("-")[0]}
        assert (found.shared, found.has_strangers) == ((), True)
    assert IPAddress("10.9.9.9") not in feed(of, "soc").addresses
    for session in of.sessions:
        for network in of.networks:
            assert ResolvedWorld(of).tag_of_copy(session, network.id) == tag_of_copy(
                session, network.id, of
            )


def test_a_collector_that_is_gone_has_no_feed() -> None:
    assert feed_of(ResolvedWorld(tagged()), CollectorId("gone")) is None
