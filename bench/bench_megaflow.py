"""The cost of filter rules in the datapath: megaflows, their masks, and CPU time of ovs-vswitchd.

2,000 packets with random addresses and ports go from A to B twice; a session copies what A sends.
Compared with that session without rules: rules of its own filter, and rules of sessions that watch
other ports. Rules of other sessions must cost nothing. Pools of two sensors, by connection and by
hosts, are compared with one sensor for packets between two hosts with random ports: to choose a
sensor by connection, the switch needs a megaflow for each.
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
from bench.worlds import install_world
from controller.southbound.openflow import open_management
from flows.model import (
    ALL,
    Balance,
    Collector,
    CollectorId,
    Direction,
    Dpid,
    Filter,
    FilterId,
    Network,
    NetworkId,
    Numbers,
    Ofport,
    Placement,
    Port,
    PortId,
    PortKind,
    PortRange,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    TenantName,
    Verdict,
    World,
)
from tests import frames
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, purge_cache

BLUE = TenantName("blue")
FOREIGN_SESSIONS = 10
"""How many sessions share the foreign rules."""
LEVELS = (10, 1000, 10_000)
BURST = 32
LIMIT_S = 20.0
VALUE = re.compile(r"(?<=[(=,])[^(=,)/]+(?=[/,)])")
"""The value of a field of a megaflow, without its name and its mask."""


@dataclass(frozen=True)
class Case:
    """How many rules the measured session has, and how many the other sessions have."""

    own: int = 0
    foreign: int = 0
    sensors: str = ""
    """`one sensor`, or a pool of two, `by connection` or `by hosts`; empty: one, random hosts."""

    def __str__(self) -> str:
        if self.sensors:
            return self.sensors
        if not self.own and not self.foreign:
            return "no rules"
        return f"{self.own:,} own" if self.own else f"{self.foreign:,} foreign"


@dataclass(frozen=True)
class Cost:
    """Megaflows, different masks, and CPU seconds for a packet: with an upcall, and cached."""

    megaflows: int
    masks: int
    first: float
    cached: float


POOLS = tuple(Case(sensors=name) for name in ("one sensor", "by connection", "by hosts"))
CASES = (*(Case(), *(Case(own=n) for n in LEVELS), *POOLS, *(Case(foreign=n) for n in LEVELS)),)


def main() -> None:
    """Measure each case in each round and print one line of JSON."""
    asked = arguments(__doc__ or "", packets=2000)
    costs: dict[Case, list[Cost]] = {case: [] for case in CASES}
    sent = list(packets(asked.packets))
    between_two = list(packets(asked.packets, are_hosts_random=False))
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", range(1, 7))
        with open_management("s1", timeout_s=60) as switch:
            for number in range(asked.runs):
                for case in CASES if number % 2 == 0 else reversed(CASES):
                    install_world(switch, world(case))
                    costs[case].append(cost(ends, between_two if case.sensors else sent))
                print(f"  round {number + 1}: {show_megaflows(costs, -1)}", flush=True)
    base, most = costs[Case()], costs[CASES[-1]]
    result = Result(tuple(c.first for c in most), tuple(c.first for c in base))
    report(
        "megaflow", "the same session without rules", result, "CPU s/packet",
        case=str(CASES[-1]), packets=len(sent), rows=rows(costs),
    )  # fmt: skip


def rows(costs: dict[Case, list[Cost]]) -> dict[str, dict[str, float]]:
    """Medians of each case; CPU as ratios to the base case in the same round.

    That is the case without rules, or, for pools, with one sensor.
    """

    def base(case: Case) -> list[Cost]:
        return costs[POOLS[0] if case.sensors else Case()]

    return {
        str(case): {
            "megaflows": statistics.median(c.megaflows for c in found),
            "masks": statistics.median(c.masks for c in found),
            "cpu_first": _ratio([c.first for c in found], [c.first for c in base(case)]),
            "cpu_cached": _ratio([c.cached for c in found], [c.cached for c in base(case)]),
        }
        for case, found in costs.items()
    }


def show_megaflows(costs: dict[Case, list[Cost]], at: int) -> str:
    """The number of megaflows of each case in one round."""
    return ", ".join(f"{case}: {found[at].megaflows}" for case, found in costs.items())


def world(case: Case) -> World:
    """A and B in one network, C in another; a session watches A, others watch C."""
    networks = (Network(NetworkId("lan"), "lan", RED), Network(NetworkId("other"), "other", BLUE))
    ports = (
        Port(PortId("a"), "a", RED, networks[0].id, mac=EUI(MAC_A, version=48)),
        Port(PortId("b"), "b", RED, networks[0].id, mac=EUI(MAC_B, version=48)),
        Port(PortId("tap"), "tap", RED, None, PortKind.TAP),
        Port(PortId("c"), "c", BLUE, networks[1].id, mac=EUI(MAC_A, version=48)),
        Port(PortId("blue-tap"), "blue-tap", BLUE, None, PortKind.TAP),
        Port(PortId("tap-2"), "tap-2", RED, None, PortKind.TAP),
    )
    is_pool = case.sensors in ("by connection", "by hosts")
    to = Collector(
        CollectorId("ids"), "ids", RED,
        (PortId("tap"), PortId("tap-2")) if is_pool else (PortId("tap"),),
        balance=Balance.HOSTS if case.sensors == "by hosts" else Balance.CONNECTION,
    )  # fmt: skip
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
            collector={to.id: 1, to_blue.id: 2},
        ),
        tuple(filters),
    )  # fmt: skip


def rules(count: int, seed: int) -> Iterator[Rule]:
    """Rules of four kinds in turn, with random values."""
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


def packets(count: int, are_hosts_random: bool = True) -> Iterator[bytes]:
    """Packets from A to B with random ports, and random addresses inside 10.0.0.0/8 or two."""
    rng = Random(0)
    for _ in range(count):
        source, target = (f"10.{rng.randrange(256)}.{rng.randrange(256)}.9" for _ in range(2))
        if not are_hosts_random:
            source, target = "10.0.0.1", "10.0.0.2"
        ports = rng.randrange(1024, 65536), rng.randrange(1024, 65536)
        protocol = rng.choice((6, 17))
        body = frames.tcp(*ports, 2, bytes(64)) if protocol == 6 else frames.udp(*ports, bytes(64))
        yield frames.ethernet(MAC_B, MAC_A, 0x0800, frames.ipv4(source, target, protocol, body))


def cost(ends: list[Endpoint], sent: list[bytes]) -> Cost:
    """Send everything twice, beginning without megaflows; production must lose nothing."""
    wait_until_idle(vswitchd_pid())
    purge_cache()
    first = send(ends, sent)
    dumped = run(["ovs-appctl", "dpctl/dump-flows", "-m", "filter=in_port=s1-eth1"]).splitlines()
    paths = [line for line in dumped if "in_port(s1-eth1)" in line]
    fields = (line.partition("recirc_id")[2].partition(", packets:")[0] for line in paths)
    masks = {VALUE.sub("", path) for path in fields}
    return Cost(len(paths), len(masks), first, send(ends, sent))


def wait_until_idle(pid: int) -> None:
    """Wait until a process is idle: flows of the previous case are freed after they are deleted."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        before = process_cpu(pid)
        time.sleep(0.1)
        if process_cpu(pid) - before < 0.005:
            return
        assert time.monotonic() < deadline, "Open vSwitch does not become idle"


def send(ends: list[Endpoint], sent: list[bytes]) -> float:
    """CPU seconds of ovs-vswitchd for each packet that A sends and B has received."""
    pid = vswitchd_pid()
    before, cpu = received(ends[1:2]), process_cpu(pid)
    for at in range(0, len(sent), BURST):
        for frame in sent[at : at + BURST]:
            ends[0].send(frame)
        wanted, deadline = before + min(at + BURST, len(sent)), time.monotonic() + LIMIT_S
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
