"""Counters of flows and meters: packets and bytes."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER_MAX = (1 << 62) - 1
"""Highest number of packets or bytes that a counter can have reached: 400 Gbit/s for nearly three
years. Switches report 2^64 - 1 for what they do not count (OpenFlow 1.3.5, 7.3.5)."""


@dataclass(frozen=True, slots=True)
class PacketCount:
    """A counter of a switch: packets and their bytes."""

    packets: int = 0
    bytes: int = 0

    @property
    def is_possible(self) -> bool:
        """Whether a counter of a switch can have these values."""
        return 0 <= self.packets <= COUNTER_MAX and 0 <= self.bytes <= COUNTER_MAX

    def __add__(self, other: PacketCount) -> PacketCount:
        return PacketCount(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: PacketCount) -> PacketCount:
        return PacketCount(self.packets - other.packets, self.bytes - other.bytes)


NO_PACKETS = PacketCount()


@dataclass(frozen=True, slots=True)
class MeterCount:
    """The counters of one meter: all packets that it received, and those that it dropped."""

    seen: PacketCount = NO_PACKETS
    dropped: PacketCount = NO_PACKETS
