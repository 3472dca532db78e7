"""Marked frames that verify a path, and what arrived of them."""

from flows.beacon.arrivals import Arrivals, BeaconPath, Finding
from flows.beacon.beacon import COUNTS, LENGTHS, MAGIC, Beacon

__all__ = [
    "COUNTS",
    "LENGTHS",
    "MAGIC",
    "Arrivals",
    "Beacon",
    "BeaconPath",
    "Finding",
]
