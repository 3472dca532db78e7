"""Rates: the caps of copies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.errors import InvalidValue

RATES = range(1, 1 << 32)
"""Values of a rate, in its unit."""


class RateUnit(Enum):
    """The unit of a rate."""

    KBPS = "kbps"
    """Thousands of bits in a second."""
    PPS = "pps"
    """Packets in a second."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate cap in kilobits or packets per second.

    Raises:
        InvalidValue: the value is outside RATES.
    """

    unit: RateUnit
    value: int

    def __post_init__(self) -> None:
        if self.value not in RATES:
            allowed = f"{RATES.start}..{RATES.stop - 1}"
            raise InvalidValue(f"a rate of {self.value} {self.unit.value} is outside {allowed}")

    def __str__(self) -> str:
        return f"{self.value} {self.unit.value}"
