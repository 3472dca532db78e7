"""Interleaved runs of our way and a peer's, and what is printed of them.

The machine may do other things meanwhile: each round runs both ways one after the other, and the
ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.process.garbage import expect_many_objects

RUNS = 5

Way = Callable[[], float]
"""One run; returns what it took, in any unit that is the same for both."""


@dataclass(frozen=True)
class Result:
    """What two ways took, round by round."""

    ours: tuple[float, ...]
    peers: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the peer's, for each round."""
        return [a / b for a, b in zip(self.ours, self.peers, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """The command line of a benchmark: --runs and other numbers with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in {"runs": RUNS, **numbers}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    expect_many_objects()  # as the controller does
    return parser.parse_args()


def interleave(ours: Way, peer: Way, runs: int) -> Result:
    """Run both ways in turn; who begins changes from round to round."""
    mine: list[float] = []
    others: list[float] = []
    for number in range(runs):
        order = [(ours, mine), (peer, others)]
        for way, found in order if number % 2 == 0 else reversed(order):
            gc.collect()
            found.append(way())
        print(f"  round {number + 1}: ours {mine[-1]:.4g}, peer {others[-1]:.4g}", flush=True)
    return Result(tuple(mine), tuple(others))


def seconds(work: Callable[[], object]) -> float:
    """How long something took, by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def report(name: str, peer: str, result: Result, unit: str, **more: object) -> None:
    """Print the line of JSON that ends a benchmark."""
    line: dict[str, object] = {
        "name": name,
        "ratio": round(result.ratio, 3),
        "runs": len(result.ours),
        "spread": [round(min(result.ratios), 3), round(max(result.ratios), 3)],
        "peer": peer,
        "ours": float(f"{statistics.median(result.ours):.4g}"),
        "peers": float(f"{statistics.median(result.peers):.4g}"),
        "unit": unit,
        **more,
        "machine": machine(),
    }
    print(json.dumps(line), flush=True)


def machine() -> str:
    """Processors, kernel, Python and Open vSwitch, and how busy the machine was."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    ovs = run(["ovs-vswitchd", "--version"]).split("\n")[0].rpartition(" ")[2]
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores {cpu}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"Open vSwitch {ovs}, load {load:.1f}"
    )


def run(command: list[str], text: str | None = None) -> str:
    """Run a program; what it printed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}: {done.stderr.strip()}")
    return done.stdout


def process_cpu(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def vswitchd_pid() -> int:
    """The process of the Open vSwitch that is private to this run."""
    return int(Path("/run/openvswitch/ovs-vswitchd.pid").read_text())
