"""The OpenFlow library of this process (ryu or os-ken), and its modules."""

import sys
from importlib import import_module
from typing import Any

from controller.runtime import ryu_import_hook
from controller.runtime.command import configured_runtime, default_runtime

PACKAGES = {"ryu": "ryu", "os-ken": "os_ken"}
"""Name of the runtime -> the library's import name."""


def _choose() -> str:
    """The library that a launcher has loaded, else the configured one, else the default."""
    for runtime, package in PACKAGES.items():
        if f"{package}.base.app_manager" in sys.modules:
            return runtime
    return configured_runtime() or default_runtime()


def _module(path: str) -> Any:
    return import_module(f"{PACKAGES[BACKEND]}.{path}")


BACKEND = _choose()
if BACKEND == "ryu":
    ryu_import_hook.install()

hub = _module("lib.hub")
app_manager = _module("base.app_manager")
cfg = _module("cfg")
controller = _module("controller.controller")
handler = _module("controller.handler")
ofp_event = _module("controller.ofp_event")
ofp_handler = _module("controller.ofp_handler")
ofproto_parser = _module("ofproto.ofproto_parser")
ofproto_v1_3 = _module("ofproto.ofproto_v1_3")

AppBase: Any = app_manager.RyuApp if BACKEND == "ryu" else app_manager.OSKenApp
HUB: str = hub.HUB_TYPE
"""`eventlet`: green threads; `native`: native threads."""
