"""Names of the devices that we make: at most 15 characters, the limit of Linux."""

from __future__ import annotations

from flows.model import Dpid

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def device_name(letter: str, dpid: Dpid) -> str:
    """The name of a device of a bridge: ``c``, a letter for what it is, and the datapath id in
    base 36, which has at most 13 digits. No two bridges of a host have the same names.
    """
    digits, rest = "", int(dpid)
    while rest or not digits:
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"c{letter}{digits}"
