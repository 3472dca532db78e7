"""Encoding and decoding of OpenFlow against real Open vSwitch."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator

import pytest
from netaddr import IPAddress

from controller.southbound import WireError
from controller.southbound.openflow import ManagedSwitch, open_management
from controller.southbound.wire import decode_instructions, encode_instructions
from flows.model import Rate, RateUnit
from flows.openflow import (
    LEARNED_OBJECT,
    Action,
    CheckLarger,
    Clone,
    Field,
    Flow,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Match,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopVlan,
    PushVlan,
    RegField,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    Term,
    field,
    make_cookie,
    protocol,
    show_actions,
)
from flows.plan import Meter, MeterPlan, Plan, plan
from tests.generators.random_actions import SIMPLE, ActionChance
from tests.ovs.lab import Lab, ofctl

LOW, TAG = RegField("low", 3, 4, 19), RegField("tag", 5, 0, 11)
LEARN = Learn(22, 100, 300, 50, make_cookie(LEARNED_OBJECT, 7), RegField("n", 1, 0, 19), LOW)
TAGGED = field.VLAN_VID.masked(field.VLAN_PRESENT, field.VLAN_PRESENT)
ACTIONS: tuple[Action, ...] = (
    Output(7),
    Load(LOW, 0xABC),
    Load(RegField("top", 15, 0, 31), 0xFFFFFFFF),
    ForgetInPort(),
    SetVlan(5),
    SetVlanPriority(3),
    MoveToVlan(TAG),
    Resubmit(90),
    LEARN,
    PushVlan(),
    PopVlan(),
    SetTunnelKey(7001),
    SetTunnelRemote(IPAddress("192.0.2.9")),
    SetTunnelRemote(IPAddress("fd00::9")),
    Multipath(HashOf.CONNECTION, 64, LOW),
    Multipath(HashOf.HOSTS, 3, LOW),
    CheckLarger(1400, RegField("larger", 13, 3, 3)),
    Clone((Load(LOW, 1), Clone((Output(3),)), Resubmit(9))),
    Clone((ForgetInPort(), PushVlan(), MoveToVlan(TAG), SetVlanPriority(1), Output(4), PopVlan())),
)


@pytest.fixture
def switch(lab: Lab) -> Iterator[ManagedSwitch]:
    lab.add_bridge("s1")
    with open_management("s1") as connected:
        yield connected


def flow_of(match: Match, *actions: Action, priority: int = 1, owner: int = 9) -> Flow:
    return Flow(3, priority, match, actions, owner, "test")


def raw(switch: ManagedSwitch) -> dict[tuple[int, int, int, bytes], bytes]:
    """Every flow of ours as bytes: what identifies it, and its instructions."""
    with switch._channel.lock:
        flows = switch._flow_stats("list its flows")
        return {(f.table, f.priority, f.cookie, f.terms): f.instructions for f in flows}


def test_every_action_is_understood_as_ovs_ofctl_means_it(switch: ManagedSwitch) -> None:
    flows = [flow_of(Match.of(TAGGED), action, priority=n + 1) for n, action in enumerate(ACTIONS)]
    flows.append(flow_of(Match.of(TAGGED), *ACTIONS, priority=99))
    flows.append(flow_of(Match.of(TAGGED), priority=98))
    assert switch.apply(Plan(tuple(flows), (), 0)) == ()
    ours = raw(switch)
    lines = ofctl("dump-flows", "s1", "--no-stats").splitlines()
    shown = sorted(line.partition(" actions=")[2] for line in lines if "cookie" in line)
    texts = [show_actions(flow.actions).replace("[0..31]", "[]") for flow in flows]
    assert shown == sorted(texts)

    ofctl("del-flows", "s1")
    for flow in flows:
        ofctl("add-flow", "s1", str(flow))
    assert raw(switch) == ours


LATER = next(bits for bits, name in field.FRAGMENT_NAMES.items() if name == "later")
FRAGMENTS = tuple(bits for bits in field.FRAGMENT_NAMES if bits != LATER)
"""No other values and masks have a text in ovs-ofctl."""


class Chance:
    """Random matches with their prerequisites."""

    def __init__(self, seed: int, *, only_prefixes: bool = False) -> None:
        self.random, self.only_prefixes = random.Random(seed), only_prefixes

    def value(self, what: Field) -> Term:
        return what.eq(self.random.getrandbits(what.bits))

    def masked(self, what: Field) -> Term:
        mask = self.random.getrandbits(what.bits) or what.full
        if self.only_prefixes and what.notation is field.Notation.IPV6:
            mask = what.full << self.random.randrange(what.bits) & what.full
        if self.random.random() < 0.3:
            mask = what.full
        return what.masked(self.random.getrandbits(what.bits) & mask, mask)

    def some(self, *terms: Term) -> list[Term]:
        return [term for term in terms if self.random.random() < 0.5]

    def match(self) -> Match:
        registers = self.random.sample(field.REGISTERS, self.random.randrange(4))
        terms = [self.masked(register) for register in registers]
        terms += self.some(self.masked(field.PKT_MARK))
        terms += self.some(field.IN_PORT.eq(self.random.randint(1, 0xFEFF)))
        terms += self.some(self.masked(field.ETH_SRC), self.masked(field.ETH_DST))
        tag = self.random.choice([None, 0, TAGGED, 0x1000 | self.random.getrandbits(12)])
        if tag is not None:
            terms.append(tag if isinstance(tag, Term) else field.VLAN_VID.eq(tag))
            if tag != 0:
                terms += self.some(self.value(field.VLAN_PCP))
        families = [list[Term], self.ipv4, self.ipv6, self.arp, self.other, self.neighbour]
        families += [self.icmp, self.icmpv6]
        return Match.of(*terms, *self.random.choice(families)())

    def other(self) -> list[Term]:
        return [field.ETH_TYPE.eq(self.random.choice([0x88CC, 0x8847, 0x9000]))]

    def ipv4(self) -> list[Term]:
        addresses = self.some(self.masked(field.IP_SRC), self.masked(field.IP_DST))
        addresses.insert(0, field.ETH_TYPE.eq(protocol.ETH_IPV4))
        if self.random.random() < 0.1:  # it has no transport header
            return [*addresses, field.IP_FRAG.masked(*LATER)]
        addresses += self.some(field.IP_FRAG.masked(*self.random.choice(FRAGMENTS)))
        return [*addresses, *self.transport()]

    def ipv6(self) -> list[Term]:
        addresses = self.some(self.masked(field.IPV6_SRC), self.masked(field.IPV6_DST))
        return [field.ETH_TYPE.eq(protocol.ETH_IPV6), *addresses, *self.transport()]

    def transport(self) -> list[Term]:
        protocols = [None, protocol.PROTO_TCP, protocol.PROTO_UDP, protocol.PROTO_SCTP, 47]
        match self.random.choice(protocols):
            case None:
                return []
            case protocol.PROTO_TCP:
                ports = self.masked(field.TCP_SRC), self.masked(field.TCP_DST)
                flags = self.masked(field.TCP_FLAGS)
                return [field.IP_PROTO.eq(protocol.PROTO_TCP), *self.some(*ports, flags)]
            case protocol.PROTO_SCTP:
                ports = self.masked(field.SCTP_SRC), self.masked(field.SCTP_DST)
                return [field.IP_PROTO.eq(protocol.PROTO_SCTP), *self.some(*ports)]
            case protocol.PROTO_UDP:
                ports = self.masked(field.UDP_SRC), self.masked(field.UDP_DST)
                return [field.IP_PROTO.eq(protocol.PROTO_UDP), *self.some(*ports)]
            case number:
                return [field.IP_PROTO.eq(number)]

    def arp(self) -> list[Term]:
        terms = [field.ETH_TYPE.eq(protocol.ETH_ARP)]
        terms += self.some(field.ARP_OP.eq(self.random.choice([1, 2])))
        terms += self.some(self.masked(field.ARP_SPA), self.masked(field.ARP_TPA))
        return terms + self.some(self.masked(field.ARP_SHA), self.masked(field.ARP_THA))

    def icmp(self) -> list[Term]:
        terms = [field.ETH_TYPE.eq(protocol.ETH_IPV4), field.IP_PROTO.eq(protocol.PROTO_ICMP)]
        return terms + self.some(self.value(field.ICMP_TYPE), self.value(field.ICMP_CODE))

    def icmpv6(self) -> list[Term]:
        terms = [field.ETH_TYPE.eq(protocol.ETH_IPV6), field.IP_PROTO.eq(protocol.PROTO_ICMPV6)]
        return terms + self.some(self.value(field.ICMPV6_TYPE), self.value(field.ICMPV6_CODE))

    def neighbour(self) -> list[Term]:
        terms = [field.ETH_TYPE.eq(protocol.ETH_IPV6), field.IP_PROTO.eq(protocol.PROTO_ICMPV6)]
        terms.append(field.ICMPV6_TYPE.eq(self.random.choice([135, 136])))
        return terms + self.some(self.masked(field.ND_TARGET))


def test_every_match_comes_back_as_it_was_sent(switch: ManagedSwitch) -> None:
    chance = Chance(20)
    flows = {(f := flow_of(chance.match(), Output(1), owner=n)).key: f for n in range(2000)}
    used = {term.field for flow in flows.values() for term in flow.match.terms}
    assert used == set(field.FIELDS), "every field is tried"
    assert switch.apply(Plan(tuple(flows.values()), (), 0)) == ()
    found = switch.our_flows()
    assert {flow.key: flow.cookie for flow in found} == {k: f.cookie for k, f in flows.items()}
    assert not plan(flows.values(), found)
    assert switch.apply(Plan((), tuple(found), 0)) == ()
    assert switch.our_flows() == []


def test_the_text_of_a_match_means_the_same_to_ovs_ofctl(switch: ManagedSwitch) -> None:
    chance = Chance(21, only_prefixes=True)  # ovs-ofctl parses no other masks of IPv6 addresses
    flows = {(f := flow_of(chance.match(), Output(1), owner=n)).key: f for n in range(300)}
    assert switch.apply(Plan(tuple(flows.values()), (), 0)) == ()
    ours = raw(switch)
    ofctl("del-flows", "s1")
    text = "\n".join(str(flow) for flow in flows.values())
    command = ["ovs-ofctl", "-O", "OpenFlow13", "add-flows", "s1", "-"]
    subprocess.run(command, input=text, text=True, check=True)
    assert raw(switch) == ours


METER = Meter(40_001, Rate(RateUnit.PPS, 1_000))


def reported(switch: ManagedSwitch) -> dict[int, bytes]:
    """The instructions of each flow of ours as Open vSwitch reports them, by priority."""
    return {priority: does for (_, priority, *_), does in raw(switch).items()}


def kinds_of(actions: tuple[Action, ...]) -> set[type]:
    """The kinds of action in a list, and in its clones."""
    inner = [kinds_of(action.actions) for action in actions if isinstance(action, Clone)]
    return set[type]().union(map(type, actions), *inner)


def test_random_actions_come_back_byte_for_byte_and_as_they_were(switch: ManagedSwitch) -> None:
    chance = ActionChance(22)
    flows = []
    for priority in range(1, 1001):
        meter = (Metered(METER.number),) if priority % 7 == 0 else ()
        actions = meter + chance.whole(chance.random.randint(0, 12))
        flows.append(flow_of(Match.of(TAGGED), *actions, priority=priority))
    used = set[type]().union(*(kinds_of(flow.actions) for flow in flows))
    assert used == {*SIMPLE, Clone, Metered}, "every action is tried"
    assert switch.apply(Plan(tuple(flows), (), 0, MeterPlan(add=(METER,)))) == ()
    found = reported(switch)
    for flow in flows:
        assert found[flow.priority].hex() == encode_instructions(flow).hex(), flow
        assert decode_instructions(found[flow.priority]) == flow.actions
    assert switch.altered(flows) == ()


def test_one_other_number_in_an_action_is_seen_and_read(switch: ManagedSwitch) -> None:
    chance = ActionChance(23)
    flows = [
        flow_of(Match.of(TAGGED), *chance.actions(6), Load(LOW, 0xABC), priority=n)
        for n in range(1, 41)
    ]
    assert switch.apply(Plan(tuple(flows), (), 0)) == ()
    for flow in flows[::2]:
        ofctl("mod-flows", "--strict", "s1", changed(flow))
    assert switch.altered(flows) == tuple(flows[::2])
    found = reported(switch)
    for flow in flows[::2]:
        expected = (*flow.actions[:-1], Load(LOW, 0xABD))
        assert decode_instructions(found[flow.priority]) == expected


def changed(flow: Flow) -> str:
    """The text of a flow that loads another number, with the cookie of the original."""
    return str(flow).replace("load:0xabc->NXM_NX_REG3", "load:0xabd->NXM_NX_REG3")


STRANGE = (
    "NORMAL,controller:64", "group:7", "mod_dl_dst:02:00:00:00:00:01", "dec_ttl", "note:00.01",
    "set_field:5->metadata", "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", "ct(table=7)",
    "learn(table=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])", "bundle(eth_src,0,hrw,ofport,members:1,2)",
    "resubmit(1,9)", "conjunction(3,1/2)", "write_metadata:5", "goto_table:9", "clear_actions",
    "write_actions(output:1)", "sample(probability=9,collector_set_id=1)", "output:NXM_NX_REG3[]",
    "multipath(eth_src,0,modulo_n,2,0,NXM_NX_REG3[0..3])", "push_vlan:0x88a8", "exit",
    "check_pkt_larger(100)->NXM_NX_XXREG0[0]", "encap(ethernet)", "load:1->NXM_OF_VLAN_TCI[0..3]",
)  # fmt: skip


def test_actions_that_we_never_send_are_never_taken_for_ours(switch: ManagedSwitch) -> None:
    ofctl("add-group", "s1", "group_id=7,type=all,bucket=output:1")
    for priority, actions in enumerate(STRANGE, 1):
        ofctl("add-flow", "s1", f"{marked(priority)},ip,actions={actions}")
    found = reported(switch)
    assert len(found) == len(STRANGE)
    for priority, actions in enumerate(STRANGE, 1):
        with pytest.raises(WireError):
            print(actions, decode_instructions(found[priority]))


def marked(priority: int) -> str:
    """The beginning of the text of a flow with our cookie."""
    flow = flow_of(Match(), priority=priority)
    return str(flow).partition(",actions=")[0]
