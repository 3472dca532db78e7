"""Tap bridges: what their flows make of the copies of Mirrors, against the contract.

The bridge of the owner is anything that delivers packets somewhere; Open vSwitch copies a packet
once for each Mirror that selects its sender or one of its receivers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import EUI

from flows.compile import Impact, Program, compile_bridge
from flows.explain import Interpreter
from flows.model import (
    ALL,
    MIRRORS_MAX,
    Attachment,
    CollectorId,
    Datapath,
    Direction,
    Dpid,
    Filter,
    FilterId,
    Hop,
    MirrorKey,
    Ofport,
    OwnerPort,
    Placement,
    Port,
    PortId,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import PRODUCTION
from flows.pipeline import AGREED, START, TABLE_BY_NUMBER
from flows.pipeline import EGRESS as SENT
from flows.resolve import ResolvedWorld, unprepared_bridges
from flows.semantics import copies_of_delivered
from tests import frames
from tests.flows.hand_made import BOTH, EGRESS, INGRESS, Plugged, packet, tap, vm, watch, world
from tests.generators.random_filters import random_filter

TAP, OWNER = Dpid(0xA1), Dpid(0xB1)
WEB, DB, APP = 0x020000000001, 0x020000000002, 0x020000000003
FIRST_PATCH = 201
SEEDS = st.integers(0, 1 << 32)
AGAIN = OwnerPort("row-again", 10, is_trunk=False)


@dataclass(frozen=True)
class Owner:
    """The bridge of an owner: its ports by number, and the Mirrors that are made."""

    ports: Mapping[Ofport, OwnerPort]
    mirrors: Mapping[MirrorKey, Ofport] = field(default_factory=dict)
    room: int = MIRRORS_MAX

    def attachment(self) -> Attachment:
        return Attachment(OWNER, self.ports, self.mirrors, self.room)


def there(number: int) -> Placement:
    return Placement(TAP, Ofport(number), OWNER)


def access(number: int, vlan: int) -> tuple[Ofport, OwnerPort]:
    return Ofport(number), OwnerPort(f"row-{number}", vlan, is_trunk=False)


def trunk(number: int, native: int | None = None) -> tuple[Ofport, OwnerPort]:
    return Ofport(number), OwnerPort(f"row-{number}", native, is_trunk=True)


def tapped(of: World, owner: Owner) -> World:
    return replace(of, attachments={TAP: owner.attachment()})


def with_all_mirrors(of: World, owner: Owner) -> tuple[World, Owner]:
    """The world in which every Mirror that sessions want is made."""
    resolved = ResolvedWorld(tapped(of, owner))
    wanted = {use.wanted for s in resolved.sessions.values() for use in s.mirrors}
    in_order = sorted(wanted, key=lambda key: (sorted(key.sources), sorted(key.targets)))
    made = {key: Ofport(n) for n, key in enumerate(in_order, FIRST_PATCH)}
    owner = replace(owner, mirrors=made)
    return tapped(of, owner), owner


def tap_bridge(of: World) -> Interpreter:
    return Interpreter({TAP: compile_bridge(TAP, ResolvedWorld(of))})


def mirrored(
    of: World, owner: Owner, frame: bytes, sender: Port, receivers: Iterable[Port],
    bridges: Interpreter | None = None,
) -> Counter[SessionId]:  # fmt: skip
    """How many copies each session gets of a frame that the owner's bridge has forwarded."""
    bridges = bridges or tap_bridge(of)
    at = {port.id: owner.ports[of.placements[port.id].ofport] for port in of.workloads}
    got = {at[port.id].row for port in receivers}
    by_number = {number: session for session, number in of.numbers.session.items()}
    found: Counter[SessionId] = Counter()
    for key, patch in owner.mirrors.items():
        if at[sender.id].row not in key.sources and key.targets.isdisjoint(got):
            continue
        copy = frame
        vlan = at[sender.id].vlan
        if vlan is not None and not (at[sender.id].is_trunk and frame[12:14] == b"\x81\x00"):
            copy = frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]
        trace = bridges.send(Placement(TAP, patch), copy)
        for emission in trace.emissions:
            assert emission.frame == frame, trace
            assert emission.session is not None
            found[by_number[emission.session]] += 1
    return found


