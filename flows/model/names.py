"""Names and ids of tenants, networks, ports, sessions and bridges."""

from __future__ import annotations

import re
from typing import NewType

from flows.errors import InvalidValue

TenantName = NewType("TenantName", str)
NetworkId = NewType("NetworkId", str)
PortId = NewType("PortId", str)
CollectorId = NewType("CollectorId", str)
SessionId = NewType("SessionId", str)
FilterId = NewType("FilterId", str)
Dpid = NewType("Dpid", int)
Ofport = NewType("Ofport", int)
Label = tuple[str, str]
"""Key and value of a label that the inventory gives to a port."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""What a name or an id may be: 1 to 64 of letters, digits and ``. _ : -``."""
ALL = FilterId("all")
"""The built-in filter that accepts everything; it has no tenant, and every tenant may use it."""
OFPORT_MAX = 0xFEFE
"""Highest OpenFlow port number of our ports. Open vSwitch also assigns 0xFEFF (below OFPP_MAX of
OpenFlow 1.0), which flows use as the number of no port."""


def check_name(what: str, value: str) -> None:
    """Refuse a name or id that could not be shown, typed or put in a URL.

    Raises:
        InvalidValue: with a sentence that says what a name may be.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidValue(
            f"{what} {value!r} is not a name: use 1 to 64 letters, digits, '.', '_', ':' or '-', "
            "beginning with a letter or digit"
        )
