"""The command that runs an application on one of the runtimes, for who starts a process."""

import sys
from collections.abc import Sequence
from pathlib import Path

from controller.runtime.errors import UnknownRuntime


def command(runtime: str, app_path: str = "controller.app", flags: Sequence[str] = ()) -> list[str]:
    """Program and arguments, ready for os.execv(command[0], command). Raises UnknownRuntime."""
    if runtime == "ryu":
        return [str(Path(sys.executable).with_name("ryu-manager")), *flags, app_path]
    if runtime == "os-ken":
        return [sys.executable, "-m", "controller.runtime.osken", app_path, *flags]
    raise UnknownRuntime(runtime, ["ryu", "os-ken"])
