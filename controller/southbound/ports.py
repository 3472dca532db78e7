"""Ports of a switch, and port-status changes, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.model import Setting
from flows.openflow import PacketCount

LOCAL_PORT = 0xFFFFFFFE
"""OFPP_LOCAL: the port of the bridge itself, which has its name."""


class PortReason(Enum):
    """The reason of a port-status message (OFPPR_*)."""

    ADDED = 0
    """The port is new."""
    DELETED = 1
    """The port is gone; another port may get its number."""
    MODIFIED = 2
    """The link state or the configuration of the port changed."""


SETTING_BITS = {1 << 2: Setting.NO_RECEIVE, 1 << 5: Setting.NO_FORWARD}
"""OFPPC_NO_RECV and OFPPC_NO_FWD of the configuration of a port."""
BLOCKED_BIT = 1 << 1
"""OFPPS_BLOCKED of the state of a port."""


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """One port as a switch describes it; the LOCAL port has the name of the bridge.

    ``settings`` are those with which packets do not pass it.
    """

    ofport: int
    name: str
    is_up: bool
    settings: frozenset[Setting] = frozenset()


def port_settings(config: int, state: int) -> frozenset[Setting]:
    """The settings that the configuration and the state of a port contain (OFPPC_*, OFPPS_*)."""
    found = {setting for bit, setting in SETTING_BITS.items() if config & bit}
    return frozenset(found | ({Setting.NOT_FORWARDING} if state & BLOCKED_BIT else set()))


@dataclass(frozen=True, slots=True)
class PortCount:
    """The counters of one port. ``lost`` are packets that its device could not hand on
    (``tx_dropped``); None: they are not counted.
    """

    sent: PacketCount
    received: PacketCount
    lost: int | None


@dataclass(frozen=True, slots=True)
class PortChange:
    """One port-status message."""

    reason: PortReason
    port: SwitchPort
