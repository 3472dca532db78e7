"""The command line that starts an application on one of the runtimes."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from controller.runtime.errors import RuntimeMissing, UnknownRuntime


def default_runtime() -> str:
    """ryu where it is installed, else os-ken: the same application runs on both."""
    return "ryu" if find_spec("ryu") is not None else "os-ken"


def launch_command(
    runtime: str, app_path: str = "controller.app", flags: Sequence[str] = ()
) -> list[str]:
    """Program and arguments for os.execv(command[0], command).

    Raises:
        UnknownRuntime: ``runtime`` is neither "ryu" nor "os-ken".
        RuntimeMissing: it is ryu, which is not installed.
    """
    if runtime == "ryu" and default_runtime() != "ryu":
        raise RuntimeMissing("ryu")
    if runtime == "ryu":
        return [str(Path(sys.executable).with_name("ryu-manager")), *flags, app_path]
    if runtime == "os-ken":
        return [sys.executable, "-m", "controller.runtime.osken", app_path, *flags]
    raise UnknownRuntime(runtime, ["ryu", "os-ken"])