RED = (vm("web", there(1), WEB), vm("db", there(2), DB), vm("app", there(3), APP))
BLUE = (
    vm("web-b", there(4), WEB, network="blue-lan"),
    vm("db-b", there(5), DB, network="blue-lan"),
)
TAPS = (
    tap("ids", Placement(TAP, Ofport(1))),
    tap("soc", Placement(TAP, Ofport(2))),
    tap("ids-b", Placement(TAP, Ofport(3)), tenant="blue"),
)
PORTS = dict([access(1, 10), access(2, 10), access(3, 10), access(4, 20), access(5, 20)])


def of_sessions(*sessions: Session | Filter) -> tuple[World, Owner]:
    return with_all_mirrors(world(*RED, *BLUE, *TAPS, *sessions), Owner(PORTS))


def port(of: World, name: str) -> Port:
    return of.port_by_id[PortId(name)]


def copies(of: World, owner: Owner, frame: bytes, sender: str, *to: str) -> dict[str, int]:
    found = mirrored(of, owner, frame, port(of, sender), [port(of, name) for name in to])
    return {str(session): count for session, count in found.items()}


def test_a_session_gets_one_copy_of_what_its_ports_send_and_get() -> None:
    of, owner = of_sessions(watch("s", "web", "db", to="ids"))
    assert copies(of, owner, packet(DB, WEB), "web", "db") == {"s": 1}
    assert copies(of, owner, packet(APP, WEB), "web") == {"s": 1}, "sent, and dropped by the owner"
    assert copies(of, owner, packet(DB, APP), "app", "db", "web") == {"s": 1}, "flooded to both"
    assert copies(of, owner, packet(WEB, APP), "app") == {}


def test_equal_addresses_in_the_network_of_another_tenant_are_not_copied() -> None:
    of, owner = of_sessions(watch("s", "web", "db", to="ids"))
    assert copies(of, owner, packet(DB, WEB), "web-b", "db-b") == {}
    both = of_sessions(
        watch("s", "web", "db", to="ids"), watch("b", "web-b", to="ids-b", tenant="blue")
    )
    assert copies(*both, packet(DB, WEB), "web-b", "db-b") == {"b": 1}
    assert copies(*both, packet(DB, WEB), "web", "db") == {"s": 1}


@pytest.mark.parametrize(
    ("direction", "sent", "got"), [(EGRESS, {"s": 1}, {}), (INGRESS, {}, {"s": 1})]
)
def test_one_direction_needs_a_mirror_of_one_direction(
    direction: Direction, sent: dict[str, int], got: dict[str, int]
) -> None:
    of, owner = of_sessions(watch("s", "web", to="ids", direction=direction))
    assert copies(of, owner, packet(DB, WEB), "web", "db") == sent
    assert copies(of, owner, packet(WEB, DB), "db", "web") == got


def test_sessions_with_the_same_ports_share_a_mirror() -> None:
    of, owner = of_sessions(watch("s", "web", "db", to="ids"), watch("t", "db", "web", to="soc"))
    assert len(owner.mirrors) == 1
    assert copies(of, owner, packet(DB, WEB), "web", "db") == {"s": 1, "t": 1}


