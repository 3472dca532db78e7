"""Standard error that is full, closed, stopped or broken costs lines, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.log_output import READ_AT_ONCE, WRITE_TOGETHER, in_writes
from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0

PROGRAM = """
import json, logging, os, sys
from controller.runtime import log_output
log_output.start()
log_output.start()
if {is_green}:
    import warnings
    warnings.simplefilter("ignore")
    import eventlet
    eventlet.monkey_patch()
from controller.process import configure_logs
configure_logs("info", "json")
import structlog
log = structlog.get_logger()
for line in sys.stdin:
    word, _, number = line.strip().partition(" ")
    if word == "log":
        for each in range(int(number)):
            sys.stderr.write("x" * 100 + " " + str(each) + "\\n")
        log.info("logged")
    print(json.dumps([log_output.log_problem(), *log_output.lost_log_lines()]), flush=True)
print("the last line", file=sys.stderr)
sys.exit(3)
"""


class Logger:
    """A process that logs so many lines when it is told to; ``said`` is [problem, lost, reason]."""

    def __init__(self, stderr: int | None, *, is_green: bool) -> None:
        code = PROGRAM.format(is_green=is_green)
        closing = ["bash", "-c", 'exec "$@" 2>&-', "bash"] if stderr is None else []
        self.process = subprocess.Popen(
            [*closing, sys.executable, "-c", code], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    def say(self, words: str) -> list[Any]:
        """Tell it something; its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return list(json.loads(self.process.stdout.readline()))

    def wait_for(self, words: str) -> list[Any]:
        """Its state once these words are in the problem, or once there is none."""
        return wait_for(
            lambda: self.say("look"), lambda s: words in s[0] if words else not s[0], DEADLINE_S
        )

    def end(self) -> int:
        """Let it end; its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)


@pytest.fixture(params=[False, True], ids=["native", "green"])
def is_green(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of 4 kB."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_all_lines_are_written_in_their_order_before_the_process_ends(
    tmp_path: Path, is_green: bool
) -> None:
    with (tmp_path / "log").open("ab") as log:
        logger = Logger(log.fileno(), is_green=is_green)
    logger.say("log 5000")
    assert logger.end() == 3
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1] for line in lines[:5000]] == [str(n) for n in range(5000)]
    assert json.loads(lines[5000])["event"] == "logged"
    assert lines[5001:] == ["the last line"]


def test_a_full_disk_is_said(is_green: bool) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    logger = Logger(full, is_green=is_green)
    os.close(full)
    logger.say("log 5")
    assert logger.wait_for("6 wait")[0] == (
        "log lines do not reach standard error (the disk is full): 6 wait, 0 are lost"
    )
    logger.say("log 20000")
    [problem, lost, _] = logger.wait_for("wait")
    assert lost and f"{lost} are lost" in problem
    assert logger.end() == 3


def test_a_closed_standard_error_is_said(is_green: bool) -> None:
    logger = Logger(None, is_green=is_green)
    logger.say("log 5")
    logger.wait_for("it is closed")
    assert logger.end() == 3


def test_a_pipe_without_a_reader_is_said(pipe: tuple[int, int], is_green: bool) -> None:
    logger = Logger(pipe[1], is_green=is_green)
    os.close(pipe[1])
    logger.say("log 0")
    assert b"logged" in os.read(pipe[0], 4096)
    os.close(pipe[0])
    logger.say("log 5")
    logger.wait_for("nobody reads it any more")
    assert logger.end() == 3


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_goes_on_when_it_is_read(
    pipe: tuple[int, int], is_green: bool
) -> None:
    logger = Logger(pipe[1], is_green=is_green)
    os.close(pipe[1])
    logger.say("log 20000")
    [_, lost, _] = logger.wait_for("nobody has read it for")
    assert lost > 5000
    seen = b""
    while b" 1000\n" not in seen:
        seen += os.read(pipe[0], 65536)
    lines = seen.decode().splitlines()
    assert [line.split()[1] for line in lines[:1000]] == [str(n) for n in range(1000)]
    assert logger.end() == 3


def test_a_terminal_that_is_stopped_holds_up_nobody_and_an_exit_waits_for_a_second_only(
    is_green: bool,
) -> None:
    ours, theirs = pty.openpty()
    logger = Logger(theirs, is_green=is_green)
    termios.tcflow(theirs, termios.TCOOFF)
    logger.say("log 100")
    logger.wait_for("nobody has read it for")
    termios.tcflow(theirs, termios.TCOON)
    seen = b""
    while b"logged" not in seen:
        seen += os.read(ours, 65536)
    assert logger.wait_for("")[1] == 0
    termios.tcflow(theirs, termios.TCOOFF)
    logger.say("log 1")
    assert logger.end() == 3
    os.close(ours)
    os.close(theirs)


def test_lines_stay_whole_in_writes_that_no_pipe_splits() -> None:
    lines = b"".join(b"%d %s\n" % (n, b"x" * (n % 300)) for n in range(1000))
    long = b"y" * (2 * WRITE_TOGETHER) + b"\n"
    writes = list(in_writes(lines + long + lines + b"no end"))
    assert b"".join(writes) == lines + long + lines + b"no end"
    assert all(w.endswith(b"\n") for w in writes[:-1]) and writes[-1] == b"no end"
    assert long in writes
    assert all(len(w) <= WRITE_TOGETHER for w in writes if w != long)
    assert len(writes) < len(lines) * 2 / WRITE_TOGETHER + 10 < READ_AT_ONCE


HELD_UP = """
import os, signal
from controller.runtime import log_output, shutdown
log_output.start()
shutdown.TIMEOUT_SECONDS, shutdown.KILLED_SECONDS = 1, 30
awaited = shutdown.begin()
os.kill(os.getpid(), signal.SIGTERM)
awaited.wait()
os.read(os.pipe()[0], 1)  # for ever
"""
CRASH = "import os; from controller.runtime import log_output as o; o.start(); os.abort()"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def test_a_shutdown_that_is_held_up_says_where_and_a_crash_does_too() -> None:
    held_up = run(HELD_UP)
    assert held_up.returncode == 1 and "Timeout (0:00:01)" in held_up.stderr
    crashed = run(CRASH)
    assert crashed.returncode == -6 and "Fatal Python error: Aborted" in crashed.stderr
