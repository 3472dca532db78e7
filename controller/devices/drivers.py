"""Drivers of network devices: those of network cards, and those of virtual devices."""

from __future__ import annotations

VIRTUAL_DRIVERS = frozenset(
    [
        *("veth", "netkit", "tun", "openvswitch", "dummy", "bridge", "bonding", "team", "vrf"),
        *("macvlan", "macvtap", "ipvlan", "ipvtap", "802.1Q VLAN Support", "ifb"),
        *("virtio_net", "vif", "xen_netback", "xen_netfront", "hv_netvsc", "vmxnet3"),
    ]
)
"""Drivers of devices that may hand on packets as they get them. Devices that stand on others
(bonds, VLANs) are among them although a network card may be below: these cannot be seen from here,
and without offloads such a device costs some processor time and loses nothing. So are those of a
virtual machine that runs Open vSwitch: what follows is a switch of its host."""


def is_virtual(driver: str) -> bool:
    """Whether devices of a driver may hand on packets as they get them; "" is not known.

    Others are of network cards, which segment and finish checksums on the wire.
    """
    return driver in VIRTUAL_DRIVERS or not driver
