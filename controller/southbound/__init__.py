"""Everything that speaks to switches: OpenFlow, and the Open vSwitch database (OVSDB)."""

from controller.southbound.connections import Connections, Transport
from controller.southbound.errors import (
    Displaced,
    NotOurs,
    OfAnotherBridge,
    SwitchGone,
    SwitchRefused,
    SwitchTimeout,
    SwitchUnfit,
    SwitchUnreachable,
    WireError,
)
from controller.southbound.ports import LOCAL_PORT, PortChange, PortCount, PortReason, SwitchPort
from controller.southbound.revalidation import Revalidation, SettlingBridge
from controller.southbound.switch import (
    ForeignFlow,
    FragmentsMatched,
    LastCounts,
    Rejected,
    Switch,
    refusals,
)
from controller.southbound.unixctl import CommandFailed, NotAnswered, ask_vswitchd

__all__ = [
    "LOCAL_PORT",
    "CommandFailed",
    "Connections",
    "Displaced",
    "ForeignFlow",
    "FragmentsMatched",
    "LastCounts",
    "NotAnswered",
    "NotOurs",
    "OfAnotherBridge",
    "PortChange",
    "PortCount",
    "PortReason",
    "Rejected",
    "Revalidation",
    "SettlingBridge",
    "Switch",
    "SwitchGone",
    "SwitchPort",
    "SwitchRefused",
    "SwitchTimeout",
    "SwitchUnfit",
    "SwitchUnreachable",
    "Transport",
    "WireError",
    "ask_vswitchd",
    "refusals",
]
