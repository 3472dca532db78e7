"""What the sensors of a collector get: networks with their tags, and what is missing of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from flows.compile import Survey
from flows.explain.feed import Feed, feed_of
from flows.model.filter import Filter
from flows.model.session import (
    Collector,
    CollectorId,
    Delivery,
    Direction,
    FilterId,
    Mode,
    PortId,
    Rate,
    RateUnit,
    Session,
    TagMode,
    TenantName,
)
from flows.semantics.tags import tag_of_copy
from flows.model.world import World
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
    found = feed_of(Survey(of), CollectorId(collector))
    assert found is not None
    return found


def tagged(*things: Session | Filter, collectors: tuple[Collector, ...] = (AUTO,)) -> World:
    return replace(world(WEB, DB, OTHER, BLUE, IDS, *things), collectors=collectors)


def heard(of: World) -> list[tuple[str, int | None, tuple[str, ...]]]:
    return [(h.network.name, h.tag, h.sessions) for h in feed(of).heard]


def test_networks_are_told_with_their_tags_and_those_that_may_come_as_well() -> None:
    one = tagged(watch("s", "web", to="ids"))
    tags = one.numbers.tag
    assert heard(one) == [("lan", None, ("s",)), ("dmz", tags["network:red-dmz"], ())]

    both = tagged(watch("s", "web", "other", to="ids"), watch("t", "db", to="ids"))
    assert heard(both) == [
        ("lan", tags["network:red-lan"], ("s", "t")),
        ("dmz", tags["network:red-dmz"], ("s",)),
    ]
    assert [h.network.name for h in feed(both).tags] == ["lan", "dmz"]


def test_one_tag_for_all_tells_no_networks_apart() -> None:
    fixed = replace(AUTO, tenant_tag=7)
    found = feed(tagged(watch("s", "web", "other", to="ids"), collectors=(fixed,)))
    assert {h.tag for h in found.heard} == {7}
    assert found.tags == ()


def test_home_is_where_the_watched_networks_are_and_nobody_elses() -> None:
    found = feed(tagged(watch("s", "web", to="ids")))
    assert found.addresses == (IPAddress("10.0.0.1"), IPAddress("10.0.0.2"), IPAddress("fd00::2"))
    assert feed(tagged()).addresses == found.addresses
    nameless = replace(world(WEB, vm("x", at(S1, 3), 9), IDS, watch("s", "web", to="ids")))
    assert feed(nameless).unknown == ("x",)


def test_sessions_that_are_off_or_refused_do_not_count() -> None:
    off = watch("off", "web", to="ids", enabled=False)
    refused = watch("refused", "blue", to="ids")
    assert all(not sessions for _, _, sessions in heard(tagged(off, refused)))


def test_what_will_be_missing_in_the_copies_is_told() -> None:
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


def test_collectors_of_the_same_sensor_are_heard_together() -> None:
    second = replace(AUTO, id=CollectorId("soc"), name="soc")
    of = tagged(
        watch("s", "web", to="ids"), watch("t", "other", to="soc"), collectors=(AUTO, second)
    )
    assert {name for name, _, _ in heard(of)} == {"lan", "dmz"}
    assert feed(of).shared == ("soc",)
    assert all(sessions for _, _, sessions in heard(of))


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
    assert [(h.network.name, h.tag) for h in found.heard] == [
        ("lan", of.numbers.tag["network:red-lan"]), ("dmz", of.numbers.tag["network:red-dmz"]),
    ]  # fmt: skip
    assert (found.shared, found.has_strangers) == (("soc-2",), False)
    alone = feed(tagged(lan, replace(dmz, enabled=False), collectors=both), "soc")
    assert [(h.network.name, h.tag) for h in alone.heard if h.sessions] == [("lan", None)]


def test_two_tenants_at_one_address_wear_tags_and_are_told_nothing_of_each_other() -> None:
    both = (far("soc", "red", 7), far("noc", "blue", 8))
    of = tagged(
        watch("s", "web", to="soc"), watch("t", "blue", to="noc", tenant="blue"), collectors=both
    )
    for name, network in (("soc", "red-lan"), ("noc", "blue-lan")):
        found = feed(of, name)
        assert [h.tag for h in found.heard if h.sessions] == [of.numbers.tag[f"network:{network}"]]
        assert {h.network.tenant for h in found.heard} == {network.split("-")[0]}
        assert (found.shared, found.has_strangers) == ((), True)
    assert IPAddress("10.9.9.9") not in feed(of, "soc").addresses
    for session in of.sessions:
        for network in of.networks:
            assert Survey(of).tag_of_copy(session, network.id) == tag_of_copy(
                session, network.id, of
            )


def test_a_collector_that_is_gone_has_no_feed() -> None:
    assert feed_of(Survey(tagged()), CollectorId("gone")) is None
