"""One switch over OpenFlow 1.3: requests, bundles, feature probes, and partly refused plans."""

from controller.southbound.openflow.management import ManagedSwitch, Stream, open_management
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch

__all__ = [
    "ManagedSwitch",
    "OpenFlowSwitch",
    "Stream",
    "open_management",
]
