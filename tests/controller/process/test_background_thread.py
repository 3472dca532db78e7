"""What waits with a time returns when the time is over, on every Python and on both runtimes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PATCH = {"native": "", "green": "import eventlet; eventlet.monkey_patch()"}
"""How the threads of the two runtimes begin."""
WAITS = {
    "a thread that goes on": ("thread.wait(0.01)", "False"),
    "an ended thread": ("(ending.set(), thread.wait(60), thread.wait(0))", "(None, True, True)"),
    "a thread that was not started": ("failing.wait(0.01)", "True"),
    "an event": ("threading.Event().wait(0.01)", "False"),
    "a lock": ("taken.acquire(timeout=0.01)", "False"),
    "a recursive lock": ("in_thread(recursive.acquire, True, 0.01)", "False"),
    "a condition": ("on_condition(lambda c: c.wait(0.01))", "False"),
    "a predicate": ("on_condition(lambda c: c.wait_for(lambda: False, 0.01))", "False"),
    "a queue": ("raised(queue.Queue().get, True, 0.01)", "Empty"),
    "a child process": ("raised(sleeper.wait, 0.01)", "TimeoutExpired"),
    "a socket": ("raised(silent.recv, 1)", "TimeoutError"),
}  # fmt: skip
"""What is waited for in this process, and what the documentation of Python promises."""
PROGRAM = """
{patch}
import queue, socket, subprocess, threading
from controller.process import BackgroundThread

def raised(call, *arguments):
    try:
        return call(*arguments)
    except BaseException as error:
        return Name(type(error).__name__)

class Name(str):
    __repr__ = str.__str__

def in_thread(call, *arguments):
    found = []
    thread = BackgroundThread(lambda: found.append(raised(call, *arguments)), name="asks")
    thread.start()
    thread.wait()
    return found[0]

def on_condition(call):
    condition = threading.Condition()
    with condition:
        return raised(call, condition)

ending = threading.Event()
thread = BackgroundThread(ending.wait, name="waits")
thread.start()
failing = BackgroundThread(int, "no number", name="fails")
taken, recursive = threading.Lock(), threading.RLock()
taken.acquire(), recursive.acquire()
sleeper = subprocess.Popen(["sleep", "600"])
silent, other = socket.socketpair()
silent.settimeout(0.01)
print(repr({wait}), flush=True)
sleeper.kill()
sleeper.wait()
"""


def result_of(threads: str, wait: str) -> str:
    """What a wait gives in a new process; its errors, if it prints nothing."""
    code = PROGRAM.format(patch=PATCH[threads], wait=wait)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("threads", PATCH)
@pytest.mark.parametrize("what", WAITS)
def test_a_wait_ends_in_time_as_documented(threads: str, what: str) -> None:
    wait, promised = WAITS[what]
    assert result_of(threads, wait) == promised


@pytest.mark.parametrize("threads", PATCH)
def test_a_thread_whose_target_fails_has_ended(threads: str) -> None:
    assert result_of(threads, "(failing.start(), failing.wait(60))") == "(None, True)"
