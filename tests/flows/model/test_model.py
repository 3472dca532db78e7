"""Values refuse what can never be right, each with a sentence that names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import EUI, IPAddress, IPNetwork

from flows.errors import InvalidValue
from flows.model import (
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Dpid,
    Filter,
    FilterId,
    Link,
    MacPattern,
    Network,
    NetworkId,
    Numbers,
    Ofport,
    Placement,
    Port,
    PortId,
    PortKind,
    PortRange,
    Rate,
    RateUnit,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    SourceKind,
    TcpFlags,
    TenantName,
    Verdict,
    World,
    check_name,
    parse_mac,
)

MAC = EUI("02:00:00:00:00:01", version=48)
RED = TenantName("red")
LAN = Network(NetworkId("red-lan"), "lan", RED)
WEB = Port(PortId("web"), "web", RED, LAN.id, mac=MAC)
TAP = Port(PortId("ids"), "ids", RED, None, PortKind.TAP)
IDS = Collector(CollectorId("ids"), "ids", RED, (TAP.id,))
FAR = IPAddress("192.0.2.9")
SOC = Collector(CollectorId("soc"), "soc", RED, (FAR,), delivery=Delivery.VXLAN, key=7001)
SESSION = Session(SessionId("s"), "s", RED, Source((WEB.id,)), IDS.id)


def test_a_mac_address_is_six_bytes_with_one_separator() -> None:
    assert parse_mac("02:00:00:00:00:01") == MAC
    assert parse_mac("02-00-00-00-00-01", separators=":-") == MAC
    for text in ("02-00-00-00-00-01", "0200.0000.0001", "02:00:00:00:01", "2:0:0:0:0:1", ""):
        assert parse_mac(text) is None
    assert parse_mac("02:00-00:00:00:01", separators=":-") is None


@pytest.mark.parametrize("name", ["a", "9", "A.b_c:d-e", "x" * 64])
def test_a_name_that_can_be_typed_is_taken(name: str) -> None:
    check_name("port", name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "x" * 65, None, 7])
def test_a_name_that_cannot_is_refused(name) -> None:
    with pytest.raises(InvalidValue, match="is not a name: use 1 to 64"):
        check_name("port", name)


def place(dpid: int, ofport: int) -> Placement:
    return Placement(Dpid(dpid), Ofport(ofport))


REFUSALS = [
    (lambda: replace(LAN, name="a b"), "network 'a b' is not a name"),
    (lambda: replace(LAN, tenant=TenantName("")), "tenant '' is not a name"),
    (lambda: replace(WEB, id=PortId("a b")), "port id 'a b' is not a name"),
    (lambda: replace(WEB, name=""), "port '' is not a name"),
    (lambda: replace(WEB, tenant=TenantName("a b")), "tenant 'a b' is not a name"),
    (lambda: replace(WEB, network=None), "port 'web' needs a network"),
    (lambda: replace(TAP, network=LAN.id), "tap port 'ids' may not be in a network"),
    (lambda: replace(WEB, mac=None), "port 'web' has no MAC address"),
    (lambda: replace(WEB, mac=EUI("01:00:5e:00:00:01")), "is a group address, not a MAC"),
    (lambda: replace(IDS, name="a b"), "collector 'a b' is not a name"),
    (lambda: replace(IDS, tenant=TenantName("a b")), "tenant 'a b' is not a name"),
    (lambda: replace(IDS, sensors=()), "collector 'ids' has 0 sensors"),
    (lambda: replace(IDS, sensors=tuple(map(str, range(65)))), "collector 'ids' has 65 sensors"),
    (lambda: replace(IDS, sensors=(TAP.id, TAP.id)), "names the same sensor twice"),
    (lambda: replace(IDS, sensors=(FAR,)), "of delivery 'port' is a tap port, which '192.0.2.9'"),
    (lambda: replace(IDS, key=7), "delivery to a tap port has no key"),
    (lambda: replace(IDS, path_mtu=1500), "a path MTU is 576..65535 bytes, and for tunnels only"),
    (lambda: replace(SOC, path_mtu=575), "a path MTU is 576..65535 bytes"),
    (lambda: replace(SOC, sensors=(TAP.id,)), "of delivery 'vxlan' is an address, which"),
    (lambda: replace(SOC, key=None), "a key of vxlan is 1..16777215, which None is not"),
    (lambda: replace(SOC, key=1 << 24), "a key of vxlan is 1..16777215, which 16777216 is not"),
    (
        lambda: replace(SOC, delivery=Delivery.ERSPAN2, key=1024),
        "a key of erspan2 is 1..1023, which 1024 is not",
    ),
    (lambda: Rate(RateUnit.KBPS, 0), "a rate of 0 kbps is outside 1..4294967295"),
    (lambda: replace(IDS, tenant_tag=0), "tenant tag 0 is outside 1..4094"),
    (lambda: replace(IDS, tenant_tag=4095), "tenant tag 4095 is outside"),
    (lambda: Source(()), "needs at least one source port"),
    (lambda: Source((WEB.id, WEB.id)), "names the same source port twice"),
    (lambda: Source((WEB.id,), SourceKind.TENANT), "a source of kind tenant takes no ports"),
    (lambda: Source(kind=SourceKind.NETWORK), "needs at least one source network"),
    (lambda: Source(kind=SourceKind.LABEL), "needs at least one source label"),
    (lambda: replace(SESSION, name="a b"), "session 'a b' is not a name"),
    (lambda: replace(SESSION, tenant=TenantName("a b")), "tenant 'a b' is not a name"),
    (lambda: replace(SESSION, number=0), r"session number 0 is outside 1\.\.32766"),
    (lambda: replace(SESSION, number=32767), "session number 32767 is outside"),
    (lambda: replace(SESSION, packet_length=63), r"packet length 63 is outside 64\.\.65535"),
    (lambda: place(-1, 1), "datapath id -1 is not a 64-bit number"),
    (lambda: place(1 << 64, 1), "is not a 64-bit number"),
    (lambda: place(1, 0), r"OpenFlow port number 0 is outside 1\.\.65278"),
    (lambda: place(1, 0xFF00), "OpenFlow port number 65280 is outside"),
    (lambda: Link(place(1, 1), place(1, 2)), "joins bridge 0000000000000001 to itself"),
    (lambda: PortRange(2, 1), "ports 2-1 are no range"),
    (lambda: PortRange(0, 65536), "are no range inside 0-65535"),
    (lambda: MacPattern(MAC, EUI(0, version=48)), "has bits outside its mask"),
    (lambda: MacPattern(MAC, EUI(1 << 40, version=48)), "has bits outside its mask"),
    (lambda: TcpFlags(0, 0), "do not fit 12 bits"),
    (lambda: TcpFlags(1, 2), "do not fit 12 bits"),
    (lambda: RuleMatch(eth_type=0x05FF), "EtherType 1535 is outside"),
    (lambda: RuleMatch(vlan=4096), r"VLAN id 4096 is outside 0\.\.4095"),
    (lambda: RuleMatch(protocol=256), "protocol 256 is outside"),
    (lambda: RuleMatch(arp_operation=256), "ARP operation 256 is outside"),
    (lambda: RuleMatch(source_port=(PortRange(1, 1),)), "ports need `protocol`"),
    (lambda: RuleMatch(protocol=1, destination_port=(PortRange(1, 1),)), "ports need `protocol`"),
    (lambda: RuleMatch(protocol=17, tcp_flags=TcpFlags(1, 1)), "TCP flags need `protocol: tcp`"),
    (lambda: RuleMatch(protocol=1, icmp_code=1), "an ICMP code needs an ICMP type"),
    (lambda: RuleMatch(protocol=6, icmp_type=1), "an ICMP type needs `protocol`"),
    (lambda: RuleMatch(protocol=1, icmp_type=256), "ICMP type 256 is outside"),
    (lambda: RuleMatch(protocol=1, icmp_type=1, icmp_code=256), "ICMP code 256 is outside"),
    (
        lambda: RuleMatch(source=IPNetwork("10.0.0.0/8"), destination=IPNetwork("fd00::/8")),
        "contradict each other",
    ),
    (lambda: RuleMatch(protocol=58, source=IPNetwork("10.0.0.0/8")), "contradict each other"),
    (lambda: RuleMatch(arp_operation=1, protocol=6, eth_type=0x0800), "contradict each other"),
    (lambda: Rule(0, Verdict.ACCEPT), r"rule number 0 is outside 1\.\.60000"),
    (lambda: Rule(60001, Verdict.REJECT), "rule number 60001 is outside"),
    (lambda: Filter(FilterId("f"), "a b", RED), "filter 'a b' is not a name"),
    (
        lambda: Filter(FilterId("f"), "f", RED, ingress=(Rule(2, Verdict.ACCEPT),) * 2),
        "its ingress rules are not in order",
    ),
    (
        lambda: Filter(
            FilterId("f"), "f", RED, egress=(Rule(2, Verdict.ACCEPT), Rule(1, Verdict.ACCEPT))
        ),
        "its egress rules are not in order",
    ),
    (lambda: World((LAN, LAN)), "network 'red-lan' is declared twice"),
    (lambda: World((LAN,), (WEB, replace(WEB, mac=None, anti_spoofing=False))), "declared twice"),
    (lambda: World((LAN,), (TAP,), (IDS, IDS)), "collector 'ids' is declared twice"),
    (lambda: World(sessions=(SESSION, SESSION)), "session 's' is declared twice"),
    (lambda: World((), (WEB,)), "port 'web' is in network 'red-lan', unknown"),
    (lambda: World((LAN,), (WEB, replace(WEB, id=PortId("db")))), "MAC address in its network"),
    (lambda: World(filters=(Filter(FilterId("f"), "f", RED),) * 2), "filter 'f' is declared twice"),
]


@pytest.mark.parametrize(("make", "words"), REFUSALS, ids=[words for _, words in REFUSALS])
def test_what_can_never_be_right_is_refused(make, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        make()


def test_what_two_tenants_may_share() -> None:
    blue = Network(NetworkId("blue-lan"), "lan", TenantName("blue"))
    twin = replace(WEB, id=PortId("twin"), tenant=TenantName("blue"), network=blue.id)
    assert World((LAN, blue), (WEB, twin)).port_by_id[twin.id].mac == WEB.mac


def test_a_port_is_protected_unless_it_says_no() -> None:
    assert WEB.is_protected
    assert not replace(WEB, anti_spoofing=False).is_protected
    assert not TAP.is_protected


@pytest.mark.parametrize(
    ("direction", "egress", "ingress"),
    [
        (Direction.EGRESS, True, False),
        (Direction.INGRESS, False, True),
        (Direction.BOTH, True, True),
    ],
)
def test_directions_are_the_workloads_view(direction, egress: bool, ingress: bool) -> None:
    assert (direction.is_egress, direction.is_ingress) == (egress, ingress)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"network": {"a": 1, "b": 1 << 20}},
            "1048576 is no number of a network: they are 1",
        ),
        ({"port": {"a": 0}}, "0 is no number of a port"),
        ({"session": {"a": 0xFFFFF}}, "1048575 is no number of a session"),
        ({"tag": {"network:a": 4095}}, "4095 is no number of a tag: they are 1..4094"),
        ({"filter": {"a": -1}}, "-1 is no number of a filter"),
        ({"collector": {"a": 1 << 20}}, "no number of a collector"),
        ({"meter": {"a": 39_999}}, "39999 is no number of a meter"),
    ],
)
def test_a_number_that_does_not_fit_its_place_in_a_flow_is_refused(
    numbers: dict[str, dict[str, int]], words: str
) -> None:
    with pytest.raises(InvalidValue, match=words):
        Numbers(**numbers)
