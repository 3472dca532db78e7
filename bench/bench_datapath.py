"""What a copy costs in the data path: CPU of ovs-vswitchd for each frame that it delivers.

A sends to B at a fixed rate; a tap port gets copies. Peer: a native Mirror of Open vSwitch on the
same bridge with the same production flows. Reported too: without a tap, and three copies.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netaddr import EUI

from bench.measure import arguments, interleave, process_cpu, report, vswitchd_pid
from controller.southbound.management import ManagedSwitch, open_management
from flows.compile import Survey, compile_bridge
from flows.diff import plan
from flows.model import (
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
from flows.world import Numbers, Placement, World
from tests import frames
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, purge_cache, vsctl

RED = TenantName("red")
MAC_A, MAC_B = 0x02000000000A, 0x02000000000B
BURST = 20


def main() -> None:
    """Compare, and print one line of JSON."""
    asked = arguments(__doc__ or "", rate=20_000, milliseconds=2000)
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        ends = lab.add_ports("s1", [1, 2, 3, 4, 5])
        with open_management("s1") as switch:

            def cost(copies: int) -> float:
                bring(switch, copies)
                return cpu_of_a_frame(ends, copies, asked.rate, asked.milliseconds / 1000)

            def native() -> float:
                bring(switch, 0)
                with native_copy("s1-eth1", "s1-eth3"):
                    return cpu_of_a_frame(ends, 1, asked.rate, asked.milliseconds / 1000)

            cost(1)  # everything is warm
            result = interleave(lambda: cost(1), native, asked.runs)
            others = {copies: [cost(copies) for _ in range(asked.runs)] for copies in (0, 3)}
    report(
        "datapath", "native Mirror of Open vSwitch", result, "CPU s/frame",
        us_per_frame={
            "no tap": round(statistics.median(others[0]) * 1e6, 3),
            "native": round(statistics.median(result.peers) * 1e6, 3),
            "one copy": round(statistics.median(result.ours) * 1e6, 3),
            "three copies": round(statistics.median(others[3]) * 1e6, 3),
        },
        rate=asked.rate,
    )  # fmt: skip


def bring(switch: ManagedSwitch, copies: int) -> None:
    """Make the bridge one where A is watched by that many sessions."""
    flows = compile_bridge(Dpid(1), Survey(world(copies)))
    todo = plan(flows, switch.our_flows())
    assert switch.apply(todo) == ()


def world(copies: int) -> World:
    """A and B in one network, and tap ports at 3, 4 and 5."""
    network = Network(NetworkId("lan"), "lan", RED)
    macs = {"a": MAC_A, "b": MAC_B}
    ports = [Port(PortId(n), n, RED, network.id, mac=EUI(m, version=48)) for n, m in macs.items()]
    taps = [Port(PortId(f"t{n}"), f"t{n}", RED, None, PortKind.TAP) for n in range(3)]
    collectors = tuple(Collector(CollectorId(f"c{t.id}"), f"c{t.id}", RED, (t.id,)) for t in taps)
    sessions = tuple(
        Session(
            SessionId(f"s{n}"), f"s{n}", RED, Source((PortId("a"),)), collectors[n].id,
            Direction.EGRESS,
        )
        for n in range(copies)
    )  # fmt: skip
    every = (*ports, *taps)
    return World(
        (network,), every, collectors, sessions,
        {port.id: Placement(Dpid(1), Ofport(n)) for n, port in enumerate(every, 1)}, (),
        Numbers(
            {network.id: 1}, {port.id: n for n, port in enumerate(every, 1)},
            {session.id: n for n, session in enumerate(sessions, 1)},
        ),
    )  # fmt: skip


def cpu_of_a_frame(ends: list[Endpoint], copies: int, rate: int, duration: float) -> float:
    """CPU seconds of ovs-vswitchd for each frame that came out of any port."""
    purge_cache()  # a Mirror that comes or goes leaves cached paths as they were
    payload = frames.udp(1000, 2000, bytes(200))
    packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, payload)
    frame = frames.ethernet(MAC_B, MAC_A, 0x0800, packet, ())
    pid = vswitchd_pid()
    delivered, cpu, began = received(ends), process_cpu(pid), time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - began) < duration:
        if sent < now * rate:
            for _ in range(BURST):
                ends[0].send(frame)
            sent += BURST
    time.sleep(0.1)  # what is under way arrives
    spent, arrived = process_cpu(pid) - cpu, received(ends) - delivered
    wanted = sent * (1 + copies)
    assert wanted * 0.8 < arrived < wanted * 1.02, f"of {wanted} frames {arrived} arrived"
    for end in ends:
        while end.receive_raw() is not None:
            pass
    return spent / arrived


def received(ends: list[Endpoint]) -> int:
    """Frames that came out of the bridge to its endpoints."""
    counters = (Path(f"/sys/class/net/{end.far}/statistics/rx_packets") for end in ends)
    return sum(int(counter.read_text()) for counter in counters)


@contextmanager
def native_copy(source: str, output: str) -> Iterator[None]:
    """A Mirror of Open vSwitch of what enters by one port."""
    vsctl(
        "--", "--id=@s", "get", "Port", source, "--", "--id=@o", "get", "Port", output,
        "--", "--id=@m", "create", "Mirror", "name=native", "select_src_port=@s",
        "output_port=@o", "--", "set", "Bridge", "s1", "mirrors=@m",
    )  # fmt: skip
    try:
        yield
    finally:
        vsctl("clear", "Bridge", "s1", "mirrors")


if __name__ == "__main__":
    main()
