"""The page docs/pipeline.md: every register and table with its contract, and one world as flows."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise

from netaddr import EUI, IPAddress

from flows.compile import compile_bridge
from flows.model import (
    METERS,
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Dpid,
    Filter,
    FilterId,
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
    PortRange,
    Rate,
    RateUnit,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    TenantName,
    TunnelKind,
    Verdict,
    World,
    tag_keys,
)
from flows.openflow import Flow
from flows.pipeline import FILTER, PIPELINE, REGISTER_FIELDS, RULE_PRIORITIES, Table
from flows.resolve import ResolvedWorld

TABLES = sys.modules[Table.__module__]
"""The module that defines the tables: its docstrings are part of the page."""

PAGE_INTRODUCTION = """\
# How packets travel through a bridge

This page is generated from `flows/pipeline/tables.py` and the compiler: `make docs` writes it
again.

On a bridge that cloudtap owns, a packet enters the table `start`. Production comes first: the
tables identify the sender, apply anti-spoofing, look the destination up, and output the packet.
Registers keep how it was delivered. Only then the sessions are evaluated: `egress` and `ingress`
select those that watch a port of the packet, `once` lets each of them copy it at most once, a
filter accepts or rejects it, and `deliver` makes the copy. Copies that are capped, truncated,
spread over sensors or sent through tunnels continue in the tables after it. A session can therefore
never change what production delivers, and removing its flows ends its copies at once.

Exclusive sessions are evaluated after the others, in order of their numbers: `claim` evaluates a
session unless the packet is already taken, `won` marks it as taken by the session that accepts it.
`probe` finds the session that took it at the sender's bridge, `alone` marks cohorts of ports that
do not receive it because their only port is the sender.

Why it is built this way: [decision 0003](decisions/0003-owned-pipeline.md). What happens between
bridges: [decision 0004](decisions/0004-links-between-owned-bridges.md). Exclusive sessions:
[decision 0010](decisions/0010-exclusive-sessions.md). How copies are delivered:
[decision 0015](decisions/0015-how-a-copy-is-delivered.md).
"""

EXAMPLE = """\
## One world as flows

Two tenants, red and blue, each with a network, and in both the **same** addresses. `web` of both
runs on bridge 1, `db` of both on bridge 2; port 9 of each bridge is the link. Red copies all of its
`web` to the tap port `ids` on bridge 2. Blue copies what its `web` and `db` receive, TCP to port
443 only, to its own tap port on bridge 1. It also has two exclusive sessions for both ports:
`blue-first` (number 10) takes TCP to port 443 that they receive, `blue-rest` (number 20) everything
else. Red also copies what its `web` sends to two remote sensors in VXLAN, at most 20,000 kbit/s.
These are the flows of bridge 1, highest priority first; the cookie, which holds the owner and a
digest of the flow, is left out.
"""

HERE, THERE = Dpid(1), Dpid(2)
LINK_PORT = Ofport(9)
TUNNEL_PORT = Ofport(10)
FAR = Collector(
    CollectorId("red-soc"), "soc", TenantName("red"),
    (IPAddress("192.0.2.9"), IPAddress("192.0.2.10")), delivery=Delivery.VXLAN, key=7001,
)  # fmt: skip
FAR_SESSION = Session(
    SessionId("red-far"), "red-far", FAR.tenant, Source((PortId("red-web"),)), FAR.id,
    Direction.EGRESS, max_rate=Rate(RateUnit.KBPS, 20_000),
)  # fmt: skip
FLOWS_SHOWN = 20
"""Most flows of one table that the example shows."""
ENUMERATIONS = {"Cast": "cast", "Rules": "rules"}
"""Enumerations of flows/pipeline/tables.py, and the registers that hold their values."""


def render() -> str:
    """The whole page."""
    parts = [PAGE_INTRODUCTION, *_registers(), *map(_contract, PIPELINE), EXAMPLE, *_example()]
    return "\n".join(parts)


def _registers() -> Iterator[str]:
    yield "## Registers\n"
    yield "All are 0 when a packet enters a bridge; they do not leave it with the packet.\n"
    yield "| name | register | bits | meaning |\n|---|---|---|---|"
    for register in sorted(REGISTER_FIELDS, key=lambda r: (r.reg, r.low)):
        bits = f"{register.low}-{register.high}" if register.bits > 1 else str(register.low)
        meaning = _sentences()[register.name]
        yield f"| `{register.name}` | {register.field.name} | {bits} | {meaning} |"
    for name, register_name in ENUMERATIONS.items():
        yield f"\nValues of `{register_name}`:\n\n| value | name | meaning |\n|---|---|---|"
        for member in getattr(TABLES, name):
            meaning = _sentences()[f"{name}.{member.name}"]
            yield f"| {member.value} | {member.name.lower().replace('_', ' ')} | {meaning} |"
    yield "\n## Tables\n"
    yield "A packet only continues in tables with a higher number, so it cannot loop.\n"


def _contract(table: Table) -> str:
    priorities = [f"{name} {number}" for name, number in table.priorities.items()]
    if table is FILTER:
        rules = f"rules {RULE_PRIORITIES.start}-{RULE_PRIORITIES.stop - 1}"
        priorities.insert(0, f"{rules}, the lower the number of a rule the higher")
    lines = [
        f"### {table.number} `{table.name}`\n",
        f"{table.purpose}\n",
        f"- matches: {_names(table.matches)}",
        f"- continues in: {_names(table.then)}",
        f"- sets: {_names(table.owns)}",
        f"- priorities: {', '.join(priorities)}\n",
    ]
    return "\n".join(lines)


def _names(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"


def _example() -> Iterator[str]:
    flows = compile_bridge(HERE, ResolvedWorld(example_world()))
    for table in PIPELINE:
        in_table = sorted((f for f in flows if f.table == table.number), key=_rank)
        if in_table:
            yield f"### Flows of `{table.name}`\n"
            yield from map(_row, in_table[:FLOWS_SHOWN])
            if len(in_table) > FLOWS_SHOWN:
                yield f"- and {len(in_table) - FLOWS_SHOWN} more of their kind"
            yield ""


def _rank(flow: Flow) -> tuple[int, str]:
    return -flow.priority, str(flow.match)


def _row(flow: Flow) -> str:
    """One flow: its reason, and its text for ovs-ofctl without cookie and table."""
    text = str(flow).partition(",")[2].partition(",")[2]
    return f"- {flow.why}\n  `{text}`"


@cache
def _sentences() -> Mapping[str, str]:
    """The docstring of each register and each enumeration member in flows/pipeline/tables.py."""
    tree = ast.parse(inspect.getsource(TABLES))
    found = dict(_documented(tree.body))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in ENUMERATIONS:
            found |= {f"{node.name}.{name}": text for name, text in _documented(node.body)}
    return found


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names and the docstrings below their assignments; a register is listed by its own name."""
    for statement, below in pairwise(body):
        is_string = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(statement, ast.Assign) and is_string:
            target, value = statement.targets[0], statement.value
            name = target.id if isinstance(target, ast.Name) else ""
            if isinstance(value, ast.Call) and value.args:
                name = str(ast.literal_eval(value.args[0]))
            text = below.value.value  # type: ignore[attr-defined]
            yield name, " ".join(str(text).split())


