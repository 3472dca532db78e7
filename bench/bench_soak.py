"""A controller under steady change for SOAK_SECONDS: memory does not grow, no flow is left behind.

Sessions and filters are created and deleted over the API, ports appear and disappear, connections
end, switches lose their flows. There is no peer; the JSON reports the growth in the second half.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from bench.bench_storm import late
from bench.measure import machine
from tests.fake_switches import Fleet, many_bridges
from tests.fake_switches.tables import Place
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.waiting import wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
BRIDGES, PORTS, SESSIONS = 20, 10, 40
SETTLED_S = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")
ALLOWED_MB = 16.0
"""Allowed growth in the second half: a leak of 1 KB a change would exceed it within an hour."""


class Soak:
    """One controller, its switches, and random changes to both."""

    def __init__(self, controller: ControllerProcess, fleet: Fleet) -> None:
        self.controller, self.fleet = controller, fleet
        self.chance = random.Random(1)
        self.alive: list[str] = []
        self.changes = 0

    def change(self) -> None:
        """Make one change of a random kind."""
        self.changes += 1
        match self.chance.randrange(10):
            case 0 | 1 | 2:
                self.create()
            case 3 | 4 | 5 if self.alive:
                self.delete(self.alive.pop(self.chance.randrange(len(self.alive))))
            case 6 | 7:
                self.flap()
            case 8:
                self.filter()
            case _:
                dpid = self.chance.randrange(BRIDGES) + 1
                if dpid in self.fleet.connections:
                    self.fleet.drop(dpid, restart=self.chance.random() < 0.5)

    def create(self) -> None:
        """Create a session on a random bridge; delete the oldest if there are enough."""
        if len(self.alive) >= SESSIONS:
            self.delete(self.alive.pop(0))
        bridge, name = self.chance.randrange(BRIDGES), f"soak{self.changes}"
        ports = [f"vm{bridge}-{k}" for k in self.chance.sample(range(1, PORTS), 2)]
        self.controller.create_session("red", name, ports, f"c{bridge}")
        self.alive.append(name)

    def delete(self, name: str) -> None:
        """Delete a session; it is gone at once, or when its bridge is back."""
        self.controller.delete_session(name)

    def flap(self) -> None:
        """Delete a port and add it again."""
        dpid = self.chance.randrange(BRIDGES) + 1
        switch, port = self.fleet.switches[dpid], self.chance.randrange(PORTS) + 1
        if dpid in self.fleet.connections:
            self.fleet.tell(dpid, switch.port_status(port, 1), switch.port_status(port, 0))

    def filter(self) -> None:
        """Create a filter and delete it."""
        rule = {"number": 10, "action": "accept", "match": {"protocol": "tcp"}}
        body = {"tenant": "red", "name": f"f{self.changes}", "ingress": [rule], "egress": [rule]}
        answer = self.controller.api.post("/v1/filters", json=body)
        assert answer.status_code == 201, answer.text
        assert self.controller.api.delete(f"/v1/filters/f{self.changes}").status_code == 204

    def resident_mb(self) -> float:
        """Resident memory of the controller, in MB."""
        assert self.controller.process is not None
        statm = Path(f"/proc/{self.controller.process.pid}/statm").read_text()
        return int(statm.split()[1]) * PAGE / 1e6

    def flows(self) -> dict[int, set[Place]]:
        """The flows of every switch."""
        return {dpid: set(s.tables.flows) for dpid, s in self.fleet.switches.items()}


def main() -> None:
    """Run; print one line of JSON, and fail if memory grew or flows were left behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_bridges.store_sessions(folder / "state", BRIDGES, PORTS)
        inventory = many_bridges.inventory(BRIDGES, PORTS)
        with ControllerProcess(folder, inventory) as controller, Fleet("127.0.0.1", 6653) as fleet:
            controller.start(bridges__recheck_seconds="5")
            fleet.add(*many_bridges.switches(BRIDGES, PORTS))
            soak = Soak(controller, fleet)
            wait_for(lambda: active(controller), lambda n: n == BRIDGES, SETTLED_S)
            before = soak.flows()
            memory = run(soak)
            for session in soak.alive:
                soak.delete(session)
            after = wait_for(soak.flows, lambda seen: seen == before, SETTLED_S)
            report(soak, memory, sum(len(after[d] - before[d]) for d in before), late(controller))


def run(soak: Soak) -> list[tuple[float, float]]:
    """Make changes until the time is over; returns (seconds, MB), about one a second."""
    began = time.monotonic()
    seen: list[tuple[float, float]] = []
    while (now := time.monotonic() - began) < SECONDS:
        soak.change()
        if not seen or now - seen[-1][0] >= 1:
            seen.append((now, soak.resident_mb()))
    return seen


def report(soak: Soak, memory: list[tuple[float, float]], left: int, loop: object) -> None:
    """Print the line of JSON that ends the benchmark."""
    half = memory[len(memory) // 2 :]
    slope, _ = statistics.linear_regression([at for at, _ in half], [mb for _, mb in half])
    grown = slope * (half[-1][0] - half[0][0])
    line = {
        "name": "soak", "seconds": round(SECONDS), "changes": soak.changes, "bridges": BRIDGES,
        "memory_MB": [round(memory[0][1]), round(half[0][1]), round(memory[-1][1])],
        "grown_in_second_half_MB": round(grown, 2), "flows_left": left, "loop_late": loop,
        "machine": machine(),
    }  # fmt: skip
    print(json.dumps(line), flush=True)
    if grown > ALLOWED_MB or left:
        raise SystemExit("soak: memory has grown, or flows were left behind")


def active(controller: ControllerProcess) -> int:
    """How many bridges are connected and active."""
    answer = controller.api.get("/v1/bridges?limit=1000").raise_for_status().json()
    return sum(b["connected"] and b["state"] == "active" for b in answer["items"])


if __name__ == "__main__":
    main()
