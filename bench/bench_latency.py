"""Time from the request for a session to its first copy, with many sessions on the bridge.

A workload sends a frame every half millisecond; the clock runs from the start of
`POST /v1/sessions` to the first frame at the tap port. Peer: `ovs-vsctl` that creates a native
Mirror on the same bridge, and a change of a flow, without which the megaflows stay as they are.
The level `foreign` has another tenant at its limits beside: its network is full of capped sessions,
more are refused, and some have large filters.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from netaddr import IPAddress, IPNetwork

from bench.bench_datapath import native_copy
from bench.measure import Result, arguments, report
from controller.store import Store
from flows.model import (
    ALL,
    Collector,
    CollectorId,
    Direction,
    Filter,
    FilterId,
    PortId,
    Rate,
    RateUnit,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    TenantName,
    Verdict,
)
from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl

RED, BLUE = TenantName("red"), TenantName("blue")
FOREIGN_SESSIONS, FOREIGN_FILTERS, FOREIGN_RULES = 300, 2, 10_000
NETWORKS = 20
"""Networks of the sessions that exist before; each has one workload."""
LEVELS = (10, 1000, 10_000)
LIMIT_S = 20.0
SPARE_ONLY = "cookie=0x5/-1"
SPARE = "cookie=0x5,priority=1,in_port=99,actions=drop"
MAC_A, MAC_B = 0x02000000000A, 0x02000000000B


def main() -> None:
    """Compare at each number of sessions; print one line of JSON: the highest is the result."""
    asked = arguments(__doc__ or "", runs=20, sessions=LEVELS[-1], foreign=FOREIGN_SESSIONS)
    levels: dict[str, dict[str, float]] = {}
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", range(1, NETWORKS + 7))
        frame = frames.ethernet(
            MAC_B, MAC_A, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 17, bytes(64)), ()
        )
        loads = [(str(level), level, 0) for level in LEVELS if level <= asked.sessions]
        loads.insert(1, ("foreign", LEVELS[0], asked.foreign))
        for level, count, foreign in loads:
            with tempfile.TemporaryDirectory() as name:
                add_sessions(Path(name) / "state", count, foreign)
                ours, peers = measure_level(lab, ends, frame, Path(name), asked.runs)
            levels[level] = percentiles(ours, peers)
            print(f"  {level} sessions: {levels[level]}", flush=True)
    lowest, highest = loads[0][0], loads[-1][0]
    report(
        "latency", "ovs-vsctl that creates a native Mirror",
        Result(tuple(ours), tuple(peers)), "s", levels=levels,
        growth=round(levels[highest]["ours_p50_ms"] / levels[lowest]["ours_p50_ms"], 2),
    )  # fmt: skip


def measure_level(
    lab: Lab, ends: list[Endpoint], frame: bytes, folder: Path, runs: int
) -> tuple[list[float], list[float]]:
    """Times of both in turn, with the sessions of a state folder."""
    ours: list[float] = []
    peers: list[float] = []
    with ControllerProcess(folder, inventory()) as controller:
        controller.api.timeout = LIMIT_S
        controller.start()
        vsctl("set-controller", "s1", TARGET)
        controller.wait_until_connected("s1")
        controller.wait_for_bridge("s1")
        body = {
            "tenant": "red", "name": "measured", "source": {"kind": "port", "ports": ["a"]},
            "collector": "measured", "direction": "egress",
        }  # fmt: skip

        def post() -> Callable[[], object]:
            answer = controller.api.post("/v1/sessions", json=body)
            assert answer.status_code == 201, answer.text
            return lambda: controller.delete_session("measured")

        def native() -> Callable[[], object]:
            copying = native_copy("s1-eth1", "s1-eth3")
            copying.__enter__()
            # Open vSwitch 3.1 keeps its megaflows until the next change of a flow
            ofctl("add-flow", "s1", SPARE)
            return lambda: (
                copying.__exit__(None, None, None),
                ofctl("del-flows", "s1", SPARE_ONLY),
            )

        for _ in range(runs):
            ours.append(first_copy(ends, frame, post))
            peers.append(first_copy(ends, frame, native))
    return ours, peers


def first_copy(
    ends: list[Endpoint], frame: bytes, begin: Callable[[], Callable[[], object]]
) -> float:
    """Seconds from the call of ``begin``, which returns its undo, to the first frame at the tap."""
    sender, tap = ends[0], ends[2]
    while tap.receive_raw() is not None:
        pass
    undo: list[Callable[[], object]] = []
    started = time.perf_counter()
    asking = threading.Thread(target=lambda: undo.append(begin()))
    asking.start()
    while tap.receive_raw() is None:
        sender.send(frame)
        time.sleep(0.0005)
        assert time.perf_counter() - started < LIMIT_S, "no copy arrived"
    seen = time.perf_counter() - started
    asking.join()
    undo[0]()
    return seen


def inventory() -> str:
    """A and B in one network, two tap ports (measured and others), and NETWORKS more networks.

    And another tenant with one network.
    """
    lines = ["tenants: [red, blue]", "networks:", "  - {name: lan, tenant: red}"]
    lines.append("  - {name: lan, tenant: blue}")
    lines += [f"  - {{name: n{n}, tenant: red}}" for n in range(NETWORKS)]
    lines.append("ports:")
    ports = [
        {"id": "a", "network": "lan", "mac": "02:00:00:00:00:0a"},
        {"id": "b", "network": "lan", "mac": "02:00:00:00:00:0b"},
        {"id": "tap", "kind": "tap"},
        {"id": "others", "kind": "tap"},
        *({"id": f"vm{n}", "network": f"n{n}"} for n in range(NETWORKS)),
        {"id": "foreign", "tenant": "blue", "network": "lan"},
        {"id": "foreign-tap", "tenant": "blue", "kind": "tap"},
    ]
    for number, port in enumerate(ports, 1):
        whole = {"tenant": "red", "interface": f"s1-eth{number}", "bridge": "s1", **port}
        lines.append(f"  - {json.dumps(whole)}")
    return "\n".join(lines) + "\n"


def add_sessions(directory: Path, count: int, foreign: int = 0) -> None:
    """Store sessions whose workloads send nothing; ``foreign`` more are capped ones of blue.

    A few of those have large filters.
    """
    store = Store(directory)
    for name, tap in (("measured", "tap"), ("others", "others")):
        store.collectors.add(Collector(CollectorId(name), name, RED, (PortId(tap),)), "bench")
    for n in range(count):
        source = Source((PortId(f"vm{n % NETWORKS}"),))
        session = Session(
            SessionId(f"s{n}"), f"s{n}", RED, source, CollectorId("others"), Direction.EGRESS
        )
        store.sessions.add(session, "bench")
    if foreign:
        taps = (PortId("foreign-tap"),)
        theirs = Collector(CollectorId("foreign"), "foreign", BLUE, taps)
        store.collectors.add(theirs, "bench")
        for n in range(FOREIGN_FILTERS):
            rules = tuple(
                Rule(
                    m,
                    Verdict.ACCEPT,
                    RuleMatch(eth_type=0x0800, source=IPNetwork(IPAddress(10 << 24 | m << 4 | n))),
                )
                for m in range(1, FOREIGN_RULES + 1)
            )
            store.filters.add(Filter(FilterId(f"f{n}"), f"f{n}", BLUE, rules, rules), "bench")
    for n in range(foreign):
        session = Session(
            SessionId(f"b{n}"), f"b{n}", BLUE, Source((PortId("foreign"),)), theirs.id,
            max_rate=Rate(RateUnit.KBPS, 1000),
            filter=FilterId(f"f{n}") if n < FOREIGN_FILTERS else ALL,
        )  # fmt: skip
        store.sessions.add(session, "bench")
    store.close()


def percentiles(ours: list[float], peers: list[float]) -> dict[str, float]:
    """50th and 99th percentiles, in milliseconds."""
    found = {}
    for name, times in (("ours", ours), ("peer", peers)):
        ordered = sorted(times)
        at = min(len(ordered) - 1, round(len(ordered) * 0.99))
        found[f"{name}_p50_ms"] = round(statistics.median(ordered) * 1e3, 1)
        found[f"{name}_p99_ms"] = round(ordered[at] * 1e3, 1)
    return found


if __name__ == "__main__":
    main()
