"""Launcher of an application on os-ken: `python -m controller.runtime.osken controller.app`.

os-ken 4 has no manager of its own. Threads are real ones, unless OSKEN_HUB_TYPE=eventlet.
os-ken's AppManager.run_apps is not used: it never returns on real threads, and kills threads that
cannot be killed when interrupted.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from controller.runtime import shutdown as ending
from flows.errors import CloudtapError


def run(app_path: str, arguments: Sequence[str] = ()) -> NoReturn:
    """Run the application until SIGINT, SIGTERM (status 0) or fail() (1), then end the process.

    app_path is a module name; arguments are the library's flags (those of ryu-manager:
    --ofp-listen-host ...).
    """
    # the `ovs` package loads eventlet where it is installed, also for real threads
    warnings.filterwarnings("ignore", message=r"(?s)\s*Eventlet is deprecated")
    from os_ken.lib import hub

    # monkey_patch(thread=True) of eventlet patches threading alone; of real threads, nothing
    hub.patch(thread=False)
    hub.patch(thread=True)
    awaited = ending.begin()
    try:
        manager = _start(app_path, arguments)
        error = awaited.wait()
        if error is not None:
            ending.report(error)
        manager.close()
    except CloudtapError as unusable:
        error = unusable
        ending.report(unusable)
    except Exception as unexpected:
        error = unexpected
        traceback.print_exc()
    ending.exit_now(0 if error is None else 1)


def _start(app_path: str, arguments: Sequence[str]) -> Any:
    """Load and start the application and what it needs of os-ken; the manager of both."""
    from os_ken import cfg, log
    from os_ken.base.app_manager import AppManager  # this registers the flags, too

    log.early_init_log(logging.INFO)
    cfg.CONF(args=list(arguments), project="cloudtap", default_config_files=[])
    log.init_log()
    manager = AppManager.get_instance()
    manager.load_apps([app_path])
    manager.instantiate_apps(**manager.create_contexts())
    return manager


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
