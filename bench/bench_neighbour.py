"""What a tenant waits for a small change while another one changes all rules of a large filter.

Both have workloads on one bridge. Ours: the longest `POST` or `DELETE` of a session of one tenant
while the `PATCH /v1/filters` of the other one is under way. Peer: the longest of ten without that.
Also reported: the median of the same, how long the other change takes, for how long no frame was
forwarded meanwhile, and the longest `GET` while a filter that no session uses changes.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.measure import Result, arguments, report
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.small_cloud import DB, INVENTORY, PORTS, WEB, make_collectors
from tests.ovs.traffic import Stream, Traffic

RULES, RUNS = 20_000, 5
LIMIT_S = 120.0


class Round(NamedTuple):
    """Seconds, as named in the line that is printed."""

    alone: float
    meanwhile: float
    typical: float
    read: float
    change: float
    nothing_forwarded: float
    otherwise: float


def main() -> None:
    """Measure, and print one line of JSON."""
    asked = arguments(__doc__ or "", rules=RULES, runs=RUNS)
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
            for name in ("long", "unused"):
                body = {"tenant": "red", "name": name, **rules_of(asked.rules, 0)}
                assert controller.api.post("/v1/filters", json=body).status_code == 201
            controller.create_session("red", "watching", ["web"], "ids", filter="long")
            rounds: list[Round] = []
            for number in range(1, asked.runs + 1):
                rules = rules_of(asked.rules, number)
                rounds.append(measure(controller, traffic, stream, ends["blue-db"], rules))
                print(f"  round {number}: {rounds[-1]._asdict()}", flush=True)
    ours, alone = (tuple(r.meanwhile for r in rounds), tuple(r.alone for r in rounds))
    middle = Round(*map(statistics.median, zip(*rounds, strict=True)))
    report(
        "neighbour", "the same request alone", Result(ours, alone), "s", rules=2 * asked.rules,
        typical=round(middle.typical, 3),
        read=round(middle.read, 3),
        change=round(middle.change, 2),
        nothing_forwarded=round(middle.nothing_forwarded, 3),
        otherwise=round(middle.otherwise, 3),
    )  # fmt: skip


def measure(
    controller: ControllerProcess,
    traffic: Traffic,
    stream: Stream,
    end: Endpoint,
    rules: dict[str, object],
) -> Round:
    """One round: other rules for the filter that is used, and then for the other one."""
    alone = max(seconds for _ in range(5) for seconds in change(controller))
    first = traffic.now(stream)
    traffic.wait_until_past(stream, end, first + 100)
    quiet = longest_gap(traffic, stream, end, first)
    first = traffic.now(stream)
    changing = Changing(controller, "long", rules)
    waited: list[float] = []
    while changing.is_alive():
        waited += change(controller)
    changing.join()
    traffic.wait_until_past(stream, end, traffic.now(stream))
    gap = longest_gap(traffic, stream, end, first)
    other = Changing(controller, "unused", rules)
    reads: list[float] = []
    while other.is_alive():
        reads.append(read(controller))
    other.join()
    typical = statistics.median(waited)
    return Round(alone, max(waited), typical, max(reads), changing.seconds, gap, quiet)


class Changing(threading.Thread):
    """A change of a large filter; ``seconds`` is how long it took."""

    def __init__(self, controller: ControllerProcess, name: str, rules: dict[str, object]) -> None:
        super().__init__()
        self.seconds = 0.0
        self._url = f"http://{controller.addresses[0]}/v1/filters/{name}"
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


def read(controller: ControllerProcess) -> float:
    """Seconds until the sessions of blue are listed."""
    began = time.perf_counter()
    assert controller.api.get("/v1/sessions?tenant=blue").status_code == 200
    return time.perf_counter() - began


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
