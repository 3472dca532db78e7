"""A green thread that has ended is gone, although nobody searches for unused memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
END_A_THREAD = """
import eventlet
eventlet.monkey_patch()
import gc, threading, weakref
from controller.runtime.green_threads import untie_ended_threads
gc.disable()
{untie}
thread = threading.Thread(target=print, args=("ran",))
gone = weakref.ref(thread)
thread.start()
thread.join()
del thread
eventlet.sleep(0)
print(gone() is None)
"""


@pytest.mark.parametrize(("untie", "is_gone"), [("untie_ended_threads()", "True"), ("", "False")])
def test_an_ended_thread_needs_no_search(untie: str, is_gone: str) -> None:
    code = END_A_THREAD.format(untie=untie)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["ran", is_gone], done.stderr
