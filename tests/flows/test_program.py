"""A bridge that follows a world change by change has the flows of one that is compiled anew."""

from __future__ import annotations

import dataclasses
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, Survey, compile_bridge
from flows.openflow.flow import Flow, FlowKey
from flows.model.session import Balance, Collector, Dpid, Ofport, Session, SessionId
from flows.model.world import METERS, Placement, World
from tests.random_filters import random_filter
from tests.random_worlds import random_world

SEEDS = st.integers(0, 2**63)


def changed_world(rng: Random, world: World, spare: list[Session]) -> World:
    """The same estate with one change.

    A session more, fewer or other, a filter with other rules, a collector with other sensors,
    sensors that fail, other meters, or a port elsewhere or nowhere.
    """
    sessions = list(world.sessions)
    of_sessions = ("add", "add", "remove", "switch", "replace", "filter")
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
    elif action == "replace" and sessions:
        at = rng.randrange(len(sessions))
        other = rng.choice((*sessions, *spare))
        sessions[at] = dataclasses.replace(other, id=sessions[at].id, name=sessions[at].name)
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
    return world.with_places(placements, world.links, world.numbers)


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
    found = {flow.key: (flow.cookie, flow.why) for flow in program.flows}
    assert len(found) == len(program.flows), "two patterns made the same match"
    return found


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_following_changes_gives_what_compiling_anew_gives(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    spare = [s for s in world.sessions if rng.random() < 0.5]
    world = dataclasses.replace(world, sessions=tuple(s for s in world.sessions if s not in spare))
    survey = Survey(world)
    programs = {dpid: Program(dpid) for dpid in world.dpids}
    installed: dict[int, dict[FlowKey, Flow]] = {dpid: {} for dpid in programs}
    for _ in range(8):
        for dpid, program in programs.items():
            if rng.random() < 0.8:  # a slow bridge misses some worlds
                delta = program.update(survey)
                for flow in delta.gone:
                    del installed[dpid][flow.key]
                installed[dpid] |= {flow.key: flow for flow in delta.put}
                anew = Program(dpid)
                anew.update(Survey(world))

                assert by_key(program) == by_key(anew)
                assert {k: f.cookie for k, f in installed[dpid].items()} == {
                    f.key: f.cookie for f in anew.flows
                }
                assert program.meters == anew.meters
                assert program.served == {
                    world.numbers.session[s.id] for s in world.sessions if program.serves(s.id)
                }
        world = changed_world(rng, world, spare)
        survey = Survey(world, survey)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_another_estate_costs_the_difference_of_the_flows(seed: int) -> None:
    rng = Random(seed)
    one, other = random_world(rng), random_world(rng)
    dpid = one.dpids[0]
    program = Program(dpid)
    there = {flow.key: flow.cookie for flow in program.update(Survey(one)).put}

    delta = program.update(Survey(other))

    wanted = {flow.key: flow.cookie for flow in compile_bridge(dpid, Survey(other))}
    assert {f.key for f in delta.gone} == there.keys() - wanted.keys()
    assert {f.key: f.cookie for f in delta.put}.items() == wanted.items() - there.items()
    assert {flow.key: flow.cookie for flow in program.flows} == wanted


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_survey_that_follows_another_says_the_same_as_one_made_anew(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    spare: list[Session] = []
    limit, cohorts = rng.choice((1, 2, 4, 1000)), rng.choice((0, 1, 2, 128))
    survey = Survey(world, None, limit, cohorts_per_network=cohorts)
    for _ in range(8):
        before, world = survey, changed_world(rng, world, spare)
        survey = Survey(world, before, limit, cohorts_per_network=cohorts)
        anew = Survey(world, None, limit, cohorts_per_network=cohorts)

        assert {k: str(s) for k, s in survey.standings.items()} == {
            k: str(s) for k, s in anew.standings.items()
        }
        for dpid in world.dpids:
            changed = survey.changed_since(before, dpid)
            if changed is not None:
                for key in survey.sessions_at(dpid) | before.sessions_at(dpid):
                    if survey.standings.get(key) != before.standings.get(key):
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
    survey = Survey(world)
    program = Program(world.dpids[0])
    program.update(survey)

    delta = program.update(Survey(dataclasses.replace(world, sessions=many), survey))

    assert len(delta.put) < 20 < len(program.flows)
    assert delta.gone == ()
