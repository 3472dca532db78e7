"""Worlds of a given size for benchmarks: one bridge, small networks, a session for each port."""

from __future__ import annotations

from dataclasses import replace

from netaddr import EUI, IPAddress

from controller.southbound.openflow import ManagedSwitch
from flows.compile import Program, compile_bridge
from flows.model import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
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
)
from flows.openflow import Flow
from flows.plan import plan, plan_meters
from flows.resolve import ResolvedWorld

PORTS_OF_A_NETWORK = 20
FLOWS_OF_A_PORT = 18
"""Approximately: 14 of production for a protected port with two addresses, 4 of its session."""


def world_of(ports: int, sessions: int, dpid: int = 1) -> World:
    """``ports`` protected workloads with an IPv4 and an IPv6 address; the n-th session watches the
    n-th port (again from the first when there are more sessions), in both directions.

    The networks have 20 workloads and one tap port each.
    """
    made: list[Port] = []
    networks: list[Network] = []
    collectors: list[Collector] = []
    for n in range(ports):
        if n % PORTS_OF_A_NETWORK == 0:
            _add_network(len(networks), networks, made, collectors)
        made.append(_workload(n, networks[-1]))
    watching = [_session(n, n % ports, networks, collectors) for n in range(sessions)]
    return World(
        tuple(networks), tuple(made), tuple(collectors), tuple(watching),
        {port.id: Placement(Dpid(dpid), Ofport(n + 1)) for n, port in enumerate(made)},
        (),
        Numbers(
            {network.id: n + 1 for n, network in enumerate(networks)},
            {port.id: n + 1 for n, port in enumerate(made)},
            {session.id: n + 1 for n, session in enumerate(watching)},
        ),
    )  # fmt: skip


def flows_of(count: int) -> tuple[Flow, ...]:
    """Exactly ``count`` compiled flows of one bridge."""
    ports = count // FLOWS_OF_A_PORT + PORTS_OF_A_NETWORK
    found = compile_bridge(Dpid(1), ResolvedWorld(world_of(ports, ports)))
    assert len(found) >= count, f"{ports} ports make only {len(found)} flows"
    return found[:count]


def compiled(world: World) -> Program:
    """The flows and meters of a bridge with datapath id 1, as on one that has meters."""
    program = Program(Dpid(1))
    program.has_meters = True
    program.update(ResolvedWorld(world))
    return program


def install_world(switch: ManagedSwitch, world: World) -> None:
    """Give a bridge with datapath id 1 the flows and meters of a world."""
    program = compiled(world)
    todo = plan(program.flows, switch.our_flows())
    meters = plan_meters(program.meters, switch.our_meters())
    assert switch.apply(replace(todo, meters=meters)) == ()


def _add_network(
    n: int, networks: list[Network], ports: list[Port], collectors: list[Collector]
) -> None:
    tenant = TenantName(f"tenant{n}")
    network = Network(NetworkId(f"net{n}"), f"net{n}", tenant)
    tap = Port(PortId(f"tap{n}"), f"tap{n}", tenant, None, PortKind.TAP)
    networks.append(network)
    ports.append(tap)
    collectors.append(Collector(CollectorId(f"ids{n}"), f"ids{n}", tenant, (tap.id,)))


def _workload(n: int, network: Network) -> Port:
    return Port(
        PortId(f"vm{n}"), f"vm{n}", network.tenant, network.id,
        mac=EUI(0x020000000000 + n, version=48),
        ips=(IPAddress((10 << 24) + n, 4), IPAddress((0xFD << 120) + n, 6)),
        anti_spoofing=True,
    )  # fmt: skip


def _session(n: int, port: int, networks: list[Network], collectors: list[Collector]) -> Session:
    at = port // PORTS_OF_A_NETWORK
    return Session(
        SessionId(f"session{n}"), f"session{n}", networks[at].tenant,
        Source((PortId(f"vm{port}"),)), collectors[at].id, Direction.BOTH,
    )  # fmt: skip
