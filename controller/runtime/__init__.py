"""The only place that knows ryu from os-ken, and green threads from real ones.

What controller/app.py needs is named here and loaded at first use: naming the package costs
nothing, because every Python of an environment passes through it (zz_cloudtap_ryu.pth) and so do
the command line and its tests.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.runtime.backend import (
        BACKEND,
        CONF,
        CONFIG_DISPATCHER,
        DEAD_DISPATCHER,
        HANDSHAKE_DISPATCHER,
        HUB,
        MAIN_DISPATCHER,
        App,
        configure,
        fail,
        guarded,
        handler_errors,
        hang_up,
        listen_handler_errors,
        listen_raw,
        listen_refused,
        ofp_event,
        ofproto_v1_3,
        own_xid,
        queued,
        send,
        set_ev_cls,
    )

__all__ = [
    "BACKEND",
    "CONF",
    "CONFIG_DISPATCHER",
    "DEAD_DISPATCHER",
    "HANDSHAKE_DISPATCHER",
    "HUB",
    "MAIN_DISPATCHER",
    "App",
    "configure",
    "fail",
    "guarded",
    "handler_errors",
    "hang_up",
    "listen_handler_errors",
    "listen_raw",
    "listen_refused",
    "ofp_event",
    "ofproto_v1_3",
    "own_xid",
    "queued",
    "send",
    "set_ev_cls",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("controller.runtime.backend"), name)
