"""The datapath that tests run on: ``CLOUDTAP_DATAPATH`` is ``netdev`` (default) or ``system``.

``system`` is the kernel's own; tools/kernel-lab gives a machine that has it.
"""

from __future__ import annotations

import os
from enum import StrEnum

VARIABLE = "CLOUDTAP_DATAPATH"


class Datapath(StrEnum):
    """A ``datapath_type`` of Open vSwitch."""

    NETDEV = "netdev"
    """Switches in ovs-vswitchd."""
    SYSTEM = "system"
    """Switches in the kernel module openvswitch; ovs-vswitchd serves upcalls."""

    @property
    def instance(self) -> str:
        """The name of the one datapath of this type, as ``ovs-appctl dpctl`` knows it."""
        return {Datapath.NETDEV: "netdev@ovs-netdev", Datapath.SYSTEM: "system@ovs-system"}[self]


def chosen_datapath(name: str | None) -> Datapath:
    """The datapath of this name; the userspace one without a name.

    Raises:
        ValueError: there is no such datapath.
    """
    try:
        return Datapath(name or Datapath.NETDEV)
    except ValueError:
        known = " or ".join(Datapath)
        raise ValueError(f"{VARIABLE}={name} is no datapath: write {known}") from None


DATAPATH = chosen_datapath(os.environ.get(VARIABLE))
"""The ``datapath_type`` of every bridge of a test."""
