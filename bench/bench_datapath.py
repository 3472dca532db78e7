"""The cost of a copy in the datapath: CPU time of ovs-vswitchd for each frame that it delivers.

A sends to B at a fixed rate; tap ports, or a remote sensor, receive copies. Peer: a native Mirror
of Open vSwitch on the same bridge with the same production flows. Every round runs every case.

On the kernel datapath (tools/kernel-lab) the sender carries each frame to its receivers itself, on
the only processor: the cost is the CPU time of the whole guest, and includes sending (to 10 ms:
send some thousand frames). So the cost of a copy alone is given as well: what it adds to "no tap".
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from netaddr import EUI, IPAddress, IPNetwork

from bench.measure import Result, arguments, process_cpu, report, vswitchd_pid
from bench.worlds import install_world
from controller.southbound.openflow import open_management
from flows.model import (
    ALL,
    METERS,
    Collector,
    CollectorId,
    Delivery,
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
)
from tests import frames
from tests.datapath import datapaths
from tests.ovs.datapath import DATAPATH, IS_KERNEL
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, purge_cache, vsctl
from tests.ovs.underlay import SENSORS, Underlay
from tests.ovs.waiting import wait_for

RED = TenantName("red")
MAC_A, MAC_B = 0x02000000000A, 0x02000000000B
BURST = 20
PORT = 2000
WEB = Filter(
    FilterId("web"), "web", RED,
    egress=(
        Rule(10, Verdict.REJECT, RuleMatch(protocol=6, destination_port=(PortRange(22, 22),))),
        Rule(20, Verdict.REJECT, RuleMatch(destination=IPNetwork("10.9.0.0/16"))),
        Rule(30, Verdict.ACCEPT, RuleMatch(protocol=17, destination_port=(PortRange(PORT, PORT),))),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How frames are copied: number of sessions, filter, delivery and rate cap."""

    name: str
    copies: int = 1
    filter: FilterId = ALL
    delivery: Delivery = Delivery.PORT
    max_rate: Rate | None = None


ONE = Case("one copy")
CASES = (
    Case("no tap", copies=0),
    ONE,
    Case("filtered copy", filter=WEB.id),
    Case("capped copy", max_rate=Rate(RateUnit.PPS, 1_000_000)),
    Case("VXLAN copy", delivery=Delivery.VXLAN),
    Case("three copies", copies=3),
)
NATIVE = Case("native", copies=1)


def main() -> None:
    """Run every case in each round and print one line of JSON."""
    asked = arguments(__doc__ or "", rate=20_000, milliseconds=2000)
    costs: dict[Case, list[float]] = {case: [] for case in (*CASES, NATIVE)}
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", [1, 2, 3, 4, 5])
        underlay = Underlay(lab, mtu=1600)
        tunnels = underlay.add_tunnels("s1", Dpid(1))
        ends.append(underlay.end)
        with open_management("s1") as switch:

            def cost(case: Case) -> float:
                install_world(switch, world(case if case is not NATIVE else CASES[0], tunnels))
                copying = native_copy("s1-eth1", "s1-eth3") if case is NATIVE else nullcontext()
                with copying:
                    return cpu_of_a_frame(ends, case.copies, asked.rate, asked.milliseconds / 1000)

            cost(ONE)  # warm-up
            for number in range(asked.runs):
                for case in list(costs) if number % 2 == 0 else reversed(costs):
                    costs[case].append(cost(case))
                latest = ", ".join(f"{c.name} {found[-1] * 1e6:.1f}" for c, found in costs.items())
                print(f"  round {number + 1}, us a frame: {latest}", flush=True)
    results = {case: Result(tuple(costs[case]), tuple(costs[NATIVE])) for case in costs}
    report(
        f"datapath ({DATAPATH})", "native Mirror of Open vSwitch", results[ONE], "CPU s/frame",
        copy_alone_us={c.name: round(added(costs, c) * 1e6, 3) for c in (*CASES[1:], NATIVE)},
        us_per_frame={c.name: round(statistics.median(f) * 1e6, 3) for c, f in costs.items()},
        ratios={case.name: round(results[case].ratio, 2) for case in CASES},
        spreads={c.name: [round(edge(results[c].ratios), 2) for edge in (min, max)] for c in CASES},
        rate=asked.rate,
    )  # fmt: skip


def added(costs: Mapping[Case, list[float]], case: Case) -> float:
    """CPU seconds that the copies of a case add to a frame that is only delivered."""
    none = CASES[0]
    return statistics.median(
        of_case * (1 + case.copies) - of_none
        for of_case, of_none in zip(costs[case], costs[none], strict=True)
    )


