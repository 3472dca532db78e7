"""Which versions of Open vSwitch change the wrong megaflow, so that stale ones stay in use.

Before commit 21410ff80 ("dpif-netdev: Fix dpif_netdev_flow_put") the userspace datapath looked up
the megaflow to be changed by a packet instead of by its id: of two that overlap it may change the
other one. Then a copy goes on, or never begins, as long as its traffic flows, although the flow
tables are right. Megaflows that are deleted and made again are right.
"""

from __future__ import annotations

import re

from controller.southbound.ovsdb import OvsdbSnapshot
from flows.model import Dpid

FIXED_IN: tuple[tuple[int, int, int], ...] = ((2, 17, 8), (3, 0, 5), (3, 1, 3))
"""The first good version of each series that has a bad one; series before them have none, and 3.2.0
and later are good. A package may contain the correction under an older number: unknown here."""
GOOD_SERIES = (3, 2)
USERSPACE = "netdev"
"""The datapath type of the userspace datapath in OVSDB."""


def changes_wrong_megaflows(software: str) -> bool:
    """Whether a version of Open vSwitch has the defect; True if the version is not known."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", software, re.ASCII)
    if found is None:
        return True
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version[:2] >= GOOD_SERIES:
        return False
    fixed = next((first for first in FIXED_IN if first[:2] == version[:2]), None)
    return fixed is None or version < fixed


def has_stale_megaflows(dpid: Dpid, software: str, databases: OvsdbSnapshot) -> bool:
    """Whether the datapath of a bridge may keep stale megaflows after a change of its flows.

    A bridge that no database has counts as one of the userspace datapath.
    """
    if not changes_wrong_megaflows(software):
        return False
    kinds = {row.datapath_type for row in databases.bridges if row.dpid == dpid}
    return not kinds or USERSPACE in kinds
