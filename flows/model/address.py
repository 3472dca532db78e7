"""MAC addresses as text, and which IP addresses may be those of remote sensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from netaddr import EUI, IPAddress, IPNetwork, mac_unix_expanded

from flows.errors import InvalidValue

UNUSABLE_PREFIXES: Mapping[IPNetwork, str] = {
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
"""Prefixes whose addresses cannot be those of one remote host, and why (RFC 6890); first match."""

_NAT64, _LOCAL_NAT64 = IPNetwork("64:ff9b::/96"), IPNetwork("64:ff9b:1::/48")
_SIIT, _COMPATIBLE = IPNetwork("::ffff:0:0:0/96"), IPNetwork("::/96")
_SIX_TO_FOUR, _TEREDO = IPNetwork("2002::/16"), IPNetwork("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""Upper half of an interface id of ISATAP; the second is of a globally unique IPv4 address."""
_IPV4_BITS = 0xFFFFFFFF

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")


def parse_mac(text: str, separators: str = ":") -> EUI | None:
    """The MAC address written as six hexadecimal bytes with one of ``separators`` between them.

    None for any other text; netaddr alone would also read five bytes, Cisco's dots and numbers.
    """
    found = _MAC.fullmatch(text)
    if found is None or found[1] not in separators:
        return None
    return EUI(text, dialect=mac_unix_expanded)


def embedded_addresses(address: IPAddress) -> tuple[IPAddress, ...]:
    """The IPv4 addresses inside an IPv6 address, to which a gateway or tunnel would translate it.

    NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380: server and client), ISATAP (RFC
    5214), and SIIT (RFC 2765).
    """
    if address.version == 4:
        return ()
    whole, low = int(address), int(address) & _IPV4_BITS
    if address in _LOCAL_NAT64 and not low:  # the form with a prefix of 48 bits
        found = [(whole >> 64 & 0xFFFF) << 16 | whole >> 40 & 0xFFFF]
    elif address in _NAT64 or address in _LOCAL_NAT64 or address in _SIIT:
        found = [low]
    elif address in _SIX_TO_FOUR:
        found = [whole >> 80 & _IPV4_BITS]
    elif address in _TEREDO:
        found = [whole >> 64 & _IPV4_BITS, low ^ _IPV4_BITS]
    elif whole >> 32 & 0xFFFFFFFF in _ISATAP:
        found = [low]
    else:
        found = []
    return tuple(IPAddress(each, 4) for each in found)


def check_new_address(what: str, address: IPAddress) -> None:
    """Refuse an address that stands for one that ``check_address`` refuses, and that one itself.

    For addresses that are given now: one that is stored since an earlier version goes on.

    Raises:
        InvalidValue: with the reason.
    """
    check_address(what, address)
    if address in _COMPATIBLE:
        raise InvalidValue(
            f"{what} {address} cannot be used: it stands for an IPv4 address: write that one"
        )
    for inside in embedded_addresses(address):
        try:
            check_address("address", inside)
        except InvalidValue as error:
            raise InvalidValue(
                f"{what} {address} cannot be used: it stands for {inside}: {error}"
            ) from error


def check_address(what: str, address: IPAddress) -> None:
    """Refuse an address that cannot be that of one host somewhere in the network.

    Raises:
        InvalidValue: with the reason.
    """
    for network, why in UNUSABLE_PREFIXES.items():
        if address in network:
            raise InvalidValue(f"{what} {address} cannot be used: {why}")
