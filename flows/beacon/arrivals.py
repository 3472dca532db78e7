"""What arrived of the beacons of one check, compared with what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.beacon.beacon import Beacon, read_beacon
from flows.beacon.decapsulate import open_envelope
from flows.model.session import Dpid


@dataclass(frozen=True, slots=True)
class Way:
    """One way of copies: from a bridge to a sensor (its position), of one network or of all (0).

    ``tag`` is the 802.1Q id that they should wear, ``length`` what should arrive of each in bytes;
    0 when nothing should.
    """

    bridge: Dpid
    sensor: int
    network: int
    sent: int
    length: int
    tag: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What arrived by one way; the counts are of frames, by what was seen at them.

    ``late`` arrived behind one with a higher number; ``damaged`` differ from what was sent where
    they are there at all.
    """

    way: Way
    arrived: int = 0
    twice: int = 0
    late: int = 0
    damaged: int = 0
    tags: Counter[int | None] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    tunnels: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """How many did not arrive that should have."""
        return self.way.sent - self.arrived if self.way.length else 0

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a clause each; nothing when all is as it should be."""
        way, found = self.way, []
        counts = {"lost": self.lost, "twice": self.twice, "out of order": self.late}
        counts["damaged"] = self.damaged
        found += [f"{count} {what}" for what, count in counts.items() if count]
        if wrong := sorted(str(tag or "none") for tag in self.tags if tag != way.tag):
            found.append(f"tag {', '.join(wrong)} instead of {way.tag or 'none'}")
        if odd := sorted(length for length in self.lengths if length != way.length):
            instead = f"instead of {way.length}" if way.length else "though it is too long to go"
            found.append(f"{', '.join(map(str, odd))} bytes {instead}")
        return tuple(found)


class Arrivals:
    """Takes frames as they come to a sensor, and picks out the beacons of one check."""

    def __init__(self) -> None:
        self._seen: list[tuple[Beacon, int | None, int, str, bool]] = []

    def take(self, frame: bytes) -> None:
        """Look at one frame, with its outer tag in it; what is no beacon is passed over."""
        opened = open_envelope(frame)
        beacon = read_beacon(opened.frame)
        if beacon is None:
            return
        inner = opened.frame[: beacon.length]  # an Ethernet card may have filled it up
        tag = opened.tags[0] if opened.tags else None
        is_whole = beacon.frame()[: len(inner)] == inner
        words = "plain" if opened.tunnel is None else str(opened.tunnel)
        self._seen.append((beacon, tag, len(inner), words, not is_whole))

    def findings(self, run: int, ways: Iterable[Way]) -> tuple[Finding, ...]:
        """What arrived of one check, by way."""
        return tuple(self._finding(run, way) for way in ways)

    def count(self, run: int) -> int:
        """How many of the beacons of one check have arrived, however often."""
        return len(
            {
                (beacon.bridge, beacon.sensor, beacon.network, beacon.number)
                for beacon, *_ in self._seen
                if beacon.run == run
            }
        )

    def _finding(self, run: int, way: Way) -> Finding:
        wanted = (run, way.bridge, way.sensor, way.network)
        mine = [
            seen
            for seen in self._seen
            if (seen[0].run, seen[0].bridge, seen[0].sensor, seen[0].network) == wanted
        ]
        numbers = [beacon.number for beacon, *_ in mine]
        highest, late = 0, 0
        for number in dict.fromkeys(numbers):
            late += number < highest
            highest = max(highest, number)
        return Finding(
            way,
            arrived=len(set(numbers)),
            twice=len(numbers) - len(set(numbers)),
            late=late,
            damaged=sum(is_damaged for *_, is_damaged in mine),
            tags=Counter(tag for _, tag, *_ in mine),
            lengths=Counter(length for _, _, length, *_ in mine),
            tunnels=Counter(words for *_, words, _ in mine),
        )
