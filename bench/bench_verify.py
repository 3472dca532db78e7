"""Verifies a bridge that has all its flows, as a controller does after a restart.

It requests the flows of the switch, compiles the world meanwhile, and finds nothing to do. Peer:
`ovs-ofctl dump-flows`. Also reported: reading and comparing alone, the cost of a periodic recheck.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from functools import cache

from bench.measure import arguments, interleave, report, seconds
from bench.worlds import FLOWS_OF_A_PORT, compiled, install_world, world_of
from controller.process import building_permanent_objects
from controller.southbound.openflow import open_management
from flows.plan import DesiredFlows, desired_flows_of, plan_from_scan, plan_meters
from tests.ovs.lab import Lab


def main() -> None:
    """Compare both and print one line of JSON."""
    asked = arguments(__doc__ or "", flows=100_000, runs=11)
    ports = asked.flows // FLOWS_OF_A_PORT + 1
    world = world_of(ports, ports)
    program = compiled(world)
    flows = tuple(program.flows)
    rechecks: list[float] = []
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        with open_management("s1", timeout_s=60) as switch:
            assert switch.probe() == ()
            install_world(switch, world)

            def compile_it() -> DesiredFlows:
                with building_permanent_objects():
                    return desired_flows_of(compiled(world).flows)

            def compare(compiling: Callable[[], DesiredFlows]) -> None:
                wanted = cache(compiling)
                assert not plan_meters(program.meters, switch.our_meters())
                seen = switch.scan(lambda: wanted().marks)
                todo = plan_from_scan(wanted(), seen)
                assert not todo and todo.kept == len(flows)

            def restart() -> None:
                compare(compile_it)

            def recheck(known: DesiredFlows) -> None:
                rechecks.append(seconds(lambda: compare(lambda: known)))

            def dump() -> None:
                command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "s1"]
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

            known = compile_it()

            def ours() -> float:
                recheck(known)
                return seconds(restart)

            result = interleave(ours, lambda: seconds(dump), asked.runs)
    ratios = [a / b for a, b in zip(rechecks, result.peers, strict=True)]
    report(
        "verify", "ovs-ofctl dump-flows", result, "s", flows=len(flows),
        recheck={
            "s": round(statistics.median(rechecks), 4),
            "ratio": round(statistics.median(ratios), 3),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
