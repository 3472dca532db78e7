"""Launcher of an application on os-ken: `python -m controller.runtime.osken controller.app`.

os-ken 4 has no manager of its own. Threads are native, unless OSKEN_HUB_TYPE=eventlet.
os-ken's AppManager.run_apps is not used: on native threads it never returns, and on an interrupt it
tries to kill threads that cannot be killed.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from controller.runtime import log_output, shutdown
from flows.errors import CloudtapError


def run(app_path: str, arguments: Sequence[str] = ()) -> NoReturn:
    """Run the application until SIGINT, SIGTERM (status 0) or fail() (1), then end the process.

    ``app_path`` is a module name; ``arguments`` are the flags of the library, which are those of
    ryu-manager (--ofp-listen-host ...).
    """
    _run(lambda: _start([app_path], arguments))


def run_as_manager(arguments: Sequence[str]) -> NoReturn:
    """The same with the command line of ryu-manager: flags and module names in any order."""
    _run(lambda: _start(None, arguments))


def _run(start: Callable[[], Any]) -> NoReturn:
    log_output.start()
    # the `ovs` package loads eventlet if it is installed, also with native threads
    warnings.filterwarnings("ignore", message=r"(?s)\s*Eventlet is deprecated")
    from os_ken.lib import hub

    # monkey_patch(thread=True) of eventlet patches threading alone; with native threads, nothing
    hub.patch(thread=False)
    hub.patch(thread=True)
    awaited = shutdown.begin()
    try:
        manager = start()
        error = awaited.wait()
        if error is not None:
            shutdown.report(error)
        manager.close()
    except CloudtapError as unusable:
        error = unusable
        shutdown.report(unusable)
    except Exception as unexpected:
        error = unexpected
        traceback.print_exc()
    shutdown.exit_now(0 if error is None else 1)


def _start(apps: Sequence[str] | None, arguments: Sequence[str]) -> Any:
    """Load and start the applications and the os-ken services that they need; their manager.

    Without ``apps`` they are among the arguments.
    """
    from os_ken import cfg, log
    from os_ken.base.app_manager import AppManager  # this registers the flags, too

    log.early_init_log(logging.INFO)
    if apps is None:
        cfg.CONF.register_cli_opt(cfg.MultiStrOpt("app", positional=True, default=[]))
    cfg.CONF(args=list(arguments), project="cloudtap", default_config_files=[])
    log.init_log()
    manager = AppManager.get_instance()
    manager.load_apps(list(cfg.CONF.app if apps is None else apps))
    manager.instantiate_apps(**manager.create_contexts())
    return manager


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
