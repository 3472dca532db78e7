"""The command that runs random worlds: its last line agrees with its exit status."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.ovs.parallel_worlds import shares

LAST_LINE = re.compile(r"worlds=(\d+) packets=(\d+) copies=(\d+) missing=(\d+) extra=(\d+)")


def run(*arguments: str, module: str = "tests.ovs.worlds") -> tuple[int, list[int], str]:
    """Exit status, the numbers of the last line, and the whole output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
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


@pytest.mark.parametrize("more", [(), ("--damage", "copy-lost")])
def test_the_command_for_many_worlds_adds_up_what_its_jobs_see(more: tuple[str, ...]) -> None:
    arguments = ("--worlds", "4", "--seed", "7", *more)
    one, counted, _ = run(*arguments)
    many, added, _ = run(*arguments, "--jobs", "2", module="tests.ovs.parallel_worlds")
    assert (many, added) == (one, counted)


def test_every_seed_is_somebodys() -> None:
    for worlds, jobs in ((1, 4), (49, 2), (50, 2), (10_003, 4)):
        played = [
            seed for count, first in shares(worlds, 7, jobs) for seed in range(first, first + count)
        ]
        assert played == list(range(7, 7 + worlds))
    assert len(shares(10_003, 7, 4)) == 4


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
    status, (*_, extra), _ = run("--worlds", "24", "--damage", "copy-twice", "--failures", "1")
    assert status == 1
    assert extra > 0