def test_a_session_with_other_rules_for_each_direction_has_three_mirrors_and_one_copy() -> None:
    everything = (Rule(1, Verdict.ACCEPT),)
    ipv4 = (Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x0800)),)
    wanted = Filter(FilterId("f"), "f", TenantName("red"), ingress=everything, egress=ipv4)
    of, owner = of_sessions(wanted, watch("s", "web", "db", to="ids", wanted=wanted))
    assert len(owner.mirrors) == 3
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 99, b"")
    ip = frames.pad(frames.ethernet(DB, WEB, 0x0800, body))
    assert copies(of, owner, ip, "web", "db") == {"s": 1}, "both lists accept it"
    assert copies(of, owner, ip, "web") == {"s": 1}, "sent"
    assert copies(of, owner, ip, "app", "db") == {"s": 1}, "received, whoever claims to send it"
    assert copies(of, owner, packet(DB, WEB), "web", "db") == {"s": 1}, "one list accepts it"
    assert copies(of, owner, packet(DB, WEB), "web") == {}
    same = replace(wanted, egress=everything)
    assert len(of_sessions(same, watch("s", "web", "db", to="ids", wanted=same))[1].mirrors) == 1


def test_a_mirror_of_one_direction_stands_in_for_none_of_both() -> None:
    """Another session has it already, and there is no room for the other two."""
    everything = (Rule(1, Verdict.ACCEPT),)
    ipv4 = (Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x0800)),)
    wanted = Filter(FilterId("f"), "f", TenantName("red"), ingress=everything, egress=ipv4)
    two = (
        watch("s", "web", to="ids", wanted=wanted),
        watch("t", "web", to="soc", direction=EGRESS),
    )
    of, owner = of_sessions(wanted, *two)
    sent = {key: at for key, at in owner.mirrors.items() if not key.targets}
    of = tapped(of, replace(owner, mirrors=sent))
    program, resolved = Program(TAP), ResolvedWorld(of)
    program.update(resolved)
    made = [use.made for use in resolved.sessions[SessionId("s")].mirrors]
    assert made.count(next(iter(sent))) == 1
    program.update(
        ResolvedWorld(
            of.with_desired_state(of.collectors, {SessionId("t"): two[1]}, of.filters, of.numbers),
            resolved,
        )
    )
    assert program.served == {of.numbers.session[SessionId("t")]}


def test_a_mirror_that_selects_a_port_of_somebody_else_leads_nowhere() -> None:
    """Somebody has added a port to the Mirror: its key is another one, which no session has."""
    of, owner = of_sessions(watch("s", "web", to="ids"))
    ((key, patch),) = owner.mirrors.items()
    rows = key.sources | {"row-4"}
    altered = replace(owner, mirrors={MirrorKey(rows, rows): patch})
    of = tapped(of, altered)
    assert copies(of, altered, packet(DB, WEB), "web", "db") == {}
    assert copies(of, altered, packet(DB, WEB), "web-b", "db-b") == {}
    found = ResolvedWorld(of).sessions[SessionId("s")]
    assert not found.is_served
    assert "no Mirror yet" in " ".join(found.missing)


def test_until_a_mirror_of_all_ports_is_made_the_largest_part_serves() -> None:
    of, owner = of_sessions(watch("s", "web", to="ids"))
    more = replace(of, sessions=(watch("s", "web", "db", to="ids"),))
    found = ResolvedWorld(more).sessions[SessionId("s")]
    assert [p.name for p in found.watched] == ["web"]
    assert "'db'" in " ".join(found.missing)
    assert copies(more, owner, packet(DB, WEB), "web", "db") == {"s": 1}
    assert copies(more, owner, packet(APP, DB), "db", "app") == {}
    less, owner = of_sessions(watch("s", "web", "db", to="ids"))
    less = replace(less, sessions=(watch("s", "web", to="ids"),))
    assert not ResolvedWorld(less).sessions[SessionId("s")].is_served, "it would copy db as well"


def test_an_exclusive_session_watches_nothing_there() -> None:
    of, _ = of_sessions(watch("s", "web", to="ids", exclusive=7))
    found = ResolvedWorld(of).sessions[SessionId("s")]
    assert not found.is_served
    assert not found.mirrors
    assert "cannot be exclusive" in " ".join(found.missing)


