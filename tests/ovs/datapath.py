"""The datapath that tests run on: ``CLOUDTAP_DATAPATH`` is ``netdev`` (default) or ``system``.

``netdev`` switches in ovs-vswitchd. ``system`` is the kernel module openvswitch, which leaves
upcalls to ovs-vswitchd; tools/kernel-lab gives a machine that has it.
"""

from __future__ import annotations

import os

VARIABLE = "CLOUDTAP_DATAPATH"
NETDEV, SYSTEM = "netdev", "system"
INSTANCES = {NETDEV: "netdev@ovs-netdev", SYSTEM: "system@ovs-system"}
"""The one datapath of each type, as ``ovs-appctl dpctl`` names it."""


def chosen_datapath(name: str | None) -> str:
    """The datapath of this name; the userspace one without a name.

    Raises:
        ValueError: there is no such datapath.
    """
    chosen = name or NETDEV
    if chosen not in INSTANCES:
        raise ValueError(f"{VARIABLE}={name}: write {' or '.join(INSTANCES)}")
    return chosen


DATAPATH = chosen_datapath(os.environ.get(VARIABLE))
"""The ``datapath_type`` of every bridge of a test."""
IS_KERNEL = DATAPATH == SYSTEM
