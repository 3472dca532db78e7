"""What rules of filters cost the data path: cached paths, their masks, and CPU of ovs-vswitchd.

2,000 packets with random addresses and ports go from A to B twice; a session copies what A sends.
Compared with that session without rules: rules of its own filter, and rules of sessions that watch
other ports. Foreign rules must cost nothing.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from netaddr import EUI, IPNetwork

from bench.bench_datapath import MAC_A, MAC_B, RED, received
from bench.measure import Result, arguments, process_cpu, report, run, vswitchd_pid
from controller.southbound.openflow.management import ManagedSwitch, open_management
from flows.compile import Survey, compile_bridge
from flows.plan.plan import plan
from flows.model.filter import Filter, PortRange, Rule, RuleMatch, Verdict
from flows.model.session import (
    ALL,
    Collector,
    CollectorId,
    Direction,
    Dpid,
    FilterId,
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
from tests import frames
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, purge_cache

BLUE = TenantName("blue")
FOREIGN_SESSIONS = 10
"""So many sessions share the foreign rules."""
LEVELS = (10, 1000, 10_000)
BURST = 32
PATIENCE_S = 20.0
VALUE = re.compile(r"(?<=[(=,])[^(=,)/]+(?=[/,)])")
"""What a field of a cached path is compared with, but for its name and its mask."""


@dataclass(frozen=True)
class Case:
    """How many rules the session has that is measured, and how many others have."""

    own: int = 0
    foreign: int = 0

    def __str__(self) -> str:
        if not self.own and not self.foreign:
            return "no rules"
        return f"{self.own:,} own" if self.own else f"{self.foreign:,} foreign"


@dataclass(frozen=True)
class Cost:
    """Cached paths, masks among them, and CPU seconds for a packet, at first and when cached."""

    megaflows: int
    masks: int
    first: float
    cached: float


CASES = (Case(), *(Case(own=n) for n in LEVELS), *(Case(foreign=n) for n in LEVELS))


def main() -> None:
    """Measure each case in each round, and print one line of JSON."""
    asked = arguments(__doc__ or "", packets=2000)
    costs: dict[Case, list[Cost]] = {case: [] for case in CASES}
    sent = list(packets(asked.packets))
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", range(1, 6))
        with open_management("s1", timeout_s=60) as switch:
            for number in range(asked.runs):
                for case in CASES if number % 2 == 0 else reversed(CASES):
                    bring(switch, world(case))
                    costs[case].append(cost(ends, sent))
                print(f"  round {number + 1}: {shown(costs, -1)}", flush=True)
    base, most = costs[Case()], costs[CASES[-1]]
    result = Result(tuple(c.first for c in most), tuple(c.first for c in base))
    report(
        "megaflow", "the same session without rules", result, "CPU s/packet",
        case=str(CASES[-1]), packets=len(sent), rows=rows(costs),
    )  # fmt: skip


def rows(costs: dict[Case, list[Cost]]) -> dict[str, dict[str, float]]:
    """Medians of each case; CPU as ratios to that without rules in the same round."""
    base = costs[Case()]
    return {
        str(case): {
            "megaflows": statistics.median(c.megaflows for c in found),
            "masks": statistics.median(c.masks for c in found),
            "cpu_first": _ratio([c.first for c in found], [c.first for c in base]),
            "cpu_cached": _ratio([c.cached for c in found], [c.cached for c in base]),
        }
        for case, found in costs.items()
    }


def shown(costs: dict[Case, list[Cost]], at: int) -> str:
    """Megaflows of one round."""
    return ", ".join(f"{case}: {found[at].megaflows}" for case, found in costs.items())


def bring(switch: ManagedSwitch, of: World) -> None:
    """Give the bridge the flows of a world."""
    assert switch.apply(plan(compile_bridge(Dpid(1), Survey(of)), switch.our_flows())) == ()


def world(case: Case) -> World:
    """A and B in one network, C in another; a session watches A, others watch C."""
    networks = (Network(NetworkId("lan"), "lan", RED), Network(NetworkId("other"), "other", BLUE))
    ports = (
        Port(PortId("a"), "a", RED, networks[0].id, mac=EUI(MAC_A, version=48)),
        Port(PortId("b"), "b", RED, networks[0].id, mac=EUI(MAC_B, version=48)),
        Port(PortId("tap"), "tap", RED, None, PortKind.TAP),
        Port(PortId("c"), "c", BLUE, networks[1].id, mac=EUI(MAC_A, version=48)),
        Port(PortId("blue-tap"), "blue-tap", BLUE, None, PortKind.TAP),
    )
    to = Collector(CollectorId("ids"), "ids", RED, (PortId("tap"),))
    to_blue = Collector(CollectorId("blue-ids"), "blue-ids", BLUE, (PortId("blue-tap"),))
    own = Filter(FilterId("own"), "own", RED, egress=tuple(rules(case.own, 1)))
    sessions = [_session("own", RED, "a", to, own.id if case.own else ALL)]
    filters = [own]
    for n in range(FOREIGN_SESSIONS if case.foreign else 0):
        many = tuple(rules(case.foreign // FOREIGN_SESSIONS, 2 + n))
        filters.append(Filter(FilterId(f"f{n}"), f"f{n}", BLUE, egress=many))
        sessions.append(_session(f"foreign{n}", BLUE, "c", to_blue, filters[-1].id))
    return World(
        networks, ports, (to, to_blue), tuple(sessions),
        {port.id: Placement(Dpid(1), Ofport(n)) for n, port in enumerate(ports, 1)}, (),
        Numbers(
            {network.id: n for n, network in enumerate(networks, 1)},
            {port.id: n for n, port in enumerate(ports, 1)},
            {session.id: n for n, session in enumerate(sessions, 1)},
            filter={each.id: n for n, each in enumerate(filters, 1)},
        ),
        tuple(filters),
    )  # fmt: skip


def rules(count: int, seed: int) -> Iterator[Rule]:
    """Rules of four kinds, in turn, each about something at random."""
    rng = Random(seed)
    for n in range(count):
        ports = (PortRange(port := rng.randrange(1024, 65536), port),)
        prefix = IPNetwork(f"10.{rng.randrange(256)}.{rng.randrange(256)}.0/24")
        match = (
            RuleMatch(protocol=17, destination_port=ports),
            RuleMatch(protocol=6, source_port=ports),
            RuleMatch(destination=prefix),
            RuleMatch(protocol=6, destination=prefix, destination_port=ports),
        )[n % 4]
        yield Rule(n + 1, rng.choice(list(Verdict)), match)


def packets(count: int) -> Iterator[bytes]:
    """From A to B, with any addresses inside 10.0.0.0/8 and any ports."""
    rng = Random(0)
    for _ in range(count):
        source, target = (f"10.{rng.randrange(256)}.{rng.randrange(256)}.9" for _ in range(2))
        ports = rng.randrange(1024, 65536), rng.randrange(1024, 65536)
        protocol = rng.choice((6, 17))
        body = frames.tcp(*ports, 2, bytes(64)) if protocol == 6 else frames.udp(*ports, bytes(64))
        yield frames.ethernet(MAC_B, MAC_A, 0x0800, frames.ipv4(source, target, protocol, body))


def cost(ends: list[Endpoint], sent: list[bytes]) -> Cost:
    """Send everything twice, from an empty cache; production must be whole."""
    rest(vswitchd_pid())
    purge_cache()
    first = send(ends, sent)
    dumped = run(["ovs-appctl", "dpctl/dump-flows", "-m", "filter=in_port=s1-eth1"]).splitlines()
    paths = [line for line in dumped if "in_port(s1-eth1)" in line]
    fields = (line.partition("recirc_id")[2].partition(", packets:")[0] for line in paths)
    masks = {VALUE.sub("", path) for path in fields}
    return Cost(len(paths), len(masks), first, send(ends, sent))


def rest(pid: int) -> None:
    """Wait until a process is idle: flows of the case before are freed some time after they go."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        before = process_cpu(pid)
        time.sleep(0.1)
        if process_cpu(pid) - before < 0.005:
            return
        assert time.monotonic() < deadline, "Open vSwitch finds no rest"


def send(ends: list[Endpoint], sent: list[bytes]) -> float:
    """CPU seconds of ovs-vswitchd for each packet that A sends and B has received."""
    pid = vswitchd_pid()
    before, cpu = received(ends[1:2]), process_cpu(pid)
    for at in range(0, len(sent), BURST):
        for frame in sent[at : at + BURST]:
            ends[0].send(frame)
        wanted, deadline = before + min(at + BURST, len(sent)), time.monotonic() + PATIENCE_S
        while received(ends[1:2]) < wanted:
            time.sleep(0.0002)
            assert time.monotonic() < deadline, "production was lost"
    spent = process_cpu(pid) - cpu
    for end in ends:
        while end.receive_raw() is not None:
            pass
    return spent / len(sent)


def _session(name: str, tenant: TenantName, port: str, to: Collector, wanted: FilterId) -> Session:
    return Session(
        SessionId(name), name, tenant, Source((PortId(port),)), to.id, Direction.EGRESS,
        filter=wanted,
    )  # fmt: skip


def _ratio(ours: list[float], base: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, base, strict=True)), 2)


if __name__ == "__main__":
    main()
