"""Worlds of a chosen size for benchmarks: one bridge, small networks, a session for each port."""

from __future__ import annotations

from netaddr import EUI, IPAddress

from flows.compile import Survey, compile_bridge
from flows.openflow.flow import Flow
from flows.model.session import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
    Network,
    NetworkId,
    Ofport,
    Port,
    PortId,
    PortKind,
    Session,
    SessionId,
    Source,
    TenantName,
)
from flows.model.world import Numbers, Placement, World

PORTS_OF_A_NETWORK = 20
FLOWS_OF_A_PORT = 18
"""About: 14 of production for a protected port with two addresses, 4 of its session."""


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
    wished = [_session(n, n % ports, networks, collectors) for n in range(sessions)]
    return World(
        tuple(networks), tuple(made), tuple(collectors), tuple(wished),
        {port.id: Placement(Dpid(dpid), Ofport(n + 1)) for n, port in enumerate(made)},
        (),
        Numbers(
            {network.id: n + 1 for n, network in enumerate(networks)},
            {port.id: n + 1 for n, port in enumerate(made)},
            {session.id: n + 1 for n, session in enumerate(wished)},
        ),
    )  # fmt: skip


def flows_of(count: int) -> tuple[Flow, ...]:
    """Exactly ``count`` compiled flows of one bridge."""
    ports = count // FLOWS_OF_A_PORT + PORTS_OF_A_NETWORK
    found = compile_bridge(Dpid(1), Survey(world_of(ports, ports)))
    assert len(found) >= count, f"{ports} ports make only {len(found)} flows"
    return found[:count]


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
