"""Import hook that lets unmodified ryu 4.34 run on a current eventlet.

ryu.app.wsgi imports `eventlet.wsgi.ALREADY_HANDLED`, which eventlet removed in 0.30.3. The hook
restores the name just before that module is imported. It imports nothing before that: every Python
of an environment runs install() at its start (zz_cloudtap_ryu.pth).
"""

import sys
from typing import Any


class RyuWsgiFinder:
    """A finder that finds nothing; it prepares eventlet when ryu.app.wsgi is imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Prepare eventlet for ryu.app.wsgi; None, so that other finders find the module."""
        if name == "ryu.app.wsgi":
            import eventlet.wsgi

            if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
                # eventlet tracks handled websockets itself now; the name only has to exist
                eventlet.wsgi.ALREADY_HANDLED = []


def install() -> None:
    """Install the hook; any number of times."""
    if RyuWsgiFinder not in sys.meta_path:
        sys.meta_path.insert(0, RyuWsgiFinder)
