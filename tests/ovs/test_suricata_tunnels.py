"""Copies in every kind of tunnel, from a real bridge: Suricata and `verify` decapsulate them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from netaddr import IPAddress

from controller.cli.sniffer import Sniffer
from controller.sensors import configure
from controller.southbound.openflow import open_management
from flows.beacon import Beacon, BeaconPath
from flows.compile import Program, copy_paths
from flows.explain import feed_of
from flows.model import (
    TUNNEL_KEYS,
    Collector,
    CollectorId,
    Delivery,
    Dpid,
    Ofport,
    TagMode,
    TenantName,
    TunnelKind,
    World,
)
from flows.plan import plan
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import at, vm, watch, world
from tests.ovs.endpoint import Endpoint
from tests.ovs.http_connection import HttpConnection
from tests.ovs.lab import Lab
from tests.ovs.suricata import Event, Suricata
from tests.ovs.underlay import Underlay
from tests.ovs.waiting import wait_for

HERE = Dpid(0x51)
KEY = 77
SENSOR = "192.0.2.9"
SEEN = [delivery for delivery in TUNNEL_KEYS if delivery is not Delivery.ERSPAN3]
NAMES = ("body", "body", "uri", "uri")


def to_sensor(
    name: str, tenant: str, key: int, delivery: Delivery = Delivery.VXLAN,
    tag: TagMode = TagMode.AUTO,
) -> Collector:  # fmt: skip
    """A collector of a tenant with the remote sensor."""
    there = (IPAddress(SENSOR),)
    return Collector(CollectorId(name), name, TenantName(tenant), there, tag, delivery, key)


@dataclass
class Host:
    """One bridge with two networks of one tenant that have equal addresses."""

    lab: Lab
    underlay: Underlay
    ends: list[Endpoint]
    tunnels: dict[tuple[Dpid, TunnelKind], Ofport]

    def deliver(self, delivery: Delivery) -> World:
        """Install one session that delivers copies of both networks to the sensor."""
        collector = to_sensor("ids", "red", KEY, delivery)
        built = world(
            vm("web", at(HERE, 1), 0x020000000001, ips=("10.0.0.1",)),
            vm("db", at(HERE, 2), 0x020000000002, ips=("10.0.0.2",)),
            vm("web-2", at(HERE, 3), 0x020000000001, network="red-dmz", ips=("10.0.0.1",)),
            vm("db-2", at(HERE, 4), 0x020000000002, network="red-dmz", ips=("10.0.0.2",)),
            watch("s", "web", "web-2", to="ids"),
        )
        return self.install(replace(built, collectors=(collector,)))

    def deliver_of_tenants(self, tag: TagMode) -> World:
        """Install sessions of two tenants that deliver to the sensor, each with its own key."""
        built = world(
            vm("web", at(HERE, 1), 0x020000000001, ips=("10.0.0.1",)),
            vm("db", at(HERE, 2), 0x020000000002, ips=("10.0.0.2",)),
            vm("web-2", at(HERE, 3), 0x020000000001, network="blue-lan", ips=("10.0.0.1",)),
            vm("db-2", at(HERE, 4), 0x020000000002, network="blue-lan", ips=("10.0.0.2",)),
            watch("s", "web", to="ids"),
            watch("t", "web-2", to="noc", tenant="blue"),
        )
        both = to_sensor("ids", "red", 7001, tag=tag), to_sensor("noc", "blue", 7002, tag=tag)
        return self.install(replace(built, collectors=both))

    def install(self, built: World) -> World:
        """Install a world on the bridge, with the tunnel ports that exist."""
        built = replace(built, tunnels=self.tunnels, underlay_mtu=1600)
        flows = Program(HERE).update(ResolvedWorld(built)).put
        with open_management("s1") as switch:
            assert switch.apply(plan(flows, switch.our_flows())) == ()
        self.lab.wait_settled()
        return built

    def interleaved(self, port: int = 40000) -> None:
        """The same exchange in both networks concurrently."""
        web, db, web_2, db_2 = self.ends
        pair = HttpConnection(web, db, port), HttpConnection(web_2, db_2, port)
        for step in ("open", "get", "close"):
            for conversation in pair:
                getattr(conversation, step)()


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    lab.add_bridge("s1", dpid=HERE)
    ends = lab.add_ports("s1", [1, 2, 3, 4])
    underlay = Underlay(lab, mtu=1600)
    found = underlay.add_tunnels("s1", HERE)
    tunnels = {at: Ofport(ofport) for at, ofport in found.items()}
    lab.install_markers()
    yield Host(lab, underlay, ends, tunnels)


def text_for(built: World) -> str:
    """The configuration that cloudtap generates for the Suricata behind the underlay."""
    feed = feed_of(ResolvedWorld(built), CollectorId("ids"))
    assert feed is not None
    return configure("suricata", feed, "under-far1").text


@pytest.mark.parametrize("delivery", SEEN)
def test_networks_with_equal_addresses_are_told_apart_inside_a_tunnel(
    host: Host, tmp_path: Path, delivery: Delivery
) -> None:
    built = host.deliver(delivery)
    tags = built.numbers.tag
    with Suricata(tmp_path / "ids", text_for(built)) as ids:
        host.interleaved()
        alerts = ids.wait_for_alerts(lambda names: tuple(names) == NAMES)
    seen = sorted((alert["alert"]["signature"], alert["vlan"]) for alert in alerts)
    both = [tags["network:red-lan"], tags["network:red-dmz"]]
    assert seen == sorted((name, [tag]) for name in ("body", "uri") for tag in both)
    assert {alert["tunnel"]["dest_ip"] for alert in alerts} == {SENSOR}


def test_tenants_with_equal_addresses_are_told_apart_at_one_address(
    host: Host, tmp_path: Path
) -> None:
    """Suricata ignores the keys of the tunnels, so the copies have tags."""
    built = host.deliver_of_tenants(TagMode.AUTO)
    tags = built.numbers.tag
    with Suricata(tmp_path / "ids", text_for(built)) as ids:
        host.interleaved()
        alerts = ids.wait_for_alerts(lambda names: tuple(names) == NAMES)
    seen = sorted((alert["alert"]["signature"], alert["vlan"]) for alert in alerts)
    both = [tags["network:red-lan"], tags["network:blue-lan"]]
    assert seen == sorted((name, [tag]) for name in ("body", "uri") for tag in both)


def test_without_tags_one_of_two_tenants_at_one_address_is_not_seen(
    host: Host, tmp_path: Path
) -> None:
    built = host.deliver_of_tenants(TagMode.NONE)
    with Suricata(tmp_path / "ids", text_for(built)) as ids:
        host.interleaved()
        HttpConnection(*host.ends[:2], 42000).exchange_all()
        ids.wait_for_alerts(lambda _: len([a for _, a in ids.alerts() if 42000 in ends_of(a)]) == 2)
        before = [name for name, alert in ids.alerts() if 40000 in ends_of(alert)]
    assert len(before) < len(NAMES)


def ends_of(alert: Event) -> tuple[int, int]:
    """The ports of the connection of an alert."""
    return alert["src_port"], alert["dest_port"]


def test_suricata_is_blind_to_erspan_3_and_the_configuration_says_so(
    host: Host, tmp_path: Path
) -> None:
    built = host.deliver(Delivery.ERSPAN3)
    text = text_for(built)
    assert "# WARNING: Suricata 7 does not decode ERSPAN III" in text
    with Suricata(tmp_path / "ids", text) as ids:
        host.interleaved()
        host.deliver(Delivery.ERSPAN2)
        host.interleaved(port=41000)
        ids.wait_for_alerts(lambda names: tuple(names) == NAMES)
        ports = {(a["src_port"], a["dest_port"]) for _, a in ids.alerts()}
    assert ports == {(41000, 80), (80, 41000)}


@pytest.mark.parametrize("delivery", TUNNEL_KEYS)
def test_a_listener_finds_every_beacon_inside_a_tunnel(host: Host, delivery: Delivery) -> None:
    resolved = ResolvedWorld(host.deliver(delivery))
    [resolved_session] = resolved.served
    run, count, length = 5, 50, 900
    ways = []
    with Sniffer("under-far1", None) as sniffer, open_management("s1") as switch:
        for number, way in enumerate(copy_paths(HERE, resolved, resolved_session)):
            frames = [
                Beacon(run, HERE, 0, number, n, count, length).frame() for n in range(1, count + 1)
            ]
            switch.send(frames, way.actions)
            ways.append(BeaconPath(HERE, 0, number, count, length, way.tag))
        wait_for(lambda: sniffer.arrivals.count(run), lambda seen: seen == count * len(ways))
        findings = sniffer.arrivals.findings(run, ways)
    assert len(findings) == 2
    assert [finding.faults for finding in findings] == [(), ()]
    words = {words for finding in findings for words in finding.tunnels}
    assert words == {f"{delivery.value} from 192.0.2.1 to {SENSOR}, key {KEY}"}
