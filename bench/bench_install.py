"""Installs all flows of an empty bridge as the controller does it, from a world in memory.

That is: resolve, compile, plan, encode, send, commit, barrier, and the bookkeeping of the writer;
the meters that count copies, and what drops copies, are added too.

Peer: `ovs-ofctl --bundle add-flows` of the same flows from a file, with the meters in place. Also
reported: the CPU time of ryu for encoding the same messages from existing objects.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measure import arguments, interleave, report, run, seconds
from bench.worlds import FLOWS_OF_A_PORT, compiled, world_of
from controller.reconcile import Snapshot
from controller.southbound.openflow import ManagedSwitch, open_management
from controller.southbound.wire import FlowTemplates, encode_flow_add
from flows.model import World
from flows.openflow import Flow
from flows.plan import Plan, plan_meters
from flows.resolve import ResolvedWorld
from tests.lone_writer import LoneWriter
from tests.ovs.lab import Lab, ofctl

RYU_SAMPLE = 1000


def main() -> None:
    """Compare both and print one line of JSON."""
    asked = arguments(__doc__ or "", flows=100_000, runs=11)
    world = world_of(asked.flows // FLOWS_OF_A_PORT + 1, asked.flows // FLOWS_OF_A_PORT + 1)
    program = compiled(world)
    flows = tuple(program.flows)
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        lab.add_bridge("s1", dpid=1)
        text = Path(folder) / "flows"
        text.write_text("".join(f"{flow}\n" for flow in flows))

        def ours() -> float:
            ofctl("del-flows", "s1")
            ofctl("del-meters", "s1")
            with open_management("s1", timeout_s=60) as switch:
                assert switch.probe() == ()
                return install(switch, world, len(flows))

        def theirs() -> float:
            ofctl("del-flows", "s1")
            with open_management("s1", timeout_s=60) as switch:
                assert switch.probe() == ()
                meters = plan_meters(program.meters, switch.our_meters())
                assert switch.apply(Plan((), (), 0, meters)) == ()
            command = ["ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", "s1", str(text)]
            return seconds(lambda: run(command))

        result = interleave(ours, theirs, asked.runs)
    report(
        "install", "ovs-ofctl --bundle add-flows", result, "s",
        flows=len(flows), meters=len(program.meters),
        against_ryu_objects=encoding_against_ryu(flows),
    )  # fmt: skip


def install(switch: ManagedSwitch, world: World, expected: int) -> float:
    """Seconds until the writer of an empty bridge has verified that it has all flows of a world."""
    lone = LoneWriter(switch, lambda: Snapshot(1, ResolvedWorld(world), (), world.numbers))
    took = seconds(lone.sync)
    lone.stop()
    seen = lone.writer.confirmed
    assert (seen.failure, seen.rejected, seen.flows) == (None, (), expected), seen.failure
    return took


def encoding_against_ryu(flows: tuple[Flow, ...]) -> dict[str, float]:
    """Messages encoded for each CPU second: by us, by ryu, and the ratio."""
    from controller.runtime import BACKEND  # loads ryu on a current eventlet

    assert BACKEND == "ryu"
    from ryu.ofproto import ofproto_v1_3, ofproto_v1_3_parser

    class Datapath:
        ofproto: Any = ofproto_v1_3
        ofproto_parser: Any = ofproto_v1_3_parser

    sample = flows[:: max(1, len(flows) // RYU_SAMPLE)][:RYU_SAMPLE]
    plain = [encode_flow_add(flow, 5) for flow in sample]
    objects = [
        ofproto_v1_3_parser.OFPFlowMod.parser(Datapath, 4, 14, len(data), 5, bytearray(data))
        for data in plain
    ]
    templates = FlowTemplates()
    begin = time.process_time()
    for _ in range(20):
        for flow in sample:
            templates.encode(flow, 5, 6)
    ours = len(sample) * 20 / (time.process_time() - begin)
    begin = time.process_time()
    for message in objects:
        message.serialize()
    theirs = len(sample) / (time.process_time() - begin)
    same = sum(bytes(m.buf)[8:] == data[8:] for m, data in zip(objects, plain, strict=True))
    return {
        "ours_per_cpu_s": round(ours),
        "ryu_per_cpu_s": round(theirs),
        "times": round(ours / theirs, 1),
        "same_bytes": round(same / len(sample), 3),
    }


if __name__ == "__main__":
    main()
