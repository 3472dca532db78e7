"""Interleaved runs of us and of a peer, and the line of JSON that reports them.

The machine may be busy with other work: each round runs both, one after the other, and the ratio
is the median of the ratios of the rounds.
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

from controller.process import expect_many_objects

RUNS = 5

Run = Callable[[], float]
"""One run; returns its cost, in the same unit for both."""


@dataclass(frozen=True)
class Result:
    """The costs of both, by round."""

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


def interleave(ours: Run, peer: Run, runs: int) -> Result:
    """Run both in turn; which one is first alternates."""
    mine: list[float] = []
    others: list[float] = []
    for number in range(runs):
        order = [(ours, mine), (peer, others)]
        for run_once, found in order if number % 2 == 0 else reversed(order):
            gc.collect()
            found.append(run_once())
        print(f"  round {number + 1}: ours {mine[-1]:.4g}, peer {others[-1]:.4g}", flush=True)
    return Result(tuple(mine), tuple(others))


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
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
    """Processors, kernel, versions of Python and Open vSwitch, and the load average."""
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
    """Run a program; returns its standard output."""
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
