"""A green thread that has ended is freed without a run of the garbage collector."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.runtime import RUNTIME_VARIABLE, launch_command

ROOT = Path(__file__).resolve().parents[3]
END_A_THREAD = """
import eventlet
eventlet.monkey_patch()
import gc, threading, weakref
from controller.runtime.green_threads import break_thread_cycles
gc.disable()
{patch}
thread = threading.Thread(target=print, args=("ran",))
gone = weakref.ref(thread)
thread.start()
thread.join()
del thread
eventlet.sleep(0)
print(gone() is None)
"""


HAS_CYCLES = sys.version_info < (3, 13)
"""Whether a thread of eventlet is a cycle on this Python, unless it is broken."""


@pytest.mark.parametrize(
    ("patch", "is_freed"), [("break_thread_cycles()", "True"), ("", str(not HAS_CYCLES))]
)
def test_an_ended_thread_is_freed_without_garbage_collection(patch: str, is_freed: str) -> None:
    code = END_A_THREAD.format(patch=patch)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["ran", is_freed], done.stderr


def test_no_lock_is_made_before_green_threads_replace_them() -> None:
    """A native lock that one green thread holds stops all of them: the process hangs for ever."""
    loaded = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "import controller.runtime.ryu_manager, controller.runtime.osken, sys\n"
            "from controller.runtime import event_loop, green_threads\n"
            "print([m for m in sys.modules if m.startswith('controller.process')])",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert loaded.strip() == "[]"


PROBE = """
import os, sys, threading
from eventlet import patcher
from controller.process import TIME_SLICES
is_green = patcher.is_monkey_patched("thread")
print(is_green, type(TIME_SLICES._lock) is type(threading.Lock()), flush=True)
os._exit(0)
"""


def test_under_ryu_the_locks_of_this_process_are_those_of_green_threads(tmp_path: Path) -> None:
    """A green thread that waits for a native lock stops all threads, for ever."""
    (tmp_path / "lock_probe.py").write_text(PROBE)
    done = subprocess.run(
        [*launch_command("ryu")[:-1], "lock_probe"],
        capture_output=True, text=True, check=False,
        env={**os.environ, RUNTIME_VARIABLE: "ryu", "PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["True", "True"], done.stdout + done.stderr