def test_a_port_whose_connection_is_not_known_is_not_watched() -> None:
    of = world(*RED, *TAPS, watch("s", "web", to="ids"))
    found = ResolvedWorld(tapped(of, Owner({}))).sessions[SessionId("s")]
    assert not found.is_served
    assert "does not say how port 'web' is connected" in " ".join(found.missing)


def test_a_trunk_keeps_the_tags_of_its_frames() -> None:
    inside = (vm("router", there(1), WEB), vm("db", there(2), DB), TAPS[0])
    of = world(*inside, watch("s", "router", to="ids"))
    of, owner = with_all_mirrors(of, Owner(dict([trunk(1), trunk(2)])))
    tagged = frames.pad(frames.ethernet(DB, WEB, 0x88B6, b"x", ((0x8100, 77),)))
    assert copies(of, owner, tagged, "router", "db") == {"s": 1}
    assert copies(of, owner, packet(DB, WEB), "router", "db") == {"s": 1}


def test_what_an_operator_is_told_to_prepare_is_the_tap_bridge() -> None:
    """A segmenting pair on the bridge of the owner would be a loop in production."""
    of, owner = of_sessions(replace(watch("s", "web", to="ids"), packet_length=200))
    of = replace(
        of,
        attachments={TAP: replace(owner.attachment(), name="ct-br-int")},
        datapaths={TAP: Datapath.KERNEL},
        hops={of.placements[each.id]: Hop("br-int", each.name) for each in of.workloads},
    )
    found = ResolvedWorld(of).sessions[SessionId("s")]
    told = " ".join(found.missing)
    assert "cloudtap bridge prepare ct-br-int" in told and "'br-int'" not in told
    assert list(unprepared_bridges(of.sessions[0], found.watched, of)) == ["ct-br-int"]


def test_networks_with_the_same_vlan_have_mirrors_of_their_own() -> None:
    """The inventory says that they are two networks; the bridge says that they are one."""
    owner = Owner(dict([access(1, 10), access(2, 10)]))
    ports = (vm("web", there(1), WEB), vm("other", there(2), DB, network="red-dmz"), TAPS[0])
    of, owner = with_all_mirrors(world(*ports, watch("s", "web", "other", to="ids")), owner)
    assert len(owner.mirrors) == 2
    assert copies(of, owner, packet(NOBODY, WEB), "web") == {"s": 1}


NOBODY = 0x0200000000EE


def test_flows_follow_ports_and_mirrors_one_at_a_time() -> None:
    """A program that is updated from world to world has what one compiled at once has."""
    of, owner = of_sessions(watch("s", "web", "db", to="ids"))
    program, resolved = Program(TAP), ResolvedWorld(of)
    program.update(resolved)
    steps = [
        {**owner.mirrors, MirrorKey(frozenset(["row-3"]), frozenset()): Ofport(300)},
        {},
        dict(owner.mirrors),
    ]
    for mirrors in steps:
        changed = of.with_attachments({TAP: replace(owner.attachment(), mirrors=mirrors)})
        resolved = ResolvedWorld(changed, resolved)
        program.update(resolved)
        assert set(program.flows) == set(compile_bridge(TAP, ResolvedWorld(changed)))


def test_each_flow_that_is_refused_affects_the_sessions_that_lose_copies_without_it() -> None:
    sent = (Rule(1, Verdict.REJECT, RuleMatch(protocol=98)), Rule(2, Verdict.ACCEPT))
    got = (Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x0800)),)
    wanted = Filter(FilterId("f"), "f", TenantName("red"), ingress=got, egress=sent)
    of, owner = of_sessions(
        wanted,
        watch("plain", "web", "db", to="ids"),
        watch("twice", "db", "web", to="soc"),
        watch("lists", "web", to="ids", wanted=wanted),
        watch("sent", "web", to="ids", direction=EGRESS),
        watch("other", "db-b", to="ids-b", tenant="blue"),
    )
    check_impact(of, owner)


