"""Small worlds written by hand: short port names, one collector for each tap port."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from netaddr import EUI, IPAddress

from flows.compile import compile_bridge
from flows.explain import Interpreter
from flows.model import (
    ALL,
    METERS,
    Collector,
    CollectorId,
    Direction,
    Dpid,
    Filter,
    Link,
    Mode,
    Network,
    NetworkId,
    Numbers,
    Ofport,
    Placement,
    Port,
    PortId,
    PortKind,
    Session,
    SessionId,
    Source,
    TenantName,
    World,
    tag_keys,
)
from flows.openflow import Flow
from flows.resolve import ResolvedWorld
from flows.semantics import meaning
from tests import frames
from tests.datapath import datapaths

S1, S2, S3 = Dpid(1), Dpid(2), Dpid(3)
BOTH, EGRESS, INGRESS = Direction.BOTH, Direction.EGRESS, Direction.INGRESS


@dataclass(frozen=True)
class Plugged:
    """A port and its placement; None when it is on no bridge."""

    port: Port
    place: Placement | None


def at(dpid: int, ofport: int) -> Placement:
    return Placement(Dpid(dpid), Ofport(ofport))


def vm(
    name: str, place: Placement | None, mac: int | None, *, network: str = "red-lan",
    ips: tuple[str, ...] = (), anti_spoofing: bool = True,
) -> Plugged:  # fmt: skip
    """A workload; its tenant is the part of ``network`` before the dash."""
    port = Port(
        PortId(name), name, TenantName(network.split("-")[0]), NetworkId(network),
        mac=None if mac is None else EUI(mac, version=48),
        ips=tuple(map(IPAddress, ips)),
        anti_spoofing=anti_spoofing,
    )  # fmt: skip
    return Plugged(port, place)


def tap(name: str, place: Placement | None, tenant: str = "red") -> Plugged:
    return Plugged(Port(PortId(name), name, TenantName(tenant), None, PortKind.TAP), place)


def watch(
    name: str, *ports: str, to: str, direction: Direction = BOTH, tenant: str = "red",
    enabled: bool = True, wanted: Filter | None = None, exclusive: int | None = None,
) -> Session:  # fmt: skip
    """A session of ``tenant``; ``to`` is the name of the tap port and of its collector.

    ``exclusive`` is the number of the session, to make it exclusive.
    """
    return Session(
        SessionId(name), name, TenantName(tenant), Source(tuple(map(PortId, ports))),
        CollectorId(to), direction, enabled=enabled,
        filter=ALL if wanted is None else wanted.id,
        number=100 if exclusive is None else exclusive,
        mode=Mode.COPY if exclusive is None else Mode.EXCLUSIVE,
    )  # fmt: skip


def cable(one: Placement, other: Placement) -> Link:
    return Link(one, other)


def world(*things: Plugged | Session | Link | Filter) -> World:
    """A world of all these, with numbers from 1 in the order given."""
    plugged = [thing for thing in things if isinstance(thing, Plugged)]
    ports = tuple(p.port for p in plugged)
    names = dict.fromkeys(p.network for p in ports if p.network is not None)
    networks = tuple(Network(n, n.split("-")[1], TenantName(n.split("-")[0])) for n in names)
    collectors = tuple(
        Collector(CollectorId(p.id), p.name, p.tenant, (p.id,))
        for p in ports
        if p.kind is PortKind.TAP
    )
    sessions = tuple(thing for thing in things if isinstance(thing, Session))
    filters = tuple(thing for thing in things if isinstance(thing, Filter))
    links = tuple(thing for thing in things if isinstance(thing, Link))
    places = [p.place for p in plugged if p.place is not None]
    places += [end for link in links for end in (link.a, link.b)]
    return World(
        networks, ports, collectors, sessions,
        {p.port.id: p.place for p in plugged if p.place is not None},
        links,
        Numbers(
            {network: n for n, network in enumerate(names, 1)},
            {port.id: n for n, port in enumerate(ports, 1)},
            {session.id: n for n, session in enumerate(sessions, 1)},
            {key: n for n, key in enumerate(tag_keys(networks, ports), 1)},
            {wanted.id: n for n, wanted in enumerate(filters, 1)},
            meter={session.id: number for session, number in zip(sessions, METERS, strict=False)},
        ),
        filters,
        datapaths=datapaths(place.dpid for place in places),
    )  # fmt: skip


def compile_all(of: World) -> dict[Dpid, tuple[Flow, ...]]:
    resolved = ResolvedWorld(of)
    return {dpid: compile_bridge(dpid, resolved) for dpid in of.dpids}


def packet(dst: int, src: int, payload: bytes = b"payload") -> bytes:
    """A frame of an EtherType that no flow looks into."""
    return frames.pad(frames.ethernet(dst, src, 0x88B6, payload))


def received(of: World, sender: str, *sent: bytes) -> Counter[str]:
    """How many frames each port receives (tap ports: copies) when ``sender`` sends these.

    By the contract and by the compiled flows, which must agree.
    """
    port = of.port_by_id[PortId(sender)]
    bridges = Interpreter(compile_all(of), of.links)
    meant: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    learned = None
    for frame in sent:
        if port.kind is PortKind.VM:
            means = meaning(frame, port, of, learned)
            learned = means.learned
            meant.update(map(str, means.receivers))
            meant.update(
                str(of.collector_by_id[s.collector].sensors[0])
                for s in of.sessions
                if s.id in means.copies
            )
        trace = bridges.send(of.placements[port.id], frame)
        assert all(emission.frame == frame for emission in trace.emissions), trace
        seen.update(str(of.port_by_placement[e.place].id) for e in trace.emissions)
    assert seen == meant, f"flows say {seen}, the contract says {meant}"
    return seen
