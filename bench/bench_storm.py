"""All switches reconnect at once: time until all are verified, delay of the event loop, memory.

The switches are fakes in one process. CLOUDTAP_OPENFLOW__RUNTIME chooses the runtime. No peer does
the same work; the ratio is the time of the storm divided by that of the first connection of the
switches to this controller.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.measure import Result, arguments, report
from tests.fake_switches import Fleet, many_bridges
from tests.ovs.controller_process import RUNTIME, ControllerProcess
from tests.ovs.waiting import wait_for

LIMIT_S = 300.0
REFUSALS = ("switch crowded out", "has to stay away", "switch cut off")


def main() -> None:
    """Connect, drop and connect again; print one line of JSON."""
    asked = arguments(__doc__ or "", switches=1000, ports=100, known=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_bridges.store_sessions(folder / "state", asked.switches, asked.ports)
        if asked.known:
            many_bridges.remember(folder / "state", asked.switches, asked.ports)
        inventory = many_bridges.inventory(asked.switches, asked.ports)
        with ControllerProcess(folder, inventory) as controller, Fleet("127.0.0.1", 6653) as fleet:
            controller.api.timeout = LIMIT_S
            controller.launch()
            wait_for(controller.is_answering, bool, LIMIT_S)
            wait_for(lambda: controller.api.get("/readyz").status_code, lambda c: c == 200, LIMIT_S)
            began = time.perf_counter()
            fleet.add(*many_bridges.switches(asked.switches, asked.ports))
            first = seconds_until_read(controller, fleet, asked.switches, began)
            before, busy = late(controller), values(controller)["process_cpu_seconds_total"]
            first_cpu, first_late = busy, before
            storms = []
            for number in range(asked.runs):
                began = time.perf_counter()
                fleet.drop_all()
                storms.append(seconds_until_read(controller, fleet, asked.switches, began))
                print(f"  storm {number + 1}: {storms[-1]:.2f} s", flush=True)
            after = late(controller)
            end = values(controller)
            storm_cpu = (end["process_cpu_seconds_total"] - busy) / asked.runs
            memory = end["process_resident_memory_bytes"]
            refused = [line for line in controller.log().splitlines() if is_refusal(line)]
            print("\n".join(refused[:5]))
    result = Result(tuple(storms), (first,) * len(storms))
    report(
        "storm", "first connection of the same switches", result, "s",
        runtime=RUNTIME, switches=asked.switches, ports=asked.ports,
        cpu_s={"first, with the start": round(first_cpu, 1), "a storm": round(storm_cpu, 1)},
        loop_late_first=first_late,
        loop_late={bound: after[bound] - before[bound] for bound in after},
        memory_MB=round(memory / 1e6), refused=len(refused),
    )  # fmt: skip


def seconds_until_read(
    controller: ControllerProcess, fleet: Fleet, count: int, began: float
) -> float:
    """Seconds until every switch is connected and its new writer has requested its flows."""
    target = {dpid: switch.scans + 1 for dpid, switch in fleet.switches.items()}
    wait_for(
        lambda: sum(s.scans >= target[dpid] for dpid, s in fleet.switches.items()),
        lambda done: done == count,
        LIMIT_S,
    )
    return time.perf_counter() - began


def is_refusal(line: str) -> bool:
    """Whether a line of the log says that a switch was cut off or not let in."""
    return any(what in line for what in REFUSALS)


def values(controller: ControllerProcess) -> dict[str, float]:
    """The samples of /metrics that have no labels."""
    text = controller.api.get("/metrics").raise_for_status().text
    families = text_string_to_metric_families(text)
    return {s.name: s.value for f in families for s in f.samples if not s.labels}


def late(controller: ControllerProcess) -> dict[str, float]:
    """How often the event loop was late by more than each bound, in seconds."""
    text = controller.api.get("/metrics").raise_for_status().text
    buckets = {
        s.labels["le"]: s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "cloudtap_loop_delay_seconds_bucket"
    }
    total = buckets.pop("+Inf")
    return {bound: total - buckets[bound] for bound in ("0.05", "0.2", "0.5", "1.0")}


if __name__ == "__main__":
    main()
