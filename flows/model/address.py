"""Which addresses may be those of remote sensors."""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPAddress, IPNetwork

from flows.errors import InvalidValue

UNFIT: Mapping[IPNetwork, str] = {
    IPNetwork("0.0.0.0/8"): "it names no host (RFC 1122)",
    IPNetwork("127.0.0.0/8"): "it is a loopback address, which every host has for itself",
    IPNetwork("169.254.0.0/16"): "it is a link-local address, which is another host on every link",
    IPNetwork("224.0.0.0/4"): "it is a multicast address, and copies go to one receiver",
    IPNetwork("255.255.255.255/32"): "it is the broadcast address, and copies go to one receiver",
    IPNetwork("240.0.0.0/4"): "it is reserved, and names no host (RFC 1112)",
    IPNetwork("::/128"): "it is the unspecified address, and names no host",
    IPNetwork("::1/128"): "it is the loopback address, which every host has for itself",
    IPNetwork("::ffff:0:0/96"): "it stands for an IPv4 address: write that one",
    IPNetwork("fe80::/10"): "it is a link-local address, which is another host on every link",
    IPNetwork("ff00::/8"): "it is a multicast address, and copies go to one receiver",
}
"""Addresses that tell no single host from all others, and why (RFC 6890); first match decides."""


def check_address(what: str, address: IPAddress) -> None:
    """Refuse an address that cannot be that of one host somewhere in the network.

    Raises:
        InvalidValue: with the reason.
    """
    for network, why in UNFIT.items():
        if address in network:
            raise InvalidValue(f"{what} {address} cannot be used: {why}")
