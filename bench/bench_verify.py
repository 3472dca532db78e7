"""What a controller does at a bridge that is right already, after it was restarted.

It has the switch list what is there, compiles the world meanwhile, and finds nothing to do. Peer:
`ovs-ofctl dump-flows`. Beside that: reading and comparing alone, which is what a periodic recheck
costs.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from functools import cache

from bench.measure import arguments, interleave, report, seconds
from bench.worlds import FLOWS_OF_A_PORT, world_of
from controller.process.garbage import making_what_stays
from controller.southbound.openflow.management import open_management
from flows.compile import Survey, compile_bridge
from flows.plan.plan import Wanted, plan, plan_from_scan, wanted_of
from flows.model.session import Dpid
from tests.ovs.lab import Lab


def main() -> None:
    """Compare, and print one line of JSON."""
    asked = arguments(__doc__ or "", flows=100_000, runs=11)
    ports = asked.flows // FLOWS_OF_A_PORT + 1
    world = world_of(ports, ports)
    flows = compile_bridge(Dpid(1), Survey(world))
    rechecks: list[float] = []
    with Lab() as lab:
        lab.add_bridge("s1", dpid=1)
        with open_management("s1", timeout_s=60) as switch:
            assert switch.apply(plan(flows, [])) == ()

            def compiled() -> Wanted:
                with making_what_stays():
                    return wanted_of(compile_bridge(Dpid(1), Survey(world)))

            def compare(compiling: Callable[[], Wanted]) -> None:
                wanted = cache(compiling)
                seen = switch.scan(lambda: wanted().marks)
                todo = plan_from_scan(wanted(), seen)
                assert not todo and todo.kept == len(flows)

            def restart() -> None:
                compare(compiled)

            def recheck(known: Wanted) -> None:
                rechecks.append(seconds(lambda: compare(lambda: known)))

            def dump() -> None:
                command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "s1"]
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

            known = compiled()

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
