"""Random worlds are useful only if the cases that they test really happen in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from flows.model import (
    ALL,
    Balance,
    Delivery,
    Direction,
    Dpid,
    Mode,
    Oversize,
    PortId,
    PortKind,
    RateUnit,
    Session,
    SourceKind,
    World,
    is_watched,
    link_limit,
)
from flows.openflow import ETH_DST, is_group, read_fields
from flows.semantics import copied_frame, meaning, wants
from flows.semantics.meaning import sensors_of
from flows.semantics.tags import tag_of_copy
from tests.generators.random_worlds import FRAMES, Sent, edge_lengths, random_packets, random_world

WORLDS, PACKETS = 300, 24
"""About the worlds that the tests and `make worlds` run in a few minutes."""
LEAST = 3
"""How often each thing must happen in them."""
EXPECTED = [
    *(f"copy by {delivery.value}" for delivery in Delivery),
    *(f"copy of a {m.value} session by {delivery.value}" for m in Mode for delivery in Delivery),
    *(f"copy by a pool, {balance.value}" for balance in Balance),
    *(f"copy for a source of kind {kind.value}" for kind in SourceKind),
    *(f"copy of a {direction.value} session" for direction in Direction),
    *(f"copy capped in {unit.value}" for unit in RateUnit),
    "copy by a pool of addresses", "copy by a pool with a sensor down",
    "copy by a pool with all sensors down", "copy by a pool on several bridges",
    "copy to an IPv6 address", "copy capped on the bridge", "copy accepted by a filter",
    "copy carried over a link", "tagged copy carried over a link",
    "tagged copy by a tap port", "tagged copy by a tunnel", "tagged copy cut to its path",
    "copy cut to its path", "copy cut to its packet length", "copy cut by both limits",
    "copy that just fits", "copy cut by one byte",
    "copy cut to its link", "copy that fits no link and crosses none",
    "no copy: it does not fit its path", "no copy: it does not fit its link",
    "no copy: no tunnel port on the bridge",
    "no copy: the filter rejects it", "no copy: another session has taken it",
    "both ends watched, one copy", "both ends on different bridges, one copy by a tunnel",
    "both ends on different bridges, one copy by a tap port",
    "flooded to several watched ports, one copy by a tunnel",
    "flooded over several bridges, one copy", "workload tag over a link",
    "two workload tags", "copy of a packet with padding, cut", "the longest frame",
    "something learned",
]  # fmt: skip


@pytest.fixture(scope="module")
def happened() -> Counter[str]:
    """How often each thing happened in the worlds from seed 0."""
    found: Counter[str] = Counter()
    for seed in range(WORLDS):
        rng = Random(seed)
        world = random_world(rng)
        learned = None
        for sent in random_packets(rng, world, PACKETS):
            if sent.sender.kind is PortKind.TAP:
                continue
            means = meaning(sent.frame, sent.sender, world, learned)
            found["something learned"] += means.learned != (learned or {})
            learned = means.learned
            receivers = tuple(means.receivers)
            found.update(of_packet(sent, world))
            for session in world.sessions:
                if session.id in means.copies:
                    maker = means.makers[session.id]
                    found.update(of_copy(session, sent, receivers, maker, world))
                else:
                    found.update(of_no_copy(session, sent, receivers, world))
    return found


@pytest.mark.parametrize("thing", EXPECTED)
def test_it_happens_in_random_worlds(happened: Counter[str], thing: str) -> None:
    assert happened[thing] >= LEAST


def of_packet(sent: Sent, world: World) -> Iterator[str]:
    tags = sent.kind.count("+vlan")
    if tags and world.links:
        yield "workload tag over a link"
    if tags == 2:
        yield "two workload tags"
    if len(sent.frame) == FRAMES[-1]:
        yield "the longest frame"


def of_copy(
    session: Session, sent: Sent, receivers: tuple[PortId, ...], maker: Dpid, world: World
) -> Iterator[str]:
    """What one copy is an example of."""
    collector = world.collector_by_id[session.collector]
    yield f"copy by {collector.delivery.value}"
    yield f"copy of a {session.mode.value} session by {collector.delivery.value}"
    yield f"copy for a source of kind {session.source.kind.value}"
    yield f"copy of a {session.direction.value} session"
    if session.max_rate is not None:
        yield f"copy capped in {session.max_rate.unit.value}"
    if world.bridge_rate is not None:
        yield "copy capped on the bridge"
    if session.filter != ALL:
        yield "copy accepted by a filter"
    if any(address.version == 6 for address in collector.addresses):
        yield "copy to an IPv6 address"
    if len(collector.sensors) > 1:
        yield from of_pool(session, sent, world)
    yield from of_bytes(session, sent, maker, world)
    yield from of_places(session, sent, receivers, world)


def of_pool(session: Session, sent: Sent, world: World) -> Iterator[str]:
    collector = world.collector_by_id[session.collector]
    yield f"copy by a pool, {collector.balance.value}"
    if collector.is_tunnelled:
        yield "copy by a pool of addresses"
    places = {world.placements[tap].dpid for tap in collector.tap_ports if tap in world.placements}
    if len(places) > 1:
        yield "copy by a pool on several bridges"
    chosen = sensors_of(session, sent.sender, world)
    if all(world.is_down(collector, sensor) for sensor in chosen):
        yield "copy by a pool with all sensors down"
    elif any(world.is_down(collector, sensor) for sensor in collector.sensors):
        yield "copy by a pool with a sensor down"


def of_bytes(session: Session, sent: Sent, maker: Dpid, world: World) -> Iterator[str]:
    """What was done with the bytes of the frame."""
    collector = world.collector_by_id[session.collector]
    assert sent.sender.network is not None
    tag = tag_of_copy(session, sent.sender.network, world)
    copy = copied_frame(sent.frame, session, sent.sender, maker, world)
    kept = len(copy) - 4 * (tag is not None)
    if tag is not None:
        yield f"tagged copy by a {'tunnel' if collector.is_tunnelled else 'tap port'}"
    if kept < len(sent.frame):
        is_path = kept != session.packet_length
        yield "copy cut to its path" if is_path else "copy cut to its packet length"
        if is_path and tag is not None:
            yield "tagged copy cut to its path"
        if is_path and not collector.is_tunnelled:
            yield "copy cut to its link"
        if "+padding" in sent.kind:
            yield "copy of a packet with padding, cut"
        if is_path and session.packet_length is not None:
            yield "copy cut by both limits"
        if kept == len(sent.frame) - 1:
            yield "copy cut by one byte"
    elif not collector.is_tunnelled and kept > link_limit(world.link_mtu):
        yield "copy that fits no link and crosses none"
    elif kept + 1 in edge_lengths(world) and kept + 2 not in edge_lengths(world):
        yield "copy that just fits"


def of_places(
    session: Session, sent: Sent, receivers: tuple[PortId, ...], world: World
) -> Iterator[str]:
    """Where sender, receivers and tap ports are."""
    collector, here = world.collector_by_id[session.collector], world.placements[sent.sender.id]
    way = "tunnel" if collector.is_tunnelled else "tap port"
    taps = {world.placements[t].dpid for t in collector.tap_ports if t in world.placements}
    ends = [world.port_by_id[port] for port in receivers]
    watched = [port for port in ends if is_watched(session, port)]
    far = [port for port in watched if world.placements[port.id].dpid != here.dpid]
    if taps and here.dpid not in taps and is_watched(session, sent.sender):
        yield "copy carried over a link"
        assert sent.sender.network is not None
        if tag_of_copy(session, sent.sender.network, world) is not None:
            yield "tagged copy carried over a link"
    if session.direction is Direction.BOTH and is_watched(session, sent.sender) and watched:
        yield "both ends watched, one copy"
        if far:
            yield f"both ends on different bridges, one copy by a {way}"
    if is_group(read_fields(sent.frame)[ETH_DST]) and not is_watched(session, sent.sender):
        if len(watched) > 1:
            yield f"flooded to several watched ports, one copy by a {way}"
        if len({world.placements[port.id].dpid for port in watched}) > 1:
            yield "flooded over several bridges, one copy"


def of_no_copy(
    session: Session, sent: Sent, receivers: tuple[PortId, ...], world: World
) -> Iterator[str]:
    """Why a session that watches one of the ends has no copy."""
    collector = world.collector_by_id[session.collector]
    touched = [(sent.sender, Direction.EGRESS)]
    touched += [(world.port_by_id[port], Direction.INGRESS) for port in receivers]
    seen = [
        (port, direction)
        for port, direction in touched
        if is_watched(session, port) and session.direction.includes(direction)
    ]
    if not seen or not session.enabled or session.tenant != sent.sender.tenant:
        return
    fields = read_fields(sent.frame)
    if any(wants(session, port, direction, fields, world) for port, direction in seen):
        is_skipping = session.oversize is Oversize.SKIP
        if session.mode is Mode.EXCLUSIVE and not is_skipping and not collector.is_tunnelled:
            yield "no copy: another session has taken it"
        elif is_skipping and session.mode is Mode.COPY:
            way = "path" if collector.is_tunnelled else "link"
            yield f"no copy: it does not fit its {way}"
    elif collector.is_tunnelled and all(
        not world.has_tunnel(world.placements[port.id].dpid, collector) for port, _ in seen
    ):
        yield "no copy: no tunnel port on the bridge"
    elif session.filter != ALL:
        yield "no copy: the filter rejects it"
