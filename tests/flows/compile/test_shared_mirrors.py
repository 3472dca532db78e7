"""Bridges of others that have no room for a Mirror for each session: some share one.

Copies of it are told by address. With honest senders the copies are those of the contract;
whatever is forged, no session gets a packet of another network, or one twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, compile_bridge
from flows.model import (
    ALL,
    Filter,
    FilterId,
    MirrorKey,
    NetworkId,
    Ofport,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    TenantName,
    Verdict,
    World,
    is_watched,
)
from flows.resolve import ResolvedSession, ResolvedWorld
from flows.semantics import copies_of_delivered
from tests import frames
from tests.flows.compile.test_attach import (
    APP,
    DB,
    NOBODY,
    PORTS,
    TAP,
    TAPS,
    WEB,
    Owner,
    check_impact,
    copies,
    mirrored,
    port,
    random_frame,
    random_owner,
    random_sessions,
    tap_bridge,
    tapped,
    there,
)
from tests.flows.hand_made import INGRESS, packet, vm, watch, world

SEEDS = st.integers(0, 1 << 32)
RED = (vm("web", there(1), WEB), vm("db", there(2), DB), vm("app", there(3), APP))
BLUE = (
    vm("web-b", there(4), WEB, network="blue-lan"),
    vm("db-b", there(5), DB, network="blue-lan"),
)


def steps(of: World, owner: Owner, before: ResolvedWorld | None = None) -> Iterator[ResolvedWorld]:
    """The worlds on the way to the Mirrors that sessions want, as a controller makes them.

    One that no session uses is removed, and one that is wanted is made if there is room.
    """
    resolved = ResolvedWorld(tapped(of, owner), before)
    yield resolved
    for _ in range(200):
        uses = [u for s in resolved.sessions.values() if s.session.enabled for u in s.mirrors]
        wanted = {use.wanted for use in uses if not use.is_refused}
        made = dict(resolved.world.attachments[TAP].mirrors)
        idle = made.keys() - wanted - {use.made for use in uses}
        missing = sorted(wanted - made.keys(), key=lambda key: (sorted(key[0]), sorted(key[1])))
        if idle:
            made = {key: patch for key, patch in made.items() if key not in idle}
        elif missing and len(made) < owner.room:
            free = set(range(201, 400)) - set(made.values())
            made[missing[0]] = Ofport(min(free))
        else:
            assert not missing, "nothing is left to be done, and a Mirror is missing"
            return
        owner = replace(owner, mirrors=made)
        resolved = ResolvedWorld(tapped(of, owner), resolved)
        yield resolved
    raise AssertionError("no end")


def settled(of: World, owner: Owner) -> tuple[World, Owner]:
    """The world in which everything is made that there is room for."""
    *_, last = steps(of, owner)
    return last.world, replace(owner, mirrors=last.world.attachments[TAP].mirrors)


def of_sessions(room: int, *sessions: Session | Filter) -> tuple[World, Owner]:
    return settled(world(*RED, *BLUE, *TAPS, *sessions), Owner(PORTS, room=room))


def served(of: World, name: str) -> ResolvedSession:
    return ResolvedWorld(of).sessions[SessionId(name)]


THREE = (
    watch("s", "web", to="ids"),
    watch("t", "db", to="soc"),
    watch("u", "app", to="ids", direction=INGRESS),
)
TWO_TENANTS = (*THREE, watch("b", "web-b", to="ids-b", tenant="blue"))


def test_sessions_for_which_there_is_no_room_share_one_mirror() -> None:
    of, owner = of_sessions(3, *TWO_TENANTS)
    both = frozenset(["row-2", "row-4"])
    shared = MirrorKey(both, both | {"row-3"})
    assert owner.mirrors.keys() == {MirrorKey(*2 * (frozenset(["row-1"]),)), shared}
    assert copies(of, owner, packet(DB, WEB), "web", "db") == {"s": 1, "t": 1}
    assert copies(of, owner, packet(APP, DB), "db", "app") == {"t": 1, "u": 1}
    assert copies(of, owner, packet(NOBODY, APP), "app") == {}
    assert copies(of, owner, packet(DB, WEB), "web-b", "db-b") == {"b": 1}, "equal addresses"
    assert copies(of, owner, packet(WEB, DB), "db-b", "web-b") == {"b": 1}
    everyone = packet(frames.BROADCAST, APP)
    assert copies(of, owner, everyone, "app", "web", "db") == {"s": 1, "t": 1}
    everyone = packet(frames.BROADCAST, DB)
    assert copies(of, owner, everyone, "db", "web", "app") == {"s": 1, "t": 1, "u": 1}


def test_a_flow_that_is_refused_affects_the_sessions_that_share_a_mirror() -> None:
    check_impact(*of_sessions(3, *TWO_TENANTS))


def test_a_session_says_that_it_shares_one_and_what_may_be_wrong() -> None:
    of, _ = of_sessions(3, *TWO_TENANTS)
    assert not served(of, "s").unknown and not served(of, "s").missing
    found = served(of, "t")
    assert "packets of port 'db' come from a Mirror that sessions share" in " ".join(found.unknown)
    assert not found.missing
    open_one = replace(RED[2].port, anti_spoofing=False)
    ports = tuple(open_one if p.id == open_one.id else p for p in of.ports)
    forging = replace(of, ports=ports)
    missing = " ".join(served(forging, "t").missing)
    assert "which port 'app' of the same network may forge" in missing
    assert not served(forging, "b").missing, "it is in another network"


def test_a_port_without_an_address_has_a_mirror_of_its_own_first() -> None:
    of, owner = of_sessions(3, *THREE)
    unknown = replace(port(of, "app"), mac=None, anti_spoofing=False)
    of = replace(of, ports=tuple(unknown if p.id == "app" else p for p in of.ports))
    of, owner = settled(of, owner)
    assert MirrorKey(frozenset(), frozenset(["row-3"])) in owner.mirrors
    assert copies(of, owner, packet(NOBODY, DB), "db", "app") == {"t": 1, "u": 1}
    of, owner = settled(of, replace(owner, room=1))
    assert copies(of, owner, packet(NOBODY, DB), "db", "app") == {"t": 1}
    assert "which the inventory does not say" in " ".join(served(of, "u").missing)
    assert not served(of, "u").is_served


def test_without_any_room_no_session_is_served() -> None:
    of, owner = of_sessions(0, *THREE)
    assert not owner.mirrors
    for name in "stu":
        assert not served(of, name).is_served
        assert all(use.is_refused for use in served(of, name).mirrors)


def test_what_the_owner_drops_is_copied_as_received_as_the_session_says() -> None:
    of, owner = of_sessions(1, *THREE)
    dropped = packet(DB, WEB)
    assert copies(of, owner, dropped, "web") == {"s": 1, "t": 1}
    assert copies_of_delivered(dropped, port(of, "web"), [], of) == {SessionId("s")}
    assert "that the bridge drops on the way may be copied" in " ".join(served(of, "t").unknown)


def test_a_session_with_other_rules_for_each_direction_gets_one_copy_of_a_shared_mirror() -> None:
    everything = (Rule(1, Verdict.ACCEPT),)
    ipv4 = (Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x0800)),)
    wanted = Filter(FilterId("f"), "f", TenantName("red"), ingress=everything, egress=ipv4)
    two = watch("s", "web", "db", to="ids", wanted=wanted), watch("t", "app", to="soc")
    of, owner = of_sessions(2, wanted, *two)
    assert len(owner.mirrors) == 1
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 99, b"")
    ip = frames.pad(frames.ethernet(DB, WEB, 0x0800, body))
    assert copies(of, owner, ip, "web", "db") == {"s": 1}, "both lists accept it"
    assert copies(of, owner, packet(DB, WEB), "web", "db") == {"s": 1}, "one list accepts it"
    assert copies(of, owner, packet(APP, WEB), "web", "app") == {"t": 1}
    assert copies(of, owner, packet(frames.BROADCAST, WEB), "web", "db", "app") == {"s": 1, "t": 1}


def test_a_mirror_that_is_kept_is_that_of_the_session_that_has_one() -> None:
    """A session that comes later takes no Mirror away, whatever its number."""
    _, owner = of_sessions(4, *THREE)
    made = set(owner.mirrors)
    assert len(made) == 3
    sessions = (watch("b", "web-b", to="ids-b", tenant="blue"), *THREE)
    more = world(*RED, *BLUE, *TAPS, *sessions)
    _, owner = settled(more, owner)
    assert len(made & set(owner.mirrors)) == 2
    _, again = settled(more, owner)
    assert again.mirrors == owner.mirrors


@pytest.mark.parametrize("room", [2, 3, 4])
def test_who_comes_and_goes_interrupts_no_other_session(room: int) -> None:
    """With one Mirror that is free another is made before flows leave the one that it replaces."""
    every = (*TWO_TENANTS, watch("x", "web", "app", to="soc"), watch("y", "db", "app", to="ids"))
    owner, resolved = Owner(PORTS, room=room), None
    for count in range(1, len(every) + 1):
        of = world(*RED, *BLUE, *TAPS, *every[:count])
        before = set() if resolved is None else {str(s.session.id) for s in resolved.served}
        for resolved in steps(of, owner):
            at_now = resolved.world.attachments[TAP]
            assert len(at_now.mirrors) <= room
            whole = {str(s.session.id) for s in resolved.served if not s.missing}
            assert before <= whole
            owner = replace(owner, mirrors=at_now.mirrors)
        assert resolved is not None and len(resolved.served) == count
        assert all(not s.missing for s in resolved.served)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_changes_that_come_before_the_last_one_is_done_interrupt_no_other_session(
    seed: int,
) -> None:
    rng = Random(seed)
    every = [
        watch(f"s{n}", *rng.sample(["web", "db", "app"], rng.randint(1, 2)), to="ids")
        for n in range(8)
    ]
    owner, resolved, whole = Owner(PORTS, room=rng.randint(2, 5)), None, set[SessionId]()
    for count in range(1, len(every) + 1):
        of = world(*RED, *BLUE, *TAPS, *every[:count])
        most = rng.randint(1, 9)
        for now, _ in zip(steps(of, owner, resolved), range(most), strict=False):
            there = {s.session.id for s in now.served if not s.missing}
            assert whole <= there, f"{whole - there} are interrupted"
            whole, resolved = there, now
            owner = replace(owner, mirrors=now.world.attachments[TAP].mirrors)


def unrefused(of: World) -> set[SessionId]:
    sessions = ResolvedWorld(of).sessions.values()
    return {s.session.id for s in sessions if not any(use.is_refused for use in s.mirrors)}


def watches_network(of: World, session: SessionId, network: NetworkId | None) -> bool:
    known = of.session_by_id[session]
    return any(p.network == network and is_watched(known, p) for p in of.workloads)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_copies_of_a_shared_mirror_are_those_of_the_contract(seed: int) -> None:
    """Of protected senders and packets that reach whom they are addressed to."""
    rng = Random(seed)
    of, owner = random_owner(rng)
    of, owner = settled(of, replace(owner, room=rng.randint(1, 4)))
    bridges, whole = tap_bridge(of), unrefused(of)
    for _ in range(12):
        sender = rng.choice(of.workloads)
        others = [p for p in of.workloads if p.network == sender.network and p != sender]
        receivers = rng.sample(others, min(1, len(others)))
        assert sender.mac is not None
        to = int(receivers[0].mac or 0) if receivers else NOBODY
        if rng.random() < 0.3:
            receivers, to = others, rng.choice((frames.BROADCAST, 0x01005E000001))
        frame = random_frame(rng, sender, owner.ports[of.placements[sender.id].ofport])
        frame = to.to_bytes(6, "big") + int(sender.mac).to_bytes(6, "big") + frame[12:]
        meant = copies_of_delivered(frame, sender, receivers, of)
        found = mirrored(of, owner, frame, sender, receivers, bridges)
        exact = {session: count for session, count in found.items() if session in whole}
        assert exact == Counter(meant & whole), f"{found} instead of {meant}"
        assert found.keys() <= meant and set(found.values()) <= {1}


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_whatever_is_forged_no_network_gets_copies_of_another_and_none_gets_two(seed: int) -> None:
    rng = Random(seed)
    of, owner = random_owner(rng)
    worlds = list(steps(of, replace(owner, room=rng.randint(1, 4))))
    of = rng.choice(worlds).world  # on the way, too
    owner = replace(owner, mirrors=of.attachments[TAP].mirrors)
    bridges = tap_bridge(of)
    for _ in range(12):
        sender = rng.choice(of.workloads)
        others = [p for p in of.workloads if p.network == sender.network and p != sender]
        receivers = rng.sample(others, rng.randint(0, len(others)))
        frame = random_frame(rng, sender, owner.ports[of.placements[sender.id].ofport])
        found = mirrored(of, owner, frame, sender, receivers, bridges)
        assert set(found.values()) <= {1}
        assert all(watches_network(of, session, sender.network) for session in found)


def test_the_oracle_says_no_to_a_packet_of_another_network() -> None:
    of, _ = of_sessions(1, *TWO_TENANTS)
    assert watches_network(of, SessionId("t"), port(of, "db").network)
    assert not watches_network(of, SessionId("t"), port(of, "db-b").network)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_who_shares_a_mirror_is_the_same_step_by_step_as_from_nothing(seed: int) -> None:
    rng = Random(seed)
    of, owner = random_owner(rng)
    owner = replace(owner, room=rng.randint(0, 4))
    program, resolved = Program(TAP), None
    for _ in range(5):
        if rng.random() < 0.4:
            owner = replace(owner, room=rng.randint(0, 4))
        if len(owner.mirrors) > owner.room:
            kept = rng.sample(sorted(owner.mirrors.items(), key=lambda made: made[1]), owner.room)
            owner = replace(owner, mirrors=dict(kept))
        for now in steps(of, owner, resolved):
            fresh = ResolvedWorld(now.world)
            assert now.sessions == fresh.sessions
            program.update(now)
            assert set(program.flows) == set(compile_bridge(TAP, fresh))
            owner, resolved = replace(owner, mirrors=now.world.attachments[TAP].mirrors), now
        assert resolved is not None
        of = other_sessions(rng, resolved.world)


def other_sessions(rng: Random, of: World) -> World:
    """Some sessions stay, some end, and some are new or watch something else."""
    known = {session.id: session for session in of.sessions if rng.random() < 0.7}
    more, filters = random_sessions(rng, of), {f.id: f for f in of.filters}
    for each in more.filters:  # other rules are another filter
        filters[FilterId(f"{each.id}-{len(of.filters)}")] = replace(
            each, id=FilterId(f"{each.id}-{len(of.filters)}")
        )
    for session in more.sessions:
        if rng.random() < 0.5 or session.id not in known:
            key = session.filter
            key = key if key == ALL else FilterId(f"{key}-{len(of.filters)}")
            known[session.id] = replace(session, filter=key)
    numbers = {key: n for key, n in of.numbers.session.items() if key in known}
    for key in known.keys() - numbers.keys():
        numbers[key] = min(set(range(1, 20)) - set(numbers.values()))
    by_filter = {key: n for n, key in enumerate(filters, 1)}
    return of.with_desired_state(
        of.collectors, known, tuple(filters.values()),
        replace(of.numbers, session=numbers, filter=by_filter),
    )  # fmt: skip
