"""A whole bridge of flows from nothing, as the controller does it, from a world in memory.

That is: survey, compile, plan, encode, send, commit, barrier, and all that its writer notes.

Peer: `ovs-ofctl --bundle add-flows` of the same flows from a file. For comparison, the CPU that
ryu needs for the same messages alone, from objects that exist already.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measure import arguments, interleave, report, run, seconds
from bench.worlds import FLOWS_OF_A_PORT, world_of
from controller.reconcile.snapshot import Snapshot
from controller.southbound.openflow.management import ManagedSwitch, open_management
from controller.southbound.wire.flow import encode_flow_add
from controller.southbound.wire.template import FlowTemplates
from flows.compile import Survey, compile_bridge
from flows.openflow.flow import Flow
from flows.model.session import Dpid
from flows.model.world import World
from tests.lone_writer import LoneWriter
from tests.ovs.lab import Lab, ofctl

RYU_SAMPLE = 1000


def main() -> None:
    """Compare, and print one line of JSON."""
    asked = arguments(__doc__ or "", flows=100_000, runs=11)
    world = world_of(asked.flows // FLOWS_OF_A_PORT + 1, asked.flows // FLOWS_OF_A_PORT + 1)
    flows = compile_bridge(Dpid(1), Survey(world))
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        lab.add_bridge("s1", dpid=1)
        text = Path(folder) / "flows"
        text.write_text("".join(f"{flow}\n" for flow in flows))

        def ours() -> float:
            ofctl("del-flows", "s1")
            with open_management("s1", timeout_s=60) as switch:
                assert switch.probe() == ()
                return install(switch, world, len(flows))

        def theirs() -> float:
            ofctl("del-flows", "s1")
            command = ["ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", "s1", str(text)]
            return seconds(lambda: run(command))

        result = interleave(ours, theirs, asked.runs)
    report(
        "install", "ovs-ofctl --bundle add-flows", result, "s",
        flows=len(flows), against_ryu_objects=encoding_against_ryu(flows),
    )  # fmt: skip


def install(switch: ManagedSwitch, world: World, expected: int) -> float:
    """Seconds until the writer of an empty bridge has verified that all of a world is there."""
    lone = LoneWriter(switch, lambda: Snapshot(1, Survey(world), (), world.numbers))
    took = seconds(lone.bring)
    lone.stop()
    seen = lone.writer.verified
    assert (seen.failure, seen.rejected, seen.flows) == (None, (), expected), seen.failure
    return took


def encoding_against_ryu(flows: tuple[Flow, ...]) -> dict[str, float]:
    """Messages for each second of CPU: ours, ryu's, and how many times more ours are."""
    from controller.runtime import repair

    repair.install()
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
