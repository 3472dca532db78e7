"""Import hook that lets unmodified ryu 4.34 run on a current eventlet.

ryu.app.wsgi imports `eventlet.wsgi.ALREADY_HANDLED`, which eventlet removed in 0.30.3. The hook
restores the name just before that module is imported. It imports nothing before that: every Python
of an environment runs install() at its start (zz_cloudtap_ryu.pth).

ryu has a command `ryu-manager` as well, and whichever was installed last is there. Where it is that
of ryu, the hook runs ours in its place.
"""

import os
import sys
from typing import Any

_MANAGER = "ryu.cmd.manager"


class RyuWsgiFinder:
    """A finder that finds nothing; it prepares eventlet when ryu.app.wsgi is imported."""

    runs_manager = False
    """Whether our manager runs, so that ryu's is a module like others."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Prepare eventlet for ryu.app.wsgi; None, so that other finders find the module.

        Does not return when ryu's own command loads its manager: ours runs, and ends the process.
        """
        if name == _MANAGER and not RyuWsgiFinder.runs_manager and _is_command_of_ryu():
            from controller.runtime import ryu_manager

            ryu_manager.main()
        if name == "ryu.app.wsgi":
            import eventlet.wsgi

            if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
                # eventlet tracks handled websockets itself now; the name only has to exist
                eventlet.wsgi.ALREADY_HANDLED = []


def leave_manager_alone() -> None:
    """Our manager runs: the hook need not start it when ryu's is imported."""
    RyuWsgiFinder.runs_manager = True


def _is_command_of_ryu() -> bool:
    """Whether this process was started as `ryu-manager`, or as `python -m` of ryu's manager."""
    if sys.argv[:1] == ["-m"]:
        return _MANAGER in sys.orig_argv
    return os.path.basename(sys.argv[0]) == "ryu-manager"


def install() -> None:
    """Install the hook; any number of times."""
    if RyuWsgiFinder not in sys.meta_path:
        sys.meta_path.insert(0, RyuWsgiFinder)
