"""The cost of a copy on an attached bridge: CPU time of ovs-vswitchd for each frame of a workload.

A sends to B at a fixed rate over a bridge of somebody else that switches by itself (NORMAL). Peer:
a native Mirror of the same port whose output is a port of that bridge. Ours: Mirror, patch port,
tap bridge and its flows, with one session that accepts everything, and with one whose filter
accepts the frames by its third rule, or rejects all of them. Every round runs every case.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.bench_datapath import BURST, native_copy, received
from bench.measure import Result, arguments, process_cpu, report, vswitchd_pid
from tests import frames
from tests.ovs.attached_cloud import OWNER, TAP, cloudtap
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.datapath import DATAPATH, IS_KERNEL
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, purge_cache, vsctl
from tests.ovs.waiting import wait_for

MAC_A, MAC_B, PORT = 0x02000000000A, 0x02000000000B, 2000
INVENTORY = f"""\
tenants: [red]
networks: [{{name: lan, tenant: red}}]
ports:
  - {{id: a, tenant: red, network: lan, mac: "02:00:00:00:00:0a", interface: {OWNER}-eth1}}
  - {{id: b, tenant: red, network: lan, mac: "02:00:00:00:00:0b", interface: {OWNER}-eth2}}
  - {{id: ids, tenant: red, kind: tap, interface: {TAP}-eth5}}
"""
REJECTED = [
    {"number": 10, "action": "reject", "match": {"protocol": "tcp", "destination_port": "22"}},
    {"number": 20, "action": "reject", "match": {"destination": "10.9.0.0/16"}},
]
ACCEPTED = {
    "number": 30, "action": "accept",
    "match": {"protocol": "udp", "destination_port": str(PORT)},
}  # fmt: skip
FILTERS: dict[str, list[dict[str, Any]]] = {"web": [*REJECTED, ACCEPTED], "none": REJECTED}


@dataclass(frozen=True)
class Case:
    """How what A sends is copied, and how many copies of each frame arrive."""

    name: str
    copies: int
    filter: str | None = None


NONE, NATIVE = Case("no tap", 0), Case("native", 1)
SESSIONS = (
    Case("a session", 1, "all"),
    Case("a filtered session", 1, "web"),
    Case("a session that rejects all", 0, "none"),
)
CASES = (NONE, *SESSIONS, NATIVE)


def main() -> None:
    """Run every case in each round and print one line of JSON."""
    asked = arguments(__doc__ or "", rate=4000, milliseconds=2000)
    if IS_KERNEL:
        raise SystemExit("bench attach measures ovs-vswitchd, which forwards in userspace alone")
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        vsctl("add-br", OWNER, "--", "set", "Bridge", OWNER, f"datapath_type={DATAPATH}")
        lab.bridges.append(OWNER)
        ends = lab.add_ports(OWNER, [1, 2, 3])
        vsctl("set", "Port", ends[2].interface, "trunks=4095")  # only the native Mirror sends there
        cloudtap("attach", OWNER)
        ends += lab.add_ports(TAP, [5])
        with ControllerProcess(Path(folder), INVENTORY) as controller:
            controller.start(TAP)
            controller.create_collector("red", "to", "ids")
            for name, egress in FILTERS.items():
                body = {"name": name, "tenant": "red", "egress": egress, "ingress": []}
                controller.api.post("/v1/filters", json=body).raise_for_status()
            costs = measure(
                lambda case: _cost(controller, case, ends, asked.rate, asked.milliseconds / 1000),
                asked.runs,
            )
        lab.on_close(lambda: vsctl("--if-exists", "del-br", TAP) and None)
    results = {case: Result(tuple(costs[case]), tuple(costs[NATIVE])) for case in CASES}
    report(
        f"attach ({DATAPATH})", "native Mirror of Open vSwitch to a port of the bridge",
        results[SESSIONS[0]], "CPU s/frame sent",
        us_per_frame={c.name: round(statistics.median(f) * 1e6, 3) for c, f in costs.items()},
        ratios={case.name: round(results[case].ratio, 2) for case in CASES},
        spreads={c.name: [round(edge(results[c].ratios), 2) for edge in (min, max)] for c in CASES},
        rate=asked.rate,
    )  # fmt: skip


def measure(cost: Callable[[Case], float], runs: int) -> dict[Case, list[float]]:
    """The costs of every case, by round; every other round runs them in reverse."""
    costs: dict[Case, list[float]] = {case: [] for case in CASES}
    cost(SESSIONS[0])  # warm-up
    for number in range(runs):
        for case in CASES if number % 2 == 0 else reversed(CASES):
            costs[case].append(cost(case))
        latest = ", ".join(f"{c.name} {found[-1] * 1e6:.1f}" for c, found in costs.items())
        print(f"  round {number + 1}, us a frame: {latest}", flush=True)
    return costs


def _cost(
    controller: ControllerProcess, case: Case, ends: list[Endpoint], rate: int, duration: float
) -> float:
    """CPU seconds of ovs-vswitchd for each frame that A has sent."""
    copying: AbstractContextManager[None] = nullcontext()
    if case.filter is not None:
        copying = _session(controller, case.filter)
    elif case is NATIVE:
        copying = native_copy(ends[0].interface, ends[2].interface, OWNER)
    with copying:
        purge_cache()
        ends[1].send(frames.pad(frames.ethernet(MAC_A, MAC_B, 0x88B6, b"")))  # B is learned
        packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1000, PORT, bytes(200)))
        frame = frames.ethernet(MAC_B, MAC_A, 0x0800, packet)
        _warm_up(ends, frame, case)
        before, cpu = received(ends), process_cpu(vswitchd_pid())
        sent = _send_paced(ends[0], frame, rate, duration)
        time.sleep(0.1)  # frames in flight arrive
        spent, arrived = process_cpu(vswitchd_pid()) - cpu, received(ends) - before
        wanted = sent * (1 + case.copies)
        assert wanted * 0.8 < arrived < wanted * 1.02, f"of {wanted} frames {arrived} arrived"
        return spent / (arrived / (1 + case.copies))


def _send_paced(end: Endpoint, frame: bytes, rate: int, duration: float) -> int:
    """Send at a rate, for so many seconds; returns how many frames.

    What a stall of this process has delayed is not made up for: it would overflow the socket from
    which the datapath reads.
    """
    period = BURST / rate
    due = now = time.monotonic()
    over, sent = now + duration, 0
    while now < over:
        for _ in range(BURST):
            end.send(frame)
        sent += BURST
        due = max(due + period, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
        now = time.monotonic()
    return sent


def _warm_up(ends: list[Endpoint], frame: bytes, case: Case) -> None:
    """Send frames until one of them arrives as often as the case says."""

    def look() -> int:
        before = received(ends)
        ends[0].send(frame)
        time.sleep(0.05)
        return received(ends) - before

    wait_for(look, (1 + case.copies).__eq__)


@contextmanager
def _session(controller: ControllerProcess, wanted: str) -> Iterator[None]:
    """A session on what A sends; no Mirror of it is left behind."""
    controller.create_session("red", "one", ["a"], "to", filter=wanted, direction="egress")
    controller.wait_for_session("one")
    yield
    assert controller.delete_session("one") == 204
    wait_for(lambda: vsctl("--bare", "--columns=name", "list", "Mirror").split(), [].__eq__)


if __name__ == "__main__":
    main()
