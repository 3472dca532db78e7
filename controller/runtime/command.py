"""Which runtime is used, and the command line that starts an application on it.

Nothing that makes a lock is imported here: `ryu-manager` asks before eventlet replaces locks.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from controller.runtime.errors import RuntimeMissing, UnknownRuntime

RUNTIMES = ("ryu", "os-ken")
"""The OpenFlow libraries that the application runs on: one with green threads, one with native."""
CONFIG_FILE = Path("/etc/cloudtap/cloudtap.toml")
"""The configuration file, unless CLOUDTAP_CONFIG names another one."""
RUNTIME_VARIABLE = "CLOUDTAP_OPENFLOW__RUNTIME"
"""The setting ``[openflow] runtime`` in the environment, which wins over the file."""


def default_runtime() -> str:
    """The runtime where none is configured: ryu if it is installed, else os-ken."""
    return "ryu" if find_spec("ryu") is not None else "os-ken"


def configured_runtime(environ: Mapping[str, str] = os.environ) -> str | None:
    """The setting ``[openflow] runtime``; None if it is not given.

    A file that cannot be read gives none: the controller says what is wrong with it.

    Raises:
        UnknownRuntime: it is none of RUNTIMES.
    """
    wanted = environ.get(RUNTIME_VARIABLE)
    if wanted is None:
        wanted = _runtime_of_file(Path(environ.get("CLOUDTAP_CONFIG") or CONFIG_FILE))
    if wanted is not None and wanted not in RUNTIMES:
        raise UnknownRuntime(str(wanted), RUNTIMES)
    return wanted


def launch_command(
    runtime: str, app_path: str = "controller.app", flags: Sequence[str] = ()
) -> list[str]:
    """Program and arguments for os.execv(command[0], command).

    The process needs the same runtime in RUNTIME_VARIABLE, or none there and in the file.

    Raises:
        UnknownRuntime: ``runtime`` is neither "ryu" nor "os-ken".
        RuntimeMissing: it is ryu, which is not installed.
    """
    if runtime not in RUNTIMES:
        raise UnknownRuntime(runtime, RUNTIMES)
    if runtime == "os-ken":
        return [sys.executable, "-m", "controller.runtime.osken", app_path, *flags]
    if default_runtime() != "ryu":
        raise RuntimeMissing("ryu")
    return [str(Path(sys.executable).with_name("ryu-manager")), *flags, app_path]


def _runtime_of_file(file: Path) -> str | None:
    import tomllib

    try:
        section = tomllib.loads(file.read_text()).get("openflow", {})
    except (OSError, ValueError, RecursionError):
        return None
    return section.get("runtime") if isinstance(section, dict) else None
