"""Import hook that lets ryu 4.34 run on a current eventlet, with ryu's files as they are.

ryu.app.wsgi imports `eventlet.wsgi.ALREADY_HANDLED`, which eventlet removed in 0.30.3. The hook
puts the name back at the moment when that module is about to be imported. It loads nothing before
that: every Python of an environment runs install() at its start (zz_cloudtap_ryu.pth).
"""

import sys
from typing import Any


class RyuWsgiFinder:
    """A finder that finds nothing; it prepares eventlet when ryu.app.wsgi is asked for."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Prepare eventlet for ryu.app.wsgi, and leave the finding to the other finders."""
        if name == "ryu.app.wsgi":
            import eventlet.wsgi

            if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
                # eventlet notes by itself that a websocket answered; the name only has to exist
                eventlet.wsgi.ALREADY_HANDLED = []


def install() -> None:
    """Put the hook in place; any number of times."""
    if RyuWsgiFinder not in sys.meta_path:
        sys.meta_path.insert(0, RyuWsgiFinder)
