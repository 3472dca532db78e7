"""Rates as text, like `200 mbps`, `1.5 gbps` or `5000 pps`: parsed and formatted."""

from __future__ import annotations

import re
from decimal import Decimal

from flows.errors import InvalidValue
from flows.model import Rate, RateUnit

RATE_UNITS = {
    "kbps": (RateUnit.KBPS, 1),
    "mbps": (RateUnit.KBPS, 1000),
    "gbps": (RateUnit.KBPS, 1_000_000),
    "pps": (RateUnit.PPS, 1),
}
"""Each unit as a multiple of a RateUnit; `kbit` and `kbit/s` are synonyms of `kbps`, and so on."""

_RATE = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,6})?) *(?P<unit>[a-z/]+)", re.ASCII)


def read_rate(text: str) -> Rate:
    """Parse a rate.

    Raises:
        InvalidValue: it cannot be parsed, or is out of range.
    """
    found = _RATE.fullmatch(text.strip().lower())
    unit = re.sub(r"bits?(/s)?$", "bps", found["unit"]) if found else ""
    if found is None or unit not in RATE_UNITS:
        raise InvalidValue(
            f"rate {text!r} is not understood: write it like '200 mbps', '500 kbps' or '5000 pps'"
        )
    base, factor = RATE_UNITS[unit]
    value = Decimal(found["number"]) * factor
    if value != int(value):
        raise InvalidValue(f"rate {text!r} is no whole number of {base.value}")
    return Rate(base, int(value))


def show_rate(rate: Rate) -> str:
    """A rate in the largest unit that divides it, which ``read_rate`` parses to the same rate."""
    fitting = [
        (factor, unit)
        for unit, (base, factor) in RATE_UNITS.items()
        if base is rate.unit and rate.value % factor == 0
    ]
    factor, unit = max(fitting)
    return f"{rate.value // factor} {unit}"