def check_impact(of: World, owner: Owner) -> None:
    """That each flow affects the sessions that lose copies without it."""
    flows, impact = set(compile_bridge(TAP, ResolvedWorld(of))), impact_on(of)
    ways = [
        (frame, *way)
        for frame in (ip_packet(98), ip_packet(99), packet(DB, WEB), packet(APP, WEB))
        for way in (("web", "db"), ("web", "app"), ("app", "web"), ("web-b", "db-b"), ("web",))
    ]
    for flow in flows:
        left = Interpreter({TAP: flows - {flow}})
        names = set[SessionId]()
        for frame, sender, *to in ways:
            receivers = [port(of, name) for name in to]
            whole = mirrored(of, owner, frame, port(of, sender), receivers)
            without = mirrored(of, owner, frame, port(of, sender), receivers, left)
            names |= {session for session in whole if without[session] != whole[session]}
        affected = {s for s, n in of.numbers.session.items() if n in impact.affected_sessions(flow)}
        assert names <= affected, flow
        if flow.owner == PRODUCTION and TABLE_BY_NUMBER[flow.table] in (START, SENT, AGREED):
            assert names == affected, flow


def ip_packet(protocol: int) -> bytes:
    body = frames.ipv4("10.0.0.1", "10.0.0.2", protocol, b"")
    return frames.pad(frames.ethernet(DB, WEB, 0x0800, body))


def impact_on(of: World) -> Impact:
    resolved = ResolvedWorld(of)
    return Impact(TAP, resolved, frozenset(of.numbers.session.values()))


def test_a_foreign_flow_for_a_patch_takes_the_packets_of_its_sessions() -> None:
    of, owner = of_sessions(
        watch("s", "web", to="ids"), watch("b", "web-b", to="ids-b", tenant="blue")
    )
    impact, numbers = impact_on(of), of.numbers.session
    patches = {patch: key for key, patch in owner.mirrors.items()}
    for patch, key in patches.items():
        [name] = ["s" if "row-1" in key.sources else "b"]
        assert impact.preempted_sessions(0, 65535, patch) == {numbers[SessionId(name)]}
        assert not impact.preempted_sessions(0, 0, patch)
    assert impact.preempted_sessions(0, 65535, None) == set(numbers.values())
    assert not impact.preempted_sessions(0, 65535, 999)


def random_sessions(rng: Random, of: World) -> World:
    """Some sessions of both tenants, with filters of all sorts."""
    sessions, filters = list[Session](), list[Filter]()
    for number in range(rng.randint(1, 6)):
        tenant = TenantName(rng.choice(("red", "blue")))
        mine = [p for p in of.workloads if p.tenant == tenant]
        chosen = rng.sample(mine, rng.randint(1, len(mine)))
        source = Source(tuple(p.id for p in chosen))
        if rng.random() < 0.3:
            source = Source(kind=SourceKind.TENANT)
        wanted = random_filter(rng, f"f{number}", tenant) if rng.random() < 0.5 else None
        if wanted is not None and rng.random() < 0.5:
            wanted = replace(wanted, ingress=wanted.egress)
        filters += [wanted] if wanted is not None else []
        to = CollectorId(rng.choice(("ids", "soc")) if tenant == "red" else "ids-b")
        sessions.append(
            Session(
                SessionId(f"s{number}"), f"s{number}", tenant, source, to,
                rng.choice((BOTH, EGRESS, INGRESS)),
                filter=ALL if wanted is None else wanted.id,
            )
        )  # fmt: skip
    numbers = replace(
        of.numbers,
        session={s.id: n for n, s in enumerate(sessions, 1)},
        filter={f.id: n for n, f in enumerate(filters, 1)},
    )
    return replace(of, sessions=tuple(sessions), filters=tuple(filters), numbers=numbers)


