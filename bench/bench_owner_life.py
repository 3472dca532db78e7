"""How long copies are missing after what managers of an attached bridge do: ports go, come back,
get other VLANs. For each event: frames that were delivered and not copied, and for how long.

200 frames a second are sent, so 5 ms is the smallest time that it sees. There is no peer: a native
Mirror does not follow a port that is made anew, and copies with the tag of the VLAN.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from bench.measure import arguments, machine
from tests.ovs.attached_cloud import TAP, build_attached_cloud, inventory, make_collectors
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab
from tests.ovs.owner_life import EVENTS, Outcome, OwnersLife


def main() -> None:
    """Let every event happen in each round, and print a table and one line of JSON."""
    asked = arguments(__doc__ or "")
    found: dict[str, list[Outcome]] = {event: [] for event in EVENTS}
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        cloud = build_attached_cloud(lab)
        cloud.attach()
        with ControllerProcess(Path(folder), inventory()) as controller:
            controller.start(TAP)
            make_collectors(controller)
            life = OwnersLife(cloud, controller)
            with life.running():
                for _ in range(asked.runs):
                    for event, happen in EVENTS.items():
                        found[event].append(happen(life))
    print("| event | without copies, ms: median, longest | frames lost: median, most | of app |")
    print("|---|---|---|---|")
    for event, outcomes in found.items():
        times = [each.of_web.seconds * 1000 for each in outcomes]
        lost = [each.of_web.frames for each in outcomes]
        others = [each.of_app.frames for each in outcomes]
        print(f"| {event} | {statistics.median(times):.0f}, {max(times):.0f} | "
              f"{statistics.median(lost):.0f}, {max(lost)} | {max(others)} |")  # fmt: skip
    line = {
        "name": "owner_life",
        "runs": asked.runs,
        "ms": {
            event: [round(each.of_web.seconds * 1000, 1) for each in outcomes]
            for event, outcomes in found.items()
        },
        "repeated": sum(
            each.of_web.repeated + each.of_app.repeated
            for outcomes in found.values()
            for each in outcomes
        ),
        "machine": machine(),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
