"""A meter of a bridge as a value: what it lets pass, and what it drops."""

from __future__ import annotations

from dataclasses import dataclass

from flows.model import Rate, RateUnit

BURST_MS = 100
"""A meter lets so much pass at once, in milliseconds of its rate."""
BURSTS_MIN = {RateUnit.KBPS: 256, RateUnit.PPS: 10}
"""And never less than this: one long packet must pass a slow meter."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Packets beyond ``rate`` are dropped; ``number`` is what flows name it by."""

    number: int
    rate: Rate

    @property
    def burst(self) -> int:
        """Kilobits or packets that may pass at once after a silence."""
        return max(self.rate.value * BURST_MS // 1000, BURSTS_MIN[self.rate.unit])

    def __str__(self) -> str:
        unit = "pktps" if self.rate.unit is RateUnit.PPS else "kbps"
        band = f"type=drop,rate={self.rate.value},burst_size={self.burst}"
        return f"meter={self.number},{unit},burst,stats,bands={band}"
