"""Beacons: marked frames that are sent on copy paths, to verify them without production traffic.

A beacon is an Ethernet frame of an EtherType for local experiments (IEEE 802, 0x88b5) between two
locally administered addresses. Its body names the check, the bridge, the network, and its number
among how many; the rest is a fixed pattern, which shows damage and truncation.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from flows.errors import InvalidValue
from flows.model import Dpid
from flows.openflow import ETH_HEADER

ETH_BEACON = 0x88B5
"""Local Experimental EtherType 1 of IEEE 802."""
MAGIC = b"\xc7\xa0cldtap"
LENGTHS = range(64, 1501)
"""Bytes that a beacon may have, Ethernet header included, frame check sequence not."""
COUNTS = range(1, 1001)
"""Beacons that one check may send on one path."""

_ADDRESSES = bytes.fromhex("0ec7a00000020ec7a0000001")
_TYPE = ETH_BEACON.to_bytes(2, "big")
_BODY = Struct("!8sQQHIIIHQ")
HEADER_BYTES = ETH_HEADER + _BODY.size
"""Bytes that must arrive for a beacon to be recognized."""
_PATTERN = bytes(range(256)) * 8


@dataclass(frozen=True, slots=True)
class Beacon:
    """One marked frame.

    ``run`` is the number of the check (64 bits), ``sensor`` the position of the sensor in its
    collector, ``network`` the number of a network or 0; ``number`` counts from 1 to ``count``,
    ``length`` is in bytes, ``sent_ns`` the time on the sender's clock in nanoseconds.

    Raises:
        InvalidValue: the length, the count or the number is outside its range.
    """

    run: int
    bridge: Dpid
    sensor: int
    network: int
    number: int
    count: int
    length: int
    sent_ns: int = 0

    def __post_init__(self) -> None:
        if self.length not in LENGTHS:
            raise InvalidValue(
                f"a beacon of {self.length} bytes is outside {LENGTHS.start}..{LENGTHS.stop - 1}"
            )
        if self.count not in COUNTS or not 1 <= self.number <= self.count:
            raise InvalidValue(f"beacon {self.number} of {self.count}: at most {COUNTS.stop - 1}")

    def frame(self) -> bytes:
        """Its bytes, without frame check sequence."""
        body = _BODY.pack(
            MAGIC, self.run, self.bridge, self.sensor, self.network, self.number, self.count,
            self.length, self.sent_ns,
        )  # fmt: skip
        rest = self.length - HEADER_BYTES
        start = self.number & 0xFF
        return _ADDRESSES + _TYPE + body + _PATTERN[start : start + rest]


def read_beacon(frame: bytes) -> Beacon | None:
    """The beacon in an untagged frame, truncated or not; None when the frame is no beacon."""
    if len(frame) < HEADER_BYTES or frame[12:14] != _TYPE or frame[14:22] != MAGIC:
        return None
    _, *numbers = _BODY.unpack_from(frame, ETH_HEADER)
    run, bridge, *rest = numbers
    try:
        return Beacon(run, Dpid(bridge), *rest)
    except InvalidValue:
        return None
