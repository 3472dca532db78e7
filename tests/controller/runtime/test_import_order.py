"""No lock of ours is native under green threads: a holder that yields would stop the process."""

from __future__ import annotations

import subprocess
import sys

LOADED_FIRST = """\
import sys
import controller.runtime.ryu_manager
print(*(name for name in sys.modules if name.startswith("controller.process")))
"""


def test_nothing_that_makes_a_lock_is_loaded_before_threads_are_green() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADED_FIRST], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
