"""From the request for a session to its first copy, with many sessions on the bridge already.

A workload sends a frame every half millisecond; the clock runs from the start of
`POST /v1/sessions` to the first frame at the tap port. Peer: `ovs-vsctl` that creates a native
Mirror on the same bridge, and the change of a flow without which cached paths go on as before.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.bench_datapath import native_copy
from bench.measure import Result, arguments, report
from controller.store import Store
from flows.model.session import (
    Collector,
    CollectorId,
    Direction,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)
from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl

RED = TenantName("red")
NETWORKS = 20
"""Networks of the sessions that are there before; each has one workload."""
LEVELS = (10, 1000, 10_000)
PATIENCE_S = 20.0
SPARE_ONLY = "cookie=0x5/-1"
SPARE = "cookie=0x5,priority=1,in_port=99,actions=drop"
MAC_A, MAC_B = 0x02000000000A, 0x02000000000B


def main() -> None:
    """Compare at each level; print one line of JSON for the highest, with all of them in it."""
    asked = arguments(__doc__ or "", runs=20, sessions=LEVELS[-1])
    levels: dict[int, dict[str, float]] = {}
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", range(1, NETWORKS + 5))
        frame = frames.ethernet(
            MAC_B, MAC_A, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 17, bytes(64)), ()
        )
        for count in [level for level in LEVELS if level <= asked.sessions]:
            with tempfile.TemporaryDirectory() as name:
                ours, peers = at_level(lab, ends, frame, Path(name), count, asked.runs)
            levels[count] = shown(ours, peers)
            print(f"  {count} sessions: {levels[count]}", flush=True)
    lowest, highest = min(levels), max(levels)
    report(
        "latency", "ovs-vsctl that creates a native Mirror",
        Result(tuple(ours), tuple(peers)), "s", levels=levels,
        growth=round(levels[highest]["ours_p50_ms"] / levels[lowest]["ours_p50_ms"], 2),
    )  # fmt: skip


def at_level(
    lab: Lab, ends: list[Endpoint], frame: bytes, folder: Path, count: int, runs: int
) -> tuple[list[float], list[float]]:
    """Times of both ways in turn, with ``count`` sessions there."""
    fill(folder / "state", count)
    ours: list[float] = []
    peers: list[float] = []
    with ControllerProcess(folder, inventory()) as controller:
        controller.api.timeout = PATIENCE_S
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
            # Open vSwitch 3.1 goes on with cached paths until the next change of flows
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
    """Seconds from the call of ``begin`` to the first frame at the tap port; undone afterwards."""
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
        assert time.perf_counter() - started < PATIENCE_S, "no copy came"
    seen = time.perf_counter() - started
    asking.join()
    undo[0]()
    return seen


def inventory() -> str:
    """A and B in one network with a tap port each for ours and the others, and NETWORKS more."""
    lines = ["tenants: [red]", "networks:", "  - {name: lan, tenant: red}"]
    lines += [f"  - {{name: n{n}, tenant: red}}" for n in range(NETWORKS)]
    lines.append("ports:")
    ports = [
        {"id": "a", "network": "lan", "mac": "02:00:00:00:00:0a"},
        {"id": "b", "network": "lan", "mac": "02:00:00:00:00:0b"},
        {"id": "tap", "kind": "tap"},
        {"id": "others", "kind": "tap"},
        *({"id": f"vm{n}", "network": f"n{n}"} for n in range(NETWORKS)),
    ]
    for number, port in enumerate(ports, 1):
        whole = {"tenant": "red", "interface": f"s1-eth{number}", "bridge": "s1", **port}
        lines.append(f"  - {json.dumps(whole)}")
    return "\n".join(lines) + "\n"


def fill(directory: Path, count: int) -> None:
    """Store sessions of the workloads that nobody sends from."""
    store = Store(directory)
    for name, tap in (("measured", "tap"), ("others", "others")):
        store.add_collector(Collector(CollectorId(name), name, RED, (PortId(tap),)), "bench")
    for n in range(count):
        source = Source((PortId(f"vm{n % NETWORKS}"),))
        session = Session(
            SessionId(f"s{n}"), f"s{n}", RED, source, CollectorId("others"), Direction.EGRESS
        )
        store.add_session(session, "bench")
    store.close()


def shown(ours: list[float], peers: list[float]) -> dict[str, float]:
    """Medians and the slowest but one of a hundred, in milliseconds."""
    found = {}
    for name, times in (("ours", ours), ("peer", peers)):
        ordered = sorted(times)
        at = min(len(ordered) - 1, round(len(ordered) * 0.99))
        found[f"{name}_p50_ms"] = round(statistics.median(ordered) * 1e3, 1)
        found[f"{name}_p99_ms"] = round(ordered[at] * 1e3, 1)
    return found


if __name__ == "__main__":
    main()
