"""Rates in words that people type: `200 mbps`, `1.5 gbps`, `5000 pps`."""

from __future__ import annotations

import re
from decimal import Decimal

from flows.errors import InvalidValue
from flows.model.session import Rate, RateUnit

UNITS = {
    "kbps": (RateUnit.KBPS, 1),
    "mbps": (RateUnit.KBPS, 1000),
    "gbps": (RateUnit.KBPS, 1_000_000),
    "pps": (RateUnit.PPS, 1),
}
"""Each unit, and how many of ours it is; `kbit`, `kbit/s` and the like mean the same."""

_WORDS = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,6})?) *(?P<unit>[a-z/]+)", re.ASCII)


def read_rate(words: str) -> Rate:
    """The rate that somebody has written.

    Raises:
        InvalidValue: it is not understood, or outside of what a rate may be.
    """
    found = _WORDS.fullmatch(words.strip().lower())
    unit = re.sub(r"bits?(/s)?$", "bps", found["unit"]) if found else ""
    if found is None or unit not in UNITS:
        raise InvalidValue(
            f"rate {words!r} is not understood: write it like '200 mbps', '500 kbps' or '5000 pps'"
        )
    ours, factor = UNITS[unit]
    value = Decimal(found["number"]) * factor
    if value != int(value):
        raise InvalidValue(f"rate {words!r} is no whole number of {ours.value}")
    return Rate(ours, int(value))


def show_rate(rate: Rate) -> str:
    """A rate in its largest whole unit, so that it can be typed again."""
    fitting = [
        (factor, unit)
        for unit, (ours, factor) in UNITS.items()
        if ours is rate.unit and rate.value % factor == 0
    ]
    factor, unit = max(fitting)
    return f"{rate.value // factor} {unit}"