def example_world() -> World:
    """The world of the page: two tenants with equal addresses on two linked bridges."""
    ports: list[Port] = []
    places: dict[PortId, Placement] = {}
    for tenant, first, tap_at in (("red", 1, THERE), ("blue", 3, HERE)):
        for port, place in _example_ports(tenant, first, tap_at):
            ports.append(port)
            places[port.id] = place
    networks = tuple(Network(NetworkId(f"{t}-lan"), "lan", TenantName(t)) for t in ("red", "blue"))
    collectors = tuple(
        Collector(CollectorId(p.id), p.name, p.tenant, (p.id,))
        for p in ports
        if p.kind is PortKind.TAP
    )
    web_only = RuleMatch(protocol=6, destination_port=(PortRange(443, 443),))
    rules = (Rule(10, Verdict.ACCEPT, web_only),)
    wanted = Filter(FilterId("blue-web"), "web", TenantName("blue"), ingress=rules)
    sessions = (*_sessions(wanted.id), FAR_SESSION)
    return World(
        networks, tuple(ports), (*collectors, FAR), sessions, places,
        (Link(Placement(HERE, LINK_PORT), Placement(THERE, LINK_PORT)),),
        Numbers(
            {network.id: n for n, network in enumerate(networks, 1)},
            {port.id: n for n, port in enumerate(ports, 1)},
            {session.id: n for n, session in enumerate(sessions, 1)},
            {key: n for n, key in enumerate(tag_keys(networks, ports), 1)},
            {wanted.id: 1},
            {FAR.id: 1},
            {FAR_SESSION.id: METERS.start},
        ),
        (wanted,),
        {(dpid, TunnelKind.VXLAN): TUNNEL_PORT for dpid in (HERE, THERE)},
    )  # fmt: skip


def _example_ports(tenant: str, first: int, tap_at: Dpid) -> Iterator[tuple[Port, Placement]]:
    """What a tenant has: `web` and `db` at the first number of each bridge, and a tap port."""
    for n, (name, dpid) in enumerate((("web", HERE), ("db", THERE)), 1):
        port = Port(
            PortId(f"{tenant}-{name}"), name, TenantName(tenant), NetworkId(f"{tenant}-lan"),
            mac=EUI(0x020000000000 + n, version=48), ips=(IPAddress(f"10.0.0.{n}"),),
        )  # fmt: skip
        yield port, Placement(dpid, Ofport(first))
    tap = Port(PortId(f"{tenant}-ids"), "ids", TenantName(tenant), None, PortKind.TAP)
    yield tap, Placement(tap_at, Ofport(first + 1))


def _sessions(wanted: FilterId) -> Iterator[Session]:
    both = "blue-web", "blue-db"
    yield _session("red", ("red-web",), Direction.BOTH)
    yield _session("blue", both, Direction.INGRESS, wanted)
    for name, number, rules in (("blue-first", 10, wanted), ("blue-rest", 20, None)):
        session = _session("blue", both, Direction.BOTH, rules)
        yield replace(session, id=SessionId(name), name=name, mode=Mode.EXCLUSIVE, number=number)


def _session(
    tenant: str, ports: tuple[str, ...], direction: Direction, wanted: FilterId | None = None
) -> Session:
    session = Session(
        SessionId(tenant), f"{tenant}-tap", TenantName(tenant), Source(tuple(map(PortId, ports))),
        CollectorId(f"{tenant}-ids"), direction,
    )  # fmt: skip
    return session if wanted is None else replace(session, filter=wanted)


if __name__ == "__main__":
    print(render(), end="")
