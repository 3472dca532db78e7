"""The page docs/pipeline.md: every register and table with its contract, and one world as flows."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise

from netaddr import EUI, IPAddress

from flows.pipeline import tables as pipeline
from flows.compile import Survey, compile_bridge
from flows.model.filter import Filter, PortRange, Rule, RuleMatch, Verdict
from flows.openflow.flow import Flow
from flows.model.session import (
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Dpid,
    FilterId,
    Mode,
    Network,
    NetworkId,
    Ofport,
    Port,
    PortId,
    PortKind,
    Rate,
    RateUnit,
    Session,
    SessionId,
    Source,
    TenantName,
)
from flows.pipeline.tables import FILTER, PIPELINE, REGISTERS, RULE_PRIORITIES, Table
from flows.model.world import METERS, Link, Numbers, Placement, World, tag_keys

INTRODUCTION = """\
# How packets travel through a bridge

This page is generated from `flows/pipeline.py` and the compiler: `make docs` writes it again.

On a bridge that cloudtap owns, a packet enters the table `start`. First production handles it: who
sent it, may it pass, where does it go; it is sent out at once. What production did stays in
registers. Only then the sessions are served: `egress` and `ingress` choose those that want the
packet, `once` sees to it that each of them gets it one time, a filter says yes or no, and `deliver`
makes the copy; copies that are capped, cut, spread over sensors or sent through tunnels go on to
the stages after it. A session can therefore never change what production delivers, and removing its
flows ends its copies at once.

Exclusive sessions are asked after the others, one after the other: `claim` asks a session unless
the packet has been taken, `won` lets the one that accepts take it. `probe` finds out who has copied
it on the sender's bridge, `alone` whom the sender leaves without a receiver.

Why it is built so: [decision 0003](decisions/0003-owned-pipeline.md). What happens between bridges:
[decision 0004](decisions/0004-links-between-owned-bridges.md). Exclusive sessions:
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
These are the flows of bridge 1, highest priority first; the cookie, which names the owner and holds
a digest of the flow, is left out.
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
SHOWN = 20
"""Flows of one table that the example shows."""
ENUMERATIONS = {"Cast": "cast", "Rules": "rules"}
"""Enumerations of flows/pipeline.py, and the registers that hold their values."""


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION, *_registers(), *map(_contract, PIPELINE), EXAMPLE, *_example()]
    return "\n".join(parts)


def _registers() -> Iterator[str]:
    yield "## Registers\n"
    yield "All are 0 when a packet enters. They are gone when it has left the bridge.\n"
    yield "| name | register | bits | meaning |\n|---|---|---|---|"
    for register in sorted(REGISTERS, key=lambda r: (r.reg, r.low)):
        bits = f"{register.low}-{register.high}" if register.bits > 1 else str(register.low)
        meaning = _sentences()[register.name]
        yield f"| `{register.name}` | {register.field.name} | {bits} | {meaning} |"
    for name, register_name in ENUMERATIONS.items():
        yield f"\nValues of `{register_name}`:\n\n| value | name | meaning |\n|---|---|---|"
        for member in getattr(pipeline, name):
            meaning = _sentences()[f"{name}.{member.name}"]
            yield f"| {member.value} | {member.name.lower().replace('_', ' ')} | {meaning} |"
    yield "\n## Tables\n"
    yield "A packet only ever goes on to a table with a higher number, so nothing can loop.\n"


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
    flows = compile_bridge(HERE, Survey(example_world()))
    for table in PIPELINE:
        in_table = sorted((f for f in flows if f.table == table.number), key=_rank)
        if in_table:
            yield f"### Flows of `{table.name}`\n"
            yield from map(_row, in_table[:SHOWN])
            if len(in_table) > SHOWN:
                yield f"- and {len(in_table) - SHOWN} more of their kind"
            yield ""


def _rank(flow: Flow) -> tuple[int, str]:
    return -flow.priority, str(flow.match)


def _row(flow: Flow) -> str:
    """One flow: its reason, and what ovs-ofctl would be given, less cookie and table."""
    text = str(flow).partition(",")[2].partition(",")[2]
    return f"- {flow.why}\n  `{text}`"


@cache
def _sentences() -> Mapping[str, str]:
    """The sentence that stands below each register and each enumeration member in pipeline.py."""
    tree = ast.parse(inspect.getsource(pipeline))
    found = dict(_documented(tree.body))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in ENUMERATIONS:
            found |= {f"{node.name}.{name}": says for name, says in _documented(node.body)}
    return found


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names and the strings below their assignments; a register goes by its own name."""
    for statement, below in pairwise(body):
        is_string = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(statement, ast.Assign) and is_string:
            target, value = statement.targets[0], statement.value
            name = target.id if isinstance(target, ast.Name) else ""
            if isinstance(value, ast.Call) and value.args:
                name = str(ast.literal_eval(value.args[0]))
            says = below.value.value  # type: ignore[attr-defined]
            yield name, " ".join(str(says).split())


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
        {(dpid, Delivery.VXLAN): TUNNEL_PORT for dpid in (HERE, THERE)},
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
