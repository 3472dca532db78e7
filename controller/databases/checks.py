"""What a value of a database must be before anybody uses it: lengths, characters, ranges.

A datapath id, a name or an iface-id names a bridge, a port or a tenant's workload, is stored, and
is shown to people. A value that cannot be what Open vSwitch or a hypervisor writes is refused, with
its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.databases.errors import BadValue, shown

NAME_MAX = 255
"""The longest name of a bridge, port or interface, in characters (Linux allows 15 bytes)."""
IFACE_ID_MAX = 255
"""The longest iface-id in characters; OpenStack and OVN write uuids of 36."""
SHOWN_MAX = 300
"""So much of a text for people is passed on, in characters."""
OPTIONS_MAX, OPTION_MAX = 16, 60
"""The most options of a tunnel port of ours that are passed on, and so much of its type and of
each key and value, in characters. Ours have less, so nothing that is cut looks like ours."""
MTUS = range(68, 65537)
"""MTUs of devices in bytes: at least that of IPv4 (RFC 791), at most that of Linux's loopback."""
IFINDEXES = range(1, 1 << 31)
"""Indexes of devices: positive numbers of 32 bits with a sign (linux/netdevice.h)."""
LINK_SPEEDS = range(1, 10**13 + 1)
"""Speeds of devices in bit/s; Ethernet has 1.6 Tbit/s at most (IEEE 802.3dj)."""
_HEX = re.compile(r"[0-9a-fA-F]{1,16}", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)


def read_datapath_id(text: str) -> int:
    """The datapath id, 1 to 2^64-1.

    Raises:
        BadValue: Open vSwitch would write 16 hexadecimal digits.
    """
    if not _HEX.fullmatch(text):
        raise BadValue(f"its datapath_id {shown(text)} is not 16 hexadecimal digits")
    number = int(text, 16)
    if not number:
        raise BadValue("its datapath_id is 0, which no bridge may have")
    return number


def check_name(text: str) -> str:
    """The name of a bridge or an interface.

    Raises:
        BadValue: it is empty, too long, or has characters that cannot be printed.
    """
    return _check(text, "name", NAME_MAX)


def read_iface_id(external_ids: Mapping[str, str]) -> str | None:
    """The ``iface-id``; None if there is none.

    Raises:
        BadValue: it is too long, or has characters that cannot be printed.
    """
    text = external_ids.get("iface-id")
    return _check(text, "external_ids:iface-id", IFACE_ID_MAX) if text else None


def read_mac(external_ids: Mapping[str, str]) -> str | None:
    """The ``attached-mac`` like ``02:00:00:00:00:01``; None if there is none that can be read."""
    text = external_ids.get("attached-mac", "")
    return text if _MAC.fullmatch(text) else None


def read_number(value: object, allowed: range) -> int | None:
    """A number of a row; None if it has none, or one that is not allowed."""
    return value if isinstance(value, int) and value in allowed else None


def clean(text: str | None) -> str:
    """A text for people: one line of characters that can be printed, of bounded length."""
    if not text:
        return ""
    line = " ".join(text[: 2 * SHOWN_MAX].split())[:SHOWN_MAX]
    return "".join(c if c.isprintable() else "?" for c in line)


def _check(text: str, what: str, longest: int) -> str:
    if not text:
        raise BadValue(f"its {what} is empty")
    if len(text) > longest:
        raise BadValue(f"its {what} {shown(text)} is longer than {longest} characters")
    if not text.isprintable():
        raise BadValue(f"its {what} {shown(text)} has characters that cannot be printed")
    return text
