"""The command that runs random worlds: its last line and its exit status say the same."""

from __future__ import annotations

import re
import subprocess
import sys

LAST_LINE = re.compile(r"worlds=(\d+) packets=(\d+) copies=(\d+) missing=(\d+) extra=(\d+)")


def run(*arguments: str) -> tuple[int, list[int], str]:
    """Exit status, the numbers of the last line, and all that was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ovs.worlds", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    last = LAST_LINE.fullmatch(done.stdout.rstrip("\n").split("\n")[-1])
    assert last, done.stdout + done.stderr
    return done.returncode, [int(number) for number in last.groups()], done.stdout


def test_exact_worlds_end_with_status_0() -> None:
    status, (worlds, packets, copies, missing, extra), _ = run("--worlds", "3", "--seed", "7")
    assert (status, worlds, missing, extra) == (0, 3, 0, 0)
    assert packets > 0
    assert copies > 0


def test_a_missing_copy_ends_with_status_1_and_says_how_to_see_it_again() -> None:
    arguments = ("--worlds", "8", "--seed", "7", "--damage", "copy-lost", "--failures", "1")
    status, (_, _, _, missing, _), printed = run(*arguments)
    assert status == 1
    assert missing > 0
    seed = re.search(r"replay with `make worlds WORLDS=1 SEED=(\d+)`", printed)
    assert seed, printed
    again, (worlds, *_, left, _), _ = run("--worlds", "1", "--seed", seed[1], *arguments[4:6])
    assert (again, worlds) == (1, 1)
    assert left > 0


def test_an_extra_copy_ends_with_status_1() -> None:
    status, (*_, extra), _ = run("--worlds", "8", "--damage", "copy-twice", "--failures", "1")
    assert status == 1
    assert extra > 0
