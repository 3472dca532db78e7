"""Random changes of a world: sessions, filters, sensors, placements and the inventory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from random import Random

from netaddr import EUI, IPAddress

from flows.model import (
    ALL,
    Direction,
    Down,
    Mode,
    Numbers,
    Ofport,
    Oversize,
    Placement,
    PortId,
    PortKind,
    Sensor,
    Session,
    SessionId,
    TagMode,
    World,
    transport_keys,
)
from tests.generators.random_filters import MACS, random_filter
from tests.generators.random_worlds import ADDRESSES, SLOTS, random_labels, random_workload


def changed_world(rng: Random, world: World) -> World:
    """The world after one to three changes of sessions, filters, sensors or ports."""
    kinds = (_session, _session, _session, _filter, _health, _collector, _place, _place, _declare)
    first = world
    for _ in range(rng.randint(1, 3)):
        other = rng.choice(kinds)(rng, world)
        world = other if _is_fair(first, other) else world
    return world


def _session(rng: Random, world: World) -> World:
    """One session is deleted, created again, or changed."""
    sessions = {session.id: session for session in world.sessions}
    chosen = rng.choice([SessionId(key) for key in world.numbers.session] or [None])
    if chosen is None:
        return world
    if chosen not in sessions:
        like = rng.choice(world.sessions) if world.sessions else None
        if like is not None:
            sessions[chosen] = dataclasses.replace(like, id=chosen, name=chosen)
    elif rng.random() < 0.3:
        del sessions[chosen]
    else:
        sessions[chosen] = _patched(rng, sessions[chosen], world)
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
    """A sensor fails, or works again; or a link between bridges does."""
    ends = [end for link in world.links for end in (link.a, link.b)]
    if ends and rng.random() < 0.3:
        return dataclasses.replace(world, down=world.down ^ {rng.choice(ends)})
    collector = rng.choice(world.collectors)
    sensor = rng.choice(collector.sensors)
    is_probe = isinstance(sensor, IPAddress) or rng.random() < 0.5
    turned: Down = (collector.id, sensor) if is_probe else sensor
    return dataclasses.replace(world, down=world.down ^ {turned})


def _collector(rng: Random, world: World) -> World:
    """A collector has other sensors, or another tag; the delivery and the key never change."""
    if not world.collectors:
        return world
    old = rng.choice(world.collectors)
    taps = [p.id for p in world.ports if p.kind is PortKind.TAP and p.tenant == old.tenant]
    known: list[Sensor] = list(map(IPAddress, ADDRESSES)) if old.is_tunnelled else [*taps]
    sensors = tuple(rng.sample(known, rng.randint(1, min(len(known), 3))))
    tag = rng.choice((old.tenant_tag, TagMode.NONE, TagMode.AUTO, rng.randint(1, 4094)))
    new = dataclasses.replace(
        old, tenant_tag=tag, sensors=rng.choice((old.sensors, sensors, sensors))
    )
    collectors = tuple(new if each is old else each for each in world.collectors)
    wanted = transport_keys(collectors, world.networks, world.ports, world.numbers)
    numbers = _with_tags(rng, world.numbers, wanted)
    return dataclasses.replace(world, collectors=collectors, numbers=numbers)


def _place(rng: Random, world: World) -> World:
    """A port is plugged in, moves, or is unplugged; perhaps to the place of an earlier port."""
    port = rng.choice(world.ports)
    placements = dict(world.placements)
    placements.pop(port.id, None)
    if port.id not in world.placements or rng.random() < 0.7:
        free = _free(world)
        if free:
            placements[port.id] = rng.choice(free)
    return dataclasses.replace(world, placements=placements)


def _declare(rng: Random, world: World) -> World:
    """The inventory gets a workload, which is placed at once, or loses one."""
    if world.workloads and rng.random() < 0.3:
        gone = rng.choice(world.workloads)
        ports = tuple(port for port in world.ports if port is not gone)
        left = {key: place for key, place in world.placements.items() if key != gone.id}
        return dataclasses.replace(world, ports=ports, placements=left)
    network = rng.choice(world.networks)
    taken = {p.mac for p in world.workloads if p.network == network.id}
    unused = [n for n, mac in enumerate(MACS) if EUI(mac, version=48) not in taken]
    free = _free(world)
    if not unused or not free:
        return world
    port = random_workload(rng, network, rng.choice(unused))
    port = dataclasses.replace(port, id=PortId(f"{port.id}-new"), name=f"{port.name}-new")
    if port.id in world.port_by_id:
        return world
    numbers = dict(world.numbers.port)
    numbers.setdefault(port.id, next(n for n in range(1, 99) if n not in numbers.values()))
    keys = [] if port.is_protected else [f"port:{port.id}"]
    return dataclasses.replace(
        world,
        ports=(*world.ports, dataclasses.replace(port, labels=random_labels(rng, port))),
        placements={**world.placements, port.id: rng.choice(free)},
        numbers=_with_tags(rng, dataclasses.replace(world.numbers, port=numbers), keys),
    )


def _free(world: World) -> list[Placement]:
    """Places that no port has now."""
    taken = set(world.placements.values())
    places = [Placement(dpid, Ofport(slot)) for dpid in world.dpids for slot in SLOTS]
    return [place for place in places if place not in taken]


def _is_fair(first: World, then: World) -> bool:
    """Whether no tap port is where a workload was, or the other way round.

    Where both were, what comes out while it changes could be production or a copy.
    """
    before = first.port_by_placement
    return all(
        before.get(place, port).kind is port.kind for place, port in then.port_by_placement.items()
    )


def _with_tags(rng: Random, numbers: Numbers, keys: Iterable[str]) -> Numbers:
    """The numbers with a link tag for each of these names."""
    tags = dict(numbers.tag)
    for key in keys:
        if key not in tags:
            tags[key] = rng.choice([n for n in range(1, 4095) if n not in tags.values()])
    return dataclasses.replace(numbers, tag=tags)
