"""The only place that knows ryu from os-ken, and green threads from native ones.

The names are loaded at first use. Importing the package costs nothing, because every Python of an
environment does it at its start (zz_cloudtap_ryu.pth), and so do the command line and its tests.
A name that needs no OpenFlow library loads none.
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
        address_of,
        adopted,
        certificate_end_of,
        certificate_of,
        close,
        configure,
        disconnect,
        fail,
        guarded,
        handler_errors,
        is_behind,
        listen_errors,
        listen_handler_errors,
        listen_hangup,
        listen_port_status,
        listen_raw,
        listen_refused,
        ofp_event,
        ofproto_v1_3,
        own_xid,
        problems,
        queued,
        refusals,
        send,
        set_ev_cls,
    )
    from controller.runtime.blocking import run_blocking
    from controller.runtime.command import (
        CONFIG_FILE,
        RUNTIME_VARIABLE,
        RUNTIMES,
        configured_runtime,
        default_runtime,
        launch_command,
    )
    from controller.runtime.errors import (
        BadTlsSettings,
        CannotListen,
        OpenFlowAddressInUse,
        RuntimeMissing,
        UnknownRuntime,
    )
    from controller.runtime.log_output import log_problem, lost_log_lines

__all__ = [
    "BACKEND",
    "CONF",
    "CONFIG_DISPATCHER",
    "CONFIG_FILE",
    "DEAD_DISPATCHER",
    "HANDSHAKE_DISPATCHER",
    "HUB",
    "MAIN_DISPATCHER",
    "RUNTIMES",
    "RUNTIME_VARIABLE",
    "App",
    "BadTlsSettings",
    "CannotListen",
    "OpenFlowAddressInUse",
    "RuntimeMissing",
    "UnknownRuntime",
    "address_of",
    "adopted",
    "certificate_end_of",
    "certificate_of",
    "close",
    "configure",
    "configured_runtime",
    "default_runtime",
    "disconnect",
    "fail",
    "guarded",
    "handler_errors",
    "is_behind",
    "launch_command",
    "listen_errors",
    "listen_handler_errors",
    "listen_hangup",
    "listen_port_status",
    "listen_raw",
    "listen_refused",
    "log_problem",
    "lost_log_lines",
    "ofp_event",
    "ofproto_v1_3",
    "own_xid",
    "problems",
    "queued",
    "refusals",
    "run_blocking",
    "send",
    "set_ev_cls",
]

_MODULES = {
    "BadTlsSettings": "errors",
    "CannotListen": "errors",
    "OpenFlowAddressInUse": "errors",
    "RuntimeMissing": "errors",
    "UnknownRuntime": "errors",
    "CONFIG_FILE": "command",
    "RUNTIMES": "command",
    "RUNTIME_VARIABLE": "command",
    "configured_runtime": "command",
    "default_runtime": "command",
    "launch_command": "command",
    "log_problem": "log_output",
    "lost_log_lines": "log_output",
    "run_blocking": "blocking",
}
"""The module of each name that needs no OpenFlow library; the other names are in ``backend``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES.get(name, 'backend')}")
    return getattr(module, name)
