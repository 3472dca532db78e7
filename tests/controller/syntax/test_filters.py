"""Rules in JSON: every key is parsed and formatted again, and every error names its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from netaddr import EUI, IPNetwork

from controller.syntax import BadRule, flow_count, read_rules, show_rules
from controller.syntax.filters import RULE_FLOWS_MAX
from flows.errors import InvalidValue
from flows.model import MacPattern, PortRange, Rule, RuleMatch, Tagged, TcpFlags, Verdict


def match(**keys: object) -> RuleMatch:
    """The match of one rule with these keys."""
    [rule] = read_rules("ingress", [{"number": 1, "action": "accept", "match": keys}])
    return rule.match


@pytest.mark.parametrize(
    ("keys", "meant"),
    [
        ({}, RuleMatch()),
        ({"eth_type": 0x0800}, RuleMatch(eth_type=0x0800)),
        ({"eth_type": "0x88cc"}, RuleMatch(eth_type=0x88CC)),
        ({"eth_type": "LLDP"}, RuleMatch(eth_type=0x88CC)),
        ({"eth_type": "arp", "arp_operation": "request"}, RuleMatch(0x0806, arp_operation=1)),
        ({"arp_operation": 3}, RuleMatch(arp_operation=3)),
        ({"vlan": 100}, RuleMatch(vlan=100)),
        ({"vlan": "100"}, RuleMatch(vlan=100)),
        ({"vlan": "any"}, RuleMatch(vlan=Tagged.ANY)),
        ({"vlan": "none"}, RuleMatch(vlan=Tagged.NONE)),
        (
            {"source_mac": "02:00:00:00:00:0A"},
            RuleMatch(source_mac=MacPattern(EUI("02-00-00-00-00-0a"))),
        ),
        (
            {"destination_mac": "01:00:5e:00:00:00/ff:ff:ff:80:00:00"},
            RuleMatch(
                destination_mac=MacPattern(EUI("01-00-5e-00-00-00"), EUI("ff-ff-ff-80-00-00"))
            ),
        ),
        ({"source": "10.0.0.2"}, RuleMatch(source=IPNetwork("10.0.0.2/32"))),
        ({"destination": "10.0.0.0/8"}, RuleMatch(destination=IPNetwork("10.0.0.0/8"))),
        ({"source": "2001:db8::/32"}, RuleMatch(source=IPNetwork("2001:db8::/32"))),
        ({"protocol": "esp"}, RuleMatch(protocol=50)),
        ({"protocol": 200}, RuleMatch(protocol=200)),
        (
            {"protocol": "udp", "source_port": 53},
            RuleMatch(protocol=17, source_port=(PortRange(53, 53),)),
        ),
        (
            {"protocol": "tcp", "destination_port": "90-443, 53,80-89"},
            RuleMatch(protocol=6, destination_port=(PortRange(53, 53), PortRange(80, 443))),
        ),
        (
            {"protocol": "tcp", "port": 80},
            RuleMatch(protocol=6, port=(PortRange(80, 80),)),
        ),
        ({"address": "10.0.0.2"}, RuleMatch(address=IPNetwork("10.0.0.2/32"))),
        (
            {"protocol": "icmp", "icmp_type": 3, "icmp_code": 4},
            RuleMatch(protocol=1, icmp_type=3, icmp_code=4),
        ),
        ({"protocol": "tcp", "tcp_flags": "syn"}, RuleMatch(protocol=6, tcp_flags=TcpFlags(2, 2))),
        (
            {"protocol": "tcp", "tcp_flags": "syn, !ack"},
            RuleMatch(protocol=6, tcp_flags=TcpFlags(0x02, 0x12)),
        ),
    ],
)
def test_every_key_is_read(keys: dict[str, object], meant: RuleMatch) -> None:
    assert match(**keys) == meant


@pytest.mark.parametrize(
    ("rule", "sentence", "where"),
    [
        ({"match": {"source": "10.0.0.1/24"}}, "source: '10.0.0.1/24' has bits behind", "source"),
        ({"match": {"source": "10.1"}}, "source: '10.1' is not an IP prefix", "source"),
        ({"match": {"source": "10.0.0.0/\uff12\uff14"}}, "is not an IP prefix", "source"),
        ({"match": {"source": "10.0.0.0/+8"}}, "is not an IP prefix", "source"),
        ({"match": {"source": "10.0.0.0/ 8"}}, "is not an IP prefix", "source"),
        ({"match": {"source": "2001:db8::/\uff13\uff12"}}, "is not an IP prefix", "source"),
        ({"match": {"source": "300.0.0.1"}}, "source: '300.0.0.1' is not", "source"),
        ({"match": {"source": 5}}, "source: 5 is not an IP prefix", "source"),
        ({"match": {"source": "10.0.0.0/255.0.0.0"}}, "is not an IP prefix", "source"),
        ({"match": {"source_mac": "02:00"}}, "source_mac: '02:00' is not a MAC", "source_mac"),
        (
            {"match": {"source_mac": "02:00:00:00:00:01/ff:00:00:00:00:00"}},
            "outside its mask",
            "source_mac",
        ),
        ({"match": {"eth_type": "ip"}}, "eth_type: 'ip' is not a number", "eth_type"),
        ({"match": {"eth_type": 100}}, "EtherType 100 is outside", ""),
        ({"match": {"eth_type": 65536}}, "eth_type: 65536 is outside", "eth_type"),
        ({"match": {"vlan": 4096}}, "vlan: 4096 is outside", "vlan"),
        ({"match": {"vlan": True}}, "vlan: True is not a number", "vlan"),
        ({"match": {"protocol": "http"}}, "protocol: 'http' is not a number", "protocol"),
        (
            {"match": {"protocol": "tcp", "source_port": "80-"}},
            "source_port: '80-' is no list of ports",
            "source_port",
        ),
        (
            {"match": {"protocol": "tcp", "source_port": "9-8"}},
            "source_port: ports 9-8 are no range",
            "source_port",
        ),
        (
            {"match": {"protocol": "tcp", "source_port": "70000"}},
            "source_port: ports 70000-70000 are no range",
            "source_port",
        ),
        (
            {"match": {"protocol": "tcp", "source_port": ",".join("1" * 65)}},
            "65 alternatives are more than 64",
            "source_port",
        ),
        ({"match": {"destination_port": "80"}}, "match (destination_port): ports need", ""),
        (
            {"match": {"protocol": "tcp", "tcp_flags": "syn,fun"}},
            "tcp_flags: 'syn,fun' is no list of TCP flags",
            "tcp_flags",
        ),
        (
            {"match": {"protocol": "tcp", "tcp_flags": "syn,!syn"}},
            "names syn twice",
            "tcp_flags",
        ),
        ({"match": {"icmp_code": 1}}, "an ICMP code needs an ICMP type", ""),
        (
            {"match": {"source": "10.0.0.1", "destination": "::1"}},
            "match (source, destination): its conditions contradict",
            "",
        ),
        ({"match": {"ports": 80}}, "'ports' is no key of a match: did you mean 'port'?", "ports"),
        ({"match": {"colour": 80}}, "'colour' is no key of a match; keys: eth_type", "colour"),
        ({"match": {"port": 80}}, "match (port): ports need `protocol`", ""),
        (
            {"match": {"protocol": "tcp", "port": 80, "source_port": 1}},
            "`port` means either end",
            "",
        ),
        ({"match": {"address": "10.0.0.1", "source": "::1"}}, "`address` means either end", ""),
        ({"match": {"protocol": "tpc"}}, "'tpc' is not a number from 0 to 255", "protocol"),
        ({"match": {"protocol": "tpc"}}, "did you mean 'tcp'?", "protocol"),
        ({"match": {"eth_type": "ipv5"}}, "did you mean 'ipv", "eth_type"),
        (
            {
                "match": {
                    "protocol": "tcp",
                    "source_port": "1-65534",
                    "destination_port": "1-65534",
                }
            },
            "a switch needs 1800 flows for it",
            "",
        ),
    ],
)
def test_a_mistake_in_a_match_names_rule_direction_and_key(
    rule: dict[str, Any], sentence: str, where: str
) -> None:
    rules = [{"number": 1, "action": "reject"}, {"number": 7, "action": "accept"} | rule]
    with pytest.raises(BadRule) as caught:
        read_rules("egress", rules)

    assert str(caught.value).startswith("egress rule 7: ") and sentence in str(caught.value)
    assert caught.value.where == ".".join(["egress.1.match", *([where] if where else [])])


@pytest.mark.parametrize(
    ("rules", "sentence", "where"),
    [
        ("accept", "`ingress` is written as a list", "ingress"),
        (["accept"], "ingress rule at place 1: a rule is written with", "ingress.0"),
        ([{"action": "accept"}], "rule at place 1: `number` is needed", "ingress.0.number"),
        ([{"number": "1", "action": "accept"}], "`number` is needed", "ingress.0.number"),
        ([{"number": 0, "action": "accept"}], "ingress rule 0: rule number 0", "ingress.0.number"),
        ([{"number": 60001, "action": "accept"}], "is outside 1..60000", "ingress.0.number"),
        ([{"number": 1, "action": "drop"}], "rule 1: action 'drop' is", "ingress.0.action"),
        ([{"number": 1}], "rule 1: action None is", "ingress.0.action"),
        ([{"number": 1, "action": "accept", "x": 1}], "rule 1: 'x' is not", "ingress.0.x"),
        ([{"number": 1, "action": "accept", "match": []}], "rule 1: `match`", "ingress.0.match"),
        (
            [{"number": 5, "action": "accept"}, {"number": 5, "action": "reject"}],
            "ingress rule 5: number 5 is used twice",
            "ingress.1.number",
        ),
    ],
)
def test_a_mistake_in_a_rule_names_its_place(rules: object, sentence: str, where: str) -> None:
    with pytest.raises(BadRule) as caught:
        read_rules("ingress", rules)

    assert sentence in str(caught.value)
    assert caught.value.where == where


def test_rules_are_sorted_by_number() -> None:
    given_rules = [{"number": n, "action": "accept"} for n in (30, 2, 7)]

    assert [rule.number for rule in read_rules("ingress", given_rules)] == [2, 7, 30]


def test_the_flows_of_a_rule_are_counted() -> None:
    assert flow_count(RuleMatch()) == 1
    assert flow_count(RuleMatch(protocol=6)) == 2, "IPv4 and IPv6"
    assert flow_count(match(protocol="tcp", source="10.0.0.0/8", destination_port="80-443")) == 8


# --- what is shown reads back to the same --------------------------------------------------

macs = st.integers(0, (1 << 48) - 1).map(lambda n: EUI(n, version=48))
prefixes = st.one_of(
    st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 32)).map(
        lambda p: IPNetwork((p[0], p[1]), version=4).cidr
    ),
    st.tuples(st.integers(1 << 32, (1 << 128) - 1), st.integers(0, 128)).map(
        lambda p: IPNetwork((p[0], p[1]), version=6).cidr
    ),
)


@st.composite
def patterns(draw: st.DrawFn) -> MacPattern:
    """MAC addresses with and without a mask."""
    mask = draw(st.one_of(st.just((1 << 48) - 1), st.integers(1, (1 << 48) - 1)))
    value = draw(st.integers(0, (1 << 48) - 1)) & mask
    return MacPattern(EUI(value, version=48), EUI(mask, version=48))


@st.composite
def port_lists(draw: st.DrawFn) -> tuple[PortRange, ...]:
    """Disjoint ranges, as a match has them."""
    edges = [2 * n for n in sorted(draw(st.sets(st.integers(0, 32767), max_size=4)))]
    return tuple(PortRange(*both) for both in zip(edges[::2], edges[1::2], strict=False))


@st.composite
def tcp_flags(draw: st.DrawFn) -> TcpFlags:
    """Any flags, any others clear."""
    mask = draw(st.integers(1, 0xFFF))
    return TcpFlags(draw(st.integers(0, 0xFFF)) & mask, mask)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


@st.composite
def matches(draw: st.DrawFn) -> RuleMatch:
    """Matches that can be; those that contradict themselves are drawn again."""
    protocol = draw(st.sampled_from([None, 1, 2, 6, 17, 58, 132, 200]))
    has_ports, is_icmp = protocol in (6, 17, 132), protocol in (1, 58)
    icmp_type = draw(optional(st.integers(0, 255))) if is_icmp else None
    values = {
        "eth_type": draw(optional(st.sampled_from([0x800, 0x806, 0x86DD, 0x88CC, 0x9000, 0xFFFF]))),
        "vlan": draw(optional(st.one_of(st.integers(0, 4095), st.sampled_from(Tagged)))),
        "source_mac": draw(optional(patterns())),
        "destination_mac": draw(optional(patterns())),
        "source": draw(optional(prefixes)),
        "destination": draw(optional(prefixes)),
        "address": draw(optional(prefixes)),
        "protocol": protocol,
        "source_port": draw(port_lists()) if has_ports else (),
        "destination_port": draw(port_lists()) if has_ports else (),
        "port": draw(port_lists()) if has_ports else (),
        "icmp_type": icmp_type,
        "icmp_code": draw(optional(st.integers(0, 255))) if icmp_type is not None else None,
        "tcp_flags": draw(optional(tcp_flags())) if protocol == 6 else None,
        "arp_operation": draw(optional(st.integers(0, 255))),
    }
    named = ("source_port", "destination_port") if draw(st.booleans()) else ("port",)
    values |= dict.fromkeys(named, ())
    values |= dict.fromkeys(("source", "destination") if draw(st.booleans()) else ("address",))
    for keys in (
        (),
        ("eth_type", "arp_operation"),
        ("source", "destination", "address", "protocol"),
    ):
        values |= dict.fromkeys(keys)
        if "protocol" in keys:
            nothing = {"source_port": (), "destination_port": (), "port": (), "icmp_type": None}
            values |= nothing | {"icmp_code": None, "tcp_flags": None}
        try:
            return RuleMatch(**values)
        except InvalidValue:
            continue
    raise AssertionError(f"no match can be made of {values}")


@given(st.dictionaries(st.integers(1, 60000), st.tuples(st.sampled_from(Verdict), matches())))
def test_formatted_rules_parse_to_the_same_rules(
    drawn: dict[int, tuple[Verdict, RuleMatch]],
) -> None:
    rules = tuple(Rule(number, *drawn[number]) for number in sorted(drawn))
    assume(all(flow_count(rule.match) <= RULE_FLOWS_MAX for rule in rules))
    shown = show_rules(rules)

    assert read_rules("ingress", json.loads(json.dumps(shown))) == rules
    assert show_rules(read_rules("ingress", shown)) == shown
