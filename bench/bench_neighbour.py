"""What a tenant waits for a small change while another one changes all rules of a large filter.

Both have workloads on one bridge. Ours: the longest `POST` or `DELETE` of a session of one tenant
while the `PATCH /v1/filters` of the other one is under way. Peer: the longest of ten without that.
Also reported: how long the other change takes, and for how long no frame was forwarded meanwhile.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx

from bench.measure import Result, arguments, report
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.small_cloud import DB, INVENTORY, PORTS, WEB, make_collectors
from tests.ovs.traffic import Stream, Traffic

RULES, RUNS = 20_000, 5
LIMIT_S = 120.0


def main() -> None:
    """Measure, and print one line of JSON."""
    asked = arguments(__doc__ or "", rules=RULES, runs=RUNS)
    ours: list[float] = []
    alone: list[float] = []
    changes: list[float] = []
    gaps: list[float] = []
    quiet: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        lab.add_bridge("s1", dpid=0x51, controller=TARGET)
        ends = dict(zip(PORTS.values(), lab.add_ports("s1", PORTS, PORTS), strict=True))
        with (
            ControllerProcess(Path(folder), INVENTORY) as controller,
            Traffic(ends.values()) as traffic,
        ):
            controller.api.timeout = LIMIT_S
            controller.start("s1")
            make_collectors(controller)
            stream = traffic.add(ends["blue-web"], WEB, DB)
            body = {"tenant": "red", "name": "long", **rules_of(asked.rules, 0)}
            assert controller.api.post("/v1/filters", json=body).status_code == 201
            controller.create_session("red", "watching", ["web"], "ids", filter="long")
            for number in range(1, asked.runs + 1):
                alone.append(max(seconds for _ in range(5) for seconds in change(controller)))
                first = traffic.now(stream)
                traffic.wait_until_past(stream, ends["blue-db"], first + 100)
                quiet.append(longest_gap(traffic, stream, ends["blue-db"], first))
                first = traffic.now(stream)
                changing = Changing(controller, rules_of(asked.rules, number))
                waited: list[float] = []
                while changing.is_alive():
                    waited += change(controller)
                changing.join()
                traffic.wait_until_past(stream, ends["blue-db"], traffic.now(stream))
                ours.append(max(waited))
                changes.append(changing.seconds)
                gaps.append(longest_gap(traffic, stream, ends["blue-db"], first))
                print(
                    f"  round {number}: alone {alone[-1]:.3f}, meanwhile {ours[-1]:.3f} of "
                    f"{len(waited)}, the change {changes[-1]:.2f}, nothing forwarded for "
                    f"{gaps[-1]:.3f}, otherwise {quiet[-1]:.3f}", flush=True,
                )  # fmt: skip
    report(
        "neighbour", "the same request alone", Result(tuple(ours), tuple(alone)), "s",
        rules=2 * asked.rules,
        change=round(statistics.median(changes), 2),
        nothing_forwarded=round(statistics.median(gaps), 3),
        otherwise=round(statistics.median(quiet), 3),
    )  # fmt: skip


class Changing(threading.Thread):
    """A change of the large filter; ``seconds`` is how long it took."""

    def __init__(self, controller: ControllerProcess, rules: dict[str, object]) -> None:
        super().__init__()
        self.seconds = 0.0
        self._url = f"http://{controller.addresses[0]}/v1/filters/long"
        self._body = json.dumps(rules)
        self.start()

    def run(self) -> None:
        began = time.perf_counter()
        headers = {"content-type": "application/json"}
        answer = httpx.patch(self._url, content=self._body, headers=headers, timeout=LIMIT_S)
        self.seconds = time.perf_counter() - began
        assert answer.status_code == 200, answer.text[:500]


def change(controller: ControllerProcess) -> list[float]:
    """Seconds until a session of blue is there, and until it is gone again."""
    began = time.perf_counter()
    controller.create_session("blue", "small", ["web"], "ids")
    there = time.perf_counter()
    controller.delete_session("small")
    return [there - began, time.perf_counter() - there]


def longest_gap(traffic: Traffic, stream: Stream, at: Endpoint, first: int) -> float:
    """For how long no frame after the first one arrived, at most, in seconds."""
    numbers = sorted(n for n in traffic.arrived(stream, at) if n >= first)
    times = sorted(traffic.when(stream, at, number) for number in numbers)
    return max(b - a for a, b in itertools.pairwise(times))


def rules_of(count: int, number: int) -> dict[str, object]:
    """Two lists of so many rules each, all of them others for each number."""

    def rule(n: int) -> dict[str, object]:
        address = (n * 64 + number) & 0xFFFFFF
        network = f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"
        return {"number": n, "action": "accept", "match": {"source": network}}

    rules = [rule(n) for n in range(1, count + 1)]
    return {"ingress": rules, "egress": rules}


if __name__ == "__main__":
    main()
