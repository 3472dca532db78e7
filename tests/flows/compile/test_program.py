"""A program that is updated change by change has the flows of one that is compiled completely."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, compile_bridge
from flows.explain import explain
from flows.model import (
    DROPPED_METERS,
    METERS,
    Balance,
    Collector,
    Direction,
    Dpid,
    Hop,
    Ofport,
    Placement,
    Session,
    SessionId,
    World,
)
from flows.openflow import Flow, FlowKey
from flows.pipeline import START
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, cable, packet, tap, vm, watch, world
from tests.generators.random_filters import random_filter
from tests.generators.random_worlds import random_world

CLOSED = (START.number, START["closed"])
SEEDS = st.integers(0, 2**63)


def changed_world(rng: Random, world: World, spare: list[Session]) -> World:
    """The same networks, ports and links with one change.

    A session more, fewer or other, a filter with other rules, a collector with other sensors,
    sensors that fail, other meters, or a port elsewhere or nowhere.
    """
    sessions = list(world.sessions)
    of_sessions = ("add", "add", "remove", "switch", "replace", "filter", "tell", "away")
    action = rng.choice((*of_sessions, "collector", "collector", "health", "meter", "move", "move"))
    if action == "move":
        return moved_world(rng, world)
    if action == "add" and spare:
        sessions.append(spare.pop())
    elif action == "remove" and sessions:
        spare.append(sessions.pop(rng.randrange(len(sessions))))
    elif action == "switch" and sessions:
        at = rng.randrange(len(sessions))
        sessions[at] = dataclasses.replace(sessions[at], enabled=not sessions[at].enabled)
    elif action == "tell":
        untold = (s.id for s in sessions if not s.enabled and rng.random() < 0.5)
        world = dataclasses.replace(world, fading=frozenset(untold))
    elif action == "replace" and sessions:
        at = rng.randrange(len(sessions))
        other = rng.choice((*sessions, *spare))
        sessions[at] = dataclasses.replace(other, id=sessions[at].id, name=sessions[at].name)
    elif action == "away":
        away = (n for n in world.numbers.session.values() if rng.random() < 0.5)
        world = dataclasses.replace(world, untold=frozenset(away))
    filters = world.filters
    if action == "filter" and filters:
        at = rng.randrange(len(filters))
        new = random_filter(rng, filters[at].name, filters[at].tenant)
        filters = (*filters[:at], new, *filters[at + 1 :])
    if action == "collector" and world.collectors:
        world = dataclasses.replace(world, collectors=other_collectors(rng, world))
    if action == "health":
        sensors = [s for c in world.collectors for s in c.sensors]
        world = dataclasses.replace(world, down=frozenset(rng.sample(sensors, len(sensors) // 3)))
    if action == "meter":
        free = rng.sample(METERS, len(world.numbers.session))
        meters = {
            s: n for s, n in zip(world.numbers.session, free, strict=True) if rng.random() < 0.7
        }
        numbers = dataclasses.replace(world.numbers, meter=meters)
        world = dataclasses.replace(world, numbers=numbers)
    return dataclasses.replace(world, sessions=tuple(sessions), filters=filters)


def moved_world(rng: Random, world: World) -> World:
    """The same world with a port, perhaps a tap port, at another place or at none."""
    placements = dict(world.placements)
    port = rng.choice(world.ports).id
    placements.pop(port, None)
    if rng.random() < 0.7:
        ends = {end for link in world.links for end in (link.a, link.b)}
        taken = {*placements.values(), *ends}
        dpid = rng.choice(world.dpids or (Dpid(1),))
        free = (Placement(dpid, Ofport(n)) for n in range(1, 1000))
        placements[port] = next(place for place in free if place not in taken)
    return world.with_placements(placements, world.links, world.numbers)


def other_collectors(rng: Random, world: World) -> tuple[Collector, ...]:
    """The collectors, one of which has fewer sensors, or others in another order."""
    found = list(world.collectors)
    used = [n for n, c in enumerate(found) if any(s.collector == c.id for s in world.sessions)]
    at = rng.choice(used or [0])
    old = found[at]
    same = [c for c in found if c.tenant == old.tenant and c.is_tunnelled == old.is_tunnelled]
    sensors = sorted({sensor for c in same for sensor in c.sensors}, key=str)
    chosen = rng.sample(sensors, min(len(sensors), rng.choice((1, 2, 3, 3))))
    found[at] = dataclasses.replace(
        old, sensors=tuple(chosen), balance=rng.choice(list(Balance)), key=old.key
    )
    return tuple(found)


def by_key(program: Program) -> dict[FlowKey, tuple[int, str]]:
    """All but the flows that count what is dropped: they are about worlds before."""
    found = {flow.key: (flow.cookie, flow.why) for flow in program.flows}
    assert len(found) == len(program.flows), "two patterns made the same match"
    return {key: what for key, what in found.items() if key[:2] != CLOSED}


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_updating_gives_the_flows_of_a_complete_compilation(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    spare = [s for s in world.sessions if rng.random() < 0.5]
    world = dataclasses.replace(world, sessions=tuple(s for s in world.sessions if s not in spare))
    limit, cohorts = rng.choice((2, 4, 1000, 1000)), rng.choice((0, 1, 128, 128))
    resolved = ResolvedWorld(world, None, limit, cohorts_per_network=cohorts)
    programs = {dpid: Program(dpid) for dpid in world.dpids}
    for program in programs.values():
        program.has_meters = True
    installed: dict[int, dict[FlowKey, Flow]] = {dpid: {} for dpid in programs}
    for _ in range(8):
        for dpid, program in programs.items():
            if rng.random() < 0.8:  # a slow bridge misses some worlds
                delta = program.update(resolved)
                for flow in delta.gone:
                    del installed[dpid][flow.key]
                installed[dpid] |= {flow.key: flow for flow in delta.put}
                complete = Program(dpid)
                complete.has_meters = True
                complete.update(ResolvedWorld(world, None, limit, cohorts_per_network=cohorts))

                assert by_key(program) == by_key(complete)
                assert {k: f.cookie for k, f in installed[dpid].items()} == {
                    f.key: f.cookie for f in program.flows
                }
                dropped = program.meters.keys() - complete.meters.keys()
                assert all(number in DROPPED_METERS for number in dropped)
                assert {n: program.meters[n] for n in complete.meters} == complete.meters
                count = sum(key[:2] == CLOSED for key in installed[dpid])
                assert bool(count) == bool(dropped)
                assert program.served == {
                    world.numbers.session[s.id] for s in world.sessions if program.serves(s.id)
                }
        world = changed_world(rng, world, spare)
        resolved = ResolvedWorld(world, resolved, limit, cohorts_per_network=cohorts)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_other_networks_and_ports_cost_the_difference_of_the_flows(seed: int) -> None:
    rng = Random(seed)
    one, other = random_world(rng), random_world(rng)
    dpid = one.dpids[0]
    program = Program(dpid)
    there = {flow.key: flow.cookie for flow in program.update(ResolvedWorld(one)).put}

    delta = program.update(ResolvedWorld(other))

    wanted = {flow.key: flow.cookie for flow in compile_bridge(dpid, ResolvedWorld(other))}
    assert {f.key for f in delta.gone} == there.keys() - wanted.keys()
    assert {f.key: f.cookie for f in delta.put}.items() == wanted.items() - there.items()
    assert {flow.key: flow.cookie for flow in program.flows} == wanted


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_resolved_world_that_follows_another_equals_one_that_is_built_completely(
    seed: int,
) -> None:
    rng = Random(seed)
    world = random_world(rng)
    spare: list[Session] = []
    limit, cohorts = rng.choice((1, 2, 4, 1000)), rng.choice((0, 1, 2, 128))
    resolved = ResolvedWorld(world, None, limit, cohorts_per_network=cohorts)
    for _ in range(8):
        before, world = resolved, changed_world(rng, world, spare)
        resolved = ResolvedWorld(world, before, limit, cohorts_per_network=cohorts)
        complete = ResolvedWorld(world, None, limit, cohorts_per_network=cohorts)

        assert {k: str(s) for k, s in resolved.sessions.items()} == {
            k: str(s) for k, s in complete.sessions.items()
        }
        for dpid in world.dpids:
            changed = resolved.changed_since(before, dpid)
            if changed is not None:
                for key in resolved.sessions_at(dpid) | before.sessions_at(dpid):
                    if resolved.sessions.get(key) != before.sessions.get(key):
                        assert key in changed


def test_one_new_session_touches_only_its_own_flows() -> None:
    rng = Random(3)
    world = random_world(rng, bridges=1)
    many = tuple(
        dataclasses.replace(s, id=SessionId(f"{s.id}-{n}"), name=f"{s.name}-{n}")
        for n in range(40)
        for s in world.sessions
    )
    numbers = dataclasses.replace(world.numbers, session={s.id: n + 1 for n, s in enumerate(many)})
    world = dataclasses.replace(world, sessions=many[:-1], numbers=numbers)
    resolved = ResolvedWorld(world)
    program = Program(world.dpids[0])
    program.update(resolved)

    delta = program.update(ResolvedWorld(dataclasses.replace(world, sessions=many), resolved))

    assert len(delta.put) < 20 < len(program.flows)
    assert delta.gone == ()


def test_a_full_network_of_one_tenant_costs_another_tenant_nothing() -> None:
    """Red has more sessions than its network has room for; blue's change compiles blue's only."""
    crowd = [watch(f"r{n}", "web", to="ids") for n in range(5)]
    mine = [watch(f"b{n}", "blue-web", to="blue-ids", tenant="blue") for n in range(2)]
    ports = (vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 2)))
    foreign = vm("blue-web", at(S1, 3), 0x020000000001, network="blue-lan")
    of = world(*ports, foreign, tap("blue-ids", at(S1, 4), "blue"), *crowd, *mine)
    before = dataclasses.replace(of, sessions=tuple(crowd + mine[:1]))
    resolved = ResolvedWorld(before, None, 3)
    refused = [key for key, one in resolved.sessions.items() if one.refused is not None]
    assert refused == ["r3", "r4"]
    program = Program(S1)
    program.update(resolved)

    more = ResolvedWorld(of, resolved, 3)

    assert more.changed_since(resolved, S1) == {"b1"}
    assert len(program.update(more).put) < 10
    fewer = dataclasses.replace(of, sessions=tuple(crowd[1:] + mine))
    assert ResolvedWorld(fewer, more, 3).changed_since(more, S1) == {"r0", "r3"}


def test_a_session_that_cannot_be_compiled_costs_its_own_copies_only() -> None:
    ports = (
        vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 9)),
        vm("db", at(S1, 2), 0x020000000002, network="blue-lan"), tap("soc", at(S1, 10), "blue"),
    )  # fmt: skip
    sessions = (
        watch("red", "web", to="ids"),
        watch("first", "web", to="ids", exclusive=1),
        watch("blue", "db", to="soc", tenant="blue"),
    )
    good, alone = world(*ports, *sessions), world(*ports, sessions[2])
    bad = dataclasses.replace(good, hops={at(S1, 9): Hop(mtu=-20)})
    kept = {
        flow
        for flow in Program(S1).update(ResolvedWorld(alone)).put
        if flow.owner == 0 and flow.table == 0
    }

    for before in (None, good):
        program = Program(S1)
        if before is not None:
            program.update(ResolvedWorld(before))
            assert (program.served, program.uncompilable) == ({1, 2, 3}, {})
        program.update(ResolvedWorld(bad, None))
        assert program.served == {3}
        assert set(program.uncompilable) == {1, 2}
        assert "-6 bytes cannot be noted" in program.uncompilable[1]
        assert kept <= set(program.flows), "production stays as it is"

        program.update(ResolvedWorld(good))
        assert (program.served, program.uncompilable) == ({1, 2, 3}, {})
        assert set(program.flows) == set(compile_bridge(S1, ResolvedWorld(good)))


@pytest.mark.parametrize("direction", [Direction.EGRESS, Direction.INGRESS])
@pytest.mark.parametrize("target", [0x020000000001, 0xFFFFFFFFFFFF])
def test_an_exclusive_session_that_cannot_be_compiled_takes_nothing_from_others(
    direction: Direction, target: int
) -> None:
    of = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        vm("app", at(S1, 3), 0x020000000003),
        tap("ids", at(S1, 9)), tap("soc", at(S1, 10)),
        watch("first", "web", "db", to="ids", exclusive=1, direction=direction),
        watch("second", "web", "db", "app", to="soc", exclusive=2, direction=direction),
    )  # fmt: skip
    bad = dataclasses.replace(of, hops={at(S1, 9): Hop(mtu=-20)})
    frame = packet(target, 0x020000000002)

    def takers(here: World) -> list[str]:
        found = explain(ResolvedWorld(here), here.ports[1], frame).answers
        return [answer.session.name for answer in found if answer.is_copied]

    both = target == 0xFFFFFFFFFFFF and direction is Direction.INGRESS
    assert takers(of) == (["first", "second"] if both else ["first"])
    assert takers(bad) == ["second"]
    program = Program(S1)
    for here in (of, bad, of, bad):
        program.update(ResolvedWorld(here))
        fresh = Program(S1)
        fresh.update(ResolvedWorld(here))
        assert set(program.flows) == set(fresh.flows)


def test_with_links_an_exclusive_session_that_cannot_be_compiled_competes() -> None:
    """The other bridges of the region do not know of it, and all must reach the same result."""
    of = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 2), 0x020000000002),
        tap("ids", at(S1, 9)), tap("soc", at(S1, 10)), cable(at(S1, 8), at(S2, 8)),
        watch("first", "web", to="ids", exclusive=1), watch("second", "web", to="soc", exclusive=2),
    )  # fmt: skip
    bad = dataclasses.replace(of, hops={at(S1, 9): Hop(mtu=-20)})
    frame = packet(0x020000000002, 0x020000000001)
    answers = explain(ResolvedWorld(bad), bad.ports[0], frame).answers
    assert not any(answer.is_copied for answer in answers)
