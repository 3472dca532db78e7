"""Random worlds in parallel: each job has an Open vSwitch of its own, and a part of the seeds.

    python -m tests.ovs.parallel_worlds --worlds 10000 --seed 7 --jobs 4 --datapath kernel

Run outside of tools/isolate; it starts that itself, once for each job. The kernel datapath is that
of a guest of tools/kernel-lab, one for each job.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORLDS_OF_A_JOB = 25
"""The minimum for a job with an Open vSwitch of its own."""
TOOLS = {"userspace": ["tools/isolate"], "kernel": ["tools/kernel-lab", "tools/isolate"]}
"""What gives a job an Open vSwitch with this datapath."""
LAST_LINE = re.compile(r"^(?:\w+=\d+ ?)+$")


def shares(worlds: int, seed: int, jobs: int) -> list[tuple[int, int]]:
    """How many worlds each job runs, and its first seed; every seed belongs to one job."""
    jobs = max(1, min(jobs, worlds // WORLDS_OF_A_JOB))
    found, first = [], seed
    for job in range(jobs):
        count = worlds // jobs + (job < worlds % jobs)
        found.append((count, first))
        first += count
    return found


def begin(datapath: str, count: int, seed: int, more: list[str]) -> subprocess.Popen[str]:
    """Start one job; its progress and failures go to our stderr."""
    command = [*TOOLS[datapath], sys.executable, "-m", "tests.ovs.worlds"]
    command += ["--worlds", str(count), "--seed", str(seed), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """Run all worlds; the last line is the sum of the jobs."""
    parser = argparse.ArgumentParser(description="random worlds on real Open vSwitch, in parallel")
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--datapath", choices=TOOLS, default="userspace")
    arguments, more = parser.parse_known_args()
    parts = shares(arguments.worlds, arguments.seed, arguments.jobs)
    jobs = [begin(arguments.datapath, count, seed, more) for count, seed in parts]
    total: Counter[str] = Counter()
    status = 0
    for job in jobs:
        output, _ = job.communicate()
        lines = output.splitlines()
        if lines and LAST_LINE.match(lines[-1]):
            total.update({k: int(v) for k, v in (word.split("=") for word in lines.pop().split())})
        print(*lines, sep="\n", end="\n" if lines else "", flush=True)
        status |= job.returncode
    print(*(f"{key}={count}" for key, count in total.items()))
    return 1 if status or total["worlds"] != arguments.worlds else 0


if __name__ == "__main__":
    sys.exit(main())