def random_owner(rng: Random) -> tuple[World, Owner]:
    """Workloads of two tenants with equal addresses, on access and trunk ports."""
    things: list[Plugged] = []
    ports: dict[Ofport, OwnerPort] = {}
    networks = ["red-lan", "blue-lan", *rng.sample(["red-dmz", "blue-dmz", "red-x"], 2)]
    for index, network in enumerate(networks):
        is_trunk, native = rng.random() < 0.3, rng.choice((None, 100 + index))
        for member in range(rng.randint(1, 3)):
            number = 10 * index + member + 1
            things.append(vm(f"{network}-{member}", there(number), WEB + member, network=network))
            number, known = trunk(number, native) if is_trunk else access(number, 100 + index)
            ports[number] = known
    return random_sessions(rng, world(*things, *TAPS)), Owner(ports)


def random_frame(rng: Random, sender: Port, known: OwnerPort) -> bytes:
    source = WEB + rng.randint(0, 4) if rng.random() < 0.2 else int(sender.mac or EUI(WEB))
    to = rng.choice((frames.BROADCAST, 0x01005E000001, WEB, DB, APP, NOBODY))
    tags: tuple[tuple[int, int], ...] = ()
    if known.is_trunk and rng.random() < 0.4:
        tags = ((0x8100, rng.choice((5, 77, 4094))),)
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(53, rng.choice((53, 80, 999)), b"x"))
    if rng.random() < 0.3:
        return frames.pad(frames.ethernet(to, source, 0x88B6, rng.randbytes(20), tags))
    return frames.pad(frames.ethernet(to, source, 0x0800, body, tags))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_copies_are_what_the_contract_says_wherever_the_owner_delivers(seed: int) -> None:
    rng = Random(seed)
    of, owner = random_owner(rng)
    of, owner = with_all_mirrors(of, owner)
    bridges = tap_bridge(of)
    for _ in range(12):
        sender = rng.choice(of.workloads)
        others = [p for p in of.workloads if p.network == sender.network and p != sender]
        receivers = rng.sample(others, rng.randint(0, len(others)))
        frame = random_frame(rng, sender, owner.ports[of.placements[sender.id].ofport])
        meant = copies_of_delivered(frame, sender, receivers, of)
        found = mirrored(of, owner, frame, sender, receivers, bridges)
        assert found == Counter(meant), f"{found} instead of {meant}"


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_whatever_mirrors_there_are_no_tenant_gets_copies_of_another(seed: int) -> None:
    """Mirrors that are missing, left over, or altered by somebody."""
    rng = Random(seed)
    of, owner = random_owner(rng)
    of, owner = with_all_mirrors(of, owner)
    rows = [known.row for known in owner.ports.values()]
    mirrors = {key: patch for key, patch in owner.mirrors.items() if rng.random() < 0.6}
    for patch in range(301, 304):
        sides = [frozenset(rng.sample(rows, rng.randint(0, min(3, len(rows))))) for _ in range(2)]
        mirrors[MirrorKey(*sides)] = Ofport(patch)
    owner = replace(owner, mirrors=mirrors)
    of = tapped(of, owner)
    bridges = tap_bridge(of)
    for _ in range(12):
        sender = rng.choice(of.workloads)
        others = [p for p in of.workloads if p.network == sender.network and p != sender]
        receivers = rng.sample(others, rng.randint(0, len(others)))
        frame = random_frame(rng, sender, owner.ports[of.placements[sender.id].ofport])
        meant = copies_of_delivered(frame, sender, receivers, of)
        assert mirrored(of, owner, frame, sender, receivers, bridges).keys() <= meant


def test_the_oracle_says_no_if_a_mirror_copies_more_than_a_session_may_have() -> None:
    of, owner = of_sessions(watch("s", "web", "db", to="ids"))
    ((key, patch),) = owner.mirrors.items()
    wider = {MirrorKey(key.sources | {"row-3"}, key.targets): patch}
    found = mirrored(of, replace(owner, mirrors=wider), packet(NOBODY, APP), port(of, "app"), [])
    assert found and not copies_of_delivered(packet(NOBODY, APP), port(of, "app"), [], of)
