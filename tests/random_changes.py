"""What a tenant or a sensor may change while a world lives: other wishes, the same estate."""

from __future__ import annotations

import dataclasses
from random import Random

from flows.model import ALL, Direction, Mode, Oversize, Session, SessionId
from flows.world import World
from tests.random_filters import random_filter


def changed_world(rng: Random, world: World) -> World:
    """The world after one to three changes of sessions, filters, or the health of sensors."""
    for _ in range(rng.randint(1, 3)):
        world = rng.choice((_session, _session, _session, _filter, _health))(rng, world)
    return world


def _session(rng: Random, world: World) -> World:
    """One session goes, comes back, or asks for something else."""
    sessions = {session.id: session for session in world.sessions}
    wished = rng.choice([SessionId(key) for key in world.numbers.session] or [None])
    if wished is None:
        return world
    if wished not in sessions:
        like = rng.choice(world.sessions) if world.sessions else None
        if like is not None:
            sessions[wished] = dataclasses.replace(like, id=wished, name=wished)
    elif rng.random() < 0.3:
        del sessions[wished]
    else:
        sessions[wished] = _patched(rng, sessions[wished], world)
    return dataclasses.replace(world, sessions=tuple(sessions.values()))


def _patched(rng: Random, session: Session, world: World) -> Session:
    change = rng.choice(("enabled", "direction", "filter", "length", "oversize", "mode", "other"))
    match change:
        case "enabled":
            return dataclasses.replace(session, enabled=not session.enabled)
        case "direction":
            return dataclasses.replace(session, direction=rng.choice(list(Direction)))
        case "filter":
            own = [f.id for f in world.filters if f.tenant == session.tenant]
            return dataclasses.replace(session, filter=rng.choice((*own, ALL)))
        case "length":
            return dataclasses.replace(session, packet_length=rng.choice((None, 64, 500)))
        case "oversize":
            return dataclasses.replace(session, oversize=rng.choice(list(Oversize)))
        case "mode":
            number = rng.choice((1, 3, 100))
            return dataclasses.replace(session, mode=rng.choice(list(Mode)), number=number)
    # another source and collector, as one PATCH may bring them
    other = rng.choice(world.sessions)
    return dataclasses.replace(other, id=session.id, name=session.name)


def _filter(rng: Random, world: World) -> World:
    """A filter has other rules, in place."""
    if not world.filters:
        return world
    old = rng.choice(world.filters)
    new = random_filter(rng, old.name, old.tenant)
    return dataclasses.replace(
        world, filters=tuple(new if each is old else each for each in world.filters)
    )


def _health(rng: Random, world: World) -> World:
    """A sensor fails, or works again."""
    sensors = sorted({str(s): s for c in world.collectors for s in c.sensors}.items())
    sensor = rng.choice(sensors)[1]
    return dataclasses.replace(world, down=world.down ^ {sensor})
