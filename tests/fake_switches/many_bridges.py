"""Many fake bridges of one form: switches, their inventory, and sessions for the store."""

from __future__ import annotations

import json
from pathlib import Path

from controller.store import BridgeRecord, InterfaceRecord, Store
from flows.model import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)
from tests.fake_switches.model import FakeSwitch

TENANT = TenantName("red")


def bridge_name(n: int) -> str:
    """The name of the n-th bridge, from 0."""
    return f"b{n}"


def switches(bridges: int, ports: int) -> list[FakeSwitch]:
    """Bridges with that many workloads each, and a tap port."""
    return [
        FakeSwitch(n + 1, bridge_name(n), {k + 1: f"b{n}p{k}" for k in range(ports + 1)})
        for n in range(bridges)
    ]


def inventory(bridges: int, ports: int) -> str:
    """Each bridge has a network of its own; its last port is the tap port."""
    lines = [f"tenants: [{TENANT}]", "networks:"]
    lines += [f"  - {{name: net{n}, tenant: {TENANT}}}" for n in range(bridges)]
    lines.append("ports:")
    for n in range(bridges):
        for k in range(ports):
            port = {
                "id": f"vm{n}-{k}", "tenant": TENANT, "network": f"net{n}",
                "mac": f"02:00:{n >> 8:02x}:{n & 255:02x}:{k >> 8:02x}:{k & 255:02x}",
                "interface": f"b{n}p{k}", "bridge": bridge_name(n),
            }  # fmt: skip
            lines.append(f"  - {json.dumps(port)}")
        tap = {
            "id": f"tap{n}", "tenant": TENANT, "kind": "tap", "interface": f"b{n}p{ports}",
            "bridge": bridge_name(n),
        }  # fmt: skip
        lines.append(f"  - {json.dumps(tap)}")
    return "\n".join(lines) + "\n"


def store_sessions(directory: Path, bridges: int, ports: int) -> None:
    """Store a session for each bridge, ``s0`` for the first: of its first workload."""
    store = Store(directory)
    for n in range(bridges):
        tap = CollectorId(f"c{n}")
        store.collectors.add(Collector(tap, f"c{n}", TENANT, (PortId(f"tap{n}"),)), "test")
        source = Source((PortId(f"vm{n}-0"),))
        session = Session(SessionId(f"s{n}"), f"s{n}", TENANT, source, tap, Direction.BOTH)
        store.sessions.add(session, "test")
    store.close()


def remember(directory: Path, bridges: int, ports: int) -> None:
    """Store where everything is, as a controller does that has seen the bridges before."""
    store = Store(directory)
    records = []
    for switch in switches(bridges, ports):
        rows = tuple(InterfaceRecord(name, None, port) for port, name in switch.ports.items())
        records.append(BridgeRecord(Dpid(switch.dpid), switch.name, rows))
    store.placements.remember_bridges(records)
    store.close()