def world(case: Case, tunnels: Mapping[tuple[Dpid, TunnelKind], int]) -> World:
    """A and B in one network, and tap ports at 3, 4 and 5; sessions watch what A sends."""
    network = Network(NetworkId("lan"), "lan", RED)
    macs = {"a": MAC_A, "b": MAC_B}
    ports = [Port(PortId(n), n, RED, network.id, mac=EUI(m, version=48)) for n, m in macs.items()]
    taps = [Port(PortId(f"t{n}"), f"t{n}", RED, None, PortKind.TAP) for n in range(3)]
    far = Collector(
        CollectorId("far"), "far", RED, (IPAddress(SENSORS[0]),), delivery=Delivery.VXLAN, key=7001
    )
    collectors = [Collector(CollectorId(f"c{t.id}"), f"c{t.id}", RED, (t.id,)) for t in taps]
    sessions = tuple(
        Session(
            SessionId(f"s{n}"), f"s{n}", RED, Source((PortId("a"),)),
            (collectors[n] if case.delivery is Delivery.PORT else far).id,
            Direction.EGRESS, filter=case.filter, max_rate=case.max_rate,
        )
        for n in range(case.copies)
    )  # fmt: skip
    every = (*ports, *taps)
    return World(
        (network,), every, (*collectors, far), sessions,
        {port.id: Placement(Dpid(1), Ofport(n)) for n, port in enumerate(every, 1)}, (),
        Numbers(
            {network.id: 1}, {port.id: n for n, port in enumerate(every, 1)},
            {session.id: n for n, session in enumerate(sessions, 1)},
            filter={WEB.id: 1},
            meter={session.id: METERS.start + n for n, session in enumerate(sessions)},
        ),
        (WEB,),
        tunnels={key: Ofport(ofport) for key, ofport in tunnels.items()}, underlay_mtu=1600,
        datapaths=datapaths([Dpid(1)]),
    )  # fmt: skip


def cpu_of_a_frame(ends: list[Endpoint], copies: int, rate: int, duration: float) -> float:
    """CPU seconds that the datapath used for each frame that was output to any port."""
    purge_cache()  # megaflows do not follow a Mirror that is added or removed
    payload = frames.udp(1000, PORT, bytes(200))
    packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, payload)
    frame = frames.ethernet(MAC_B, MAC_A, 0x0800, packet, ())
    if IS_KERNEL:
        before = received(ends)
        ends[0].send(frame)  # later ones hit its megaflow; an upcall would find no CPU
        wait_for(lambda: received(ends) - before, (1 + copies).__eq__)
    delivered, cpu = received(ends), datapath_cpu()
    sent = (
        send_all(ends[0], frame, rate, duration)
        if IS_KERNEL
        else send_at(ends[0], frame, rate, duration)
    )
    time.sleep(0.1)  # frames in flight arrive
    spent, arrived = datapath_cpu() - cpu, received(ends) - delivered
    wanted = sent * (1 + copies)
    assert wanted * 0.8 < arrived < wanted * 1.02, f"of {wanted} frames {arrived} arrived"
    for end in ends:
        while end.receive_raw() is not None:
            pass
    return spent / arrived


def send_at(end: Endpoint, frame: bytes, rate: int, duration: float) -> int:
    """Send at a rate, for so many seconds; returns how many frames."""
    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < duration:
        if sent < now * rate:
            for _ in range(BURST):
                end.send(frame)
            sent += BURST
    return sent


def send_all(end: Endpoint, frame: bytes, rate: int, duration: float) -> int:
    """Send as many frames without a pause: waiting at a rate would cost CPU time of its own."""
    frames_to_send = round(rate * duration)
    for _ in range(frames_to_send):
        end.send(frame)
    return frames_to_send


def datapath_cpu() -> float:
    """CPU seconds so far: of ovs-vswitchd, or of the whole guest where the kernel forwards."""
    if not IS_KERNEL:
        return process_cpu(vswitchd_pid())
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, line.split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def received(ends: list[Endpoint]) -> int:
    """How many frames the endpoints have received."""
    counters = (Path(f"/sys/class/net/{end.far}/statistics/rx_packets") for end in ends)
    return sum(int(counter.read_text()) for counter in counters)


@contextmanager
def native_copy(source: str, output: str, bridge: str = "s1") -> Iterator[None]:
    """An Open vSwitch Mirror that copies what enters by one port."""
    vsctl(
        "--", "--id=@s", "get", "Port", source, "--", "--id=@o", "get", "Port", output,
        "--", "--id=@m", "create", "Mirror", "name=native", "select_src_port=@s",
        "output_port=@o", "--", "set", "Bridge", bridge, "mirrors=@m",
    )  # fmt: skip
    try:
        yield
    finally:
        vsctl("clear", "Bridge", bridge, "mirrors")


if __name__ == "__main__":
    main()
