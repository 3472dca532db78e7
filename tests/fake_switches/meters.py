"""The meters of one switch, checked as Open vSwitch checks them (lib/ofp-meter.c, ofproto.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

from tests.fake_switches.refusal import Refusal, Refused

HEADER_BYTES = 8
MOD = Struct("!HHI")
BAND = Struct("!HHII4x")
REQUEST = Struct("!I4x")
CONFIG = Struct("!HHI")
COUNTERS = Struct("!IH6xIQQII")
BAND_COUNTERS = Struct("!QQ")
FEATURES = Struct("!IIIBB2x")
ADD, MODIFY, DELETE = range(3)
KBPS, PKTPS, ALL_FLAGS = 1, 2, 0xF
DROP = 1
NUMBER_MAX = 0xFFFF0000
ALL = 0xFFFFFFFF
BANDS_MAX = 8


@dataclass
class Meter:
    """One meter: its configuration, and what its bands have dropped."""

    number: int
    flags: int
    bands: tuple[tuple[int, int], ...]
    dropped: tuple[int, int] = (0, 0)
    """Packets and bytes."""
    passed: tuple[int, int] = (0, 0)
    """The same of what has passed."""


class Meters:
    """All meters of a switch, at most ``limit``; ``on_delete`` removes the flows of one."""

    def __init__(self, on_delete: Callable[[int], None], limit: int = 262144) -> None:
        self.by_number: dict[int, Meter] = {}
        self.limit = limit
        self.changes = 0
        """Messages that changed a meter, or wanted to."""
        self._on_delete = on_delete

    def change(self, message: bytes) -> None:
        """Do what a meter-mod message says; raises Refused."""
        self.changes += 1
        if len(message) < HEADER_BYTES + MOD.size:
            raise Refused(Refusal.BAD_LEN)
        command, flags, number = MOD.unpack_from(message, HEADER_BYTES)
        if command not in (ADD, MODIFY, DELETE):
            raise Refused(Refusal.METER_COMMAND)
        if command == DELETE:
            for gone in [n for n in self.by_number if number in (n, ALL)]:
                del self.by_number[gone]
                self._on_delete(gone)
            return
        if not 1 <= number <= NUMBER_MAX:
            raise Refused(Refusal.METER_INVALID)
        if flags & ~ALL_FLAGS or (flags & KBPS > 0) == (flags & PKTPS > 0):
            raise Refused(Refusal.METER_FLAGS)
        meter = Meter(number, flags, tuple(_bands(message[HEADER_BYTES + MOD.size :])))
        self._set(command, meter)

    def config(self, number: int) -> Iterator[bytes]:
        """The entries of a meter configuration reply."""
        for meter in self._asked(number):
            bands = b"".join(BAND.pack(DROP, BAND.size, *band) for band in meter.bands)
            yield CONFIG.pack(CONFIG.size + len(bands), meter.flags, meter.number) + bands

    def counters(self, number: int) -> Iterator[bytes]:
        """The entries of a meter statistics reply."""
        for meter in self._asked(number):
            counts = BAND_COUNTERS.pack(*meter.dropped)
            counts += BAND_COUNTERS.pack(0, 0) * (len(meter.bands) - 1)
            size = COUNTERS.size + len(counts)
            seen = [sum(both) for both in zip(meter.dropped, meter.passed, strict=True)]
            yield COUNTERS.pack(meter.number, size, 0, *seen, 0, 0) + counts

    def features(self) -> bytes:
        """The body of a meter features reply."""
        return FEATURES.pack(self.limit, 1 << DROP if self.limit else 0, 0xF, BANDS_MAX, 0)

    def _set(self, command: int, meter: Meter) -> None:
        is_there = meter.number in self.by_number
        if command == MODIFY and not is_there:
            raise Refused(Refusal.METER_UNKNOWN)
        if command == ADD and is_there:
            raise Refused(Refusal.METER_EXISTS)
        if not is_there and len(self.by_number) >= self.limit:
            raise Refused(Refusal.METER_NO_ROOM)
        self.by_number[meter.number] = meter

    def _asked(self, number: int) -> list[Meter]:
        if number == ALL:
            return list(self.by_number.values())
        if number not in self.by_number:
            raise Refused(Refusal.METER_UNKNOWN)
        return [self.by_number[number]]


def _bands(body: bytes) -> Iterator[tuple[int, int]]:
    """The rate and burst of each band."""
    at, count = 0, 0
    while at < len(body):
        if len(body) - at < BAND.size:
            raise Refused(Refusal.BAD_LEN)
        kind, length, rate, burst = BAND.unpack_from(body, at)
        if length > len(body) - at or length % 8:
            raise Refused(Refusal.BAD_LEN)
        if kind != DROP:
            raise Refused(Refusal.METER_BAND)
        if not rate:
            raise Refused(Refusal.METER_RATE)
        at, count = at + length, count + 1
        yield rate, burst
    if not 1 <= count <= BANDS_MAX:
        raise Refused(Refusal.METER_NO_BANDS)
