"""What a sensor received of the beacons of one check, compared with what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.beacon.beacon import Beacon, read_beacon
from flows.beacon.decapsulate import decapsulate
from flows.model import Dpid


@dataclass(frozen=True, slots=True)
class BeaconPath:
    """One copy path that beacons are sent on: from a bridge to a sensor (its position).

    ``network`` is the number of a network, or 0 when the path carries all of them. ``tag`` is the
    802.1Q id that the beacons should have on arrival, ``length`` how many bytes of each should
    arrive; 0 when none should.
    """

    bridge: Dpid
    sensor: int
    network: int
    sent: int
    length: int
    tag: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What arrived on one path: counts of frames, and how often each tag, length and tunnel came.

    ``late`` frames arrived after one with a higher number. ``damaged`` ones differ from what was
    sent in the bytes that arrived.
    """

    path: BeaconPath
    arrived: int = 0
    twice: int = 0
    late: int = 0
    damaged: int = 0
    tags: Counter[int | None] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    tunnels: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """How many frames should have arrived and did not."""
        return self.path.sent - self.arrived if self.path.length else 0

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a clause each; empty when everything arrived as it should."""
        path, found = self.path, []
        counts = {"lost": self.lost, "twice": self.twice, "out of order": self.late}
        counts["damaged"] = self.damaged
        found += [f"{count} {what}" for what, count in counts.items() if count]
        if wrong := sorted(str(tag or "none") for tag in self.tags if tag != path.tag):
            found.append(f"tag {', '.join(wrong)} instead of {path.tag or 'none'}")
        if odd := sorted(length for length in self.lengths if length != path.length):
            instead = f"instead of {path.length}" if path.length else "though it is too long to go"
            found.append(f"{', '.join(map(str, odd))} bytes {instead}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One beacon as it arrived; ``length`` is in bytes, without tags and tunnel headers."""

    beacon: Beacon
    tag: int | None
    length: int
    tunnel: str
    is_damaged: bool


class Arrivals:
    """Collects the beacons among the frames that a sensor receives."""

    def __init__(self) -> None:
        self._arrivals: list[_Arrival] = []

    def take(self, frame: bytes) -> None:
        """Read one frame, its outer tag included; a frame that is no beacon is ignored."""
        inner = decapsulate(frame)
        beacon = read_beacon(inner.frame)
        if beacon is None:
            return
        arrived = inner.frame[: beacon.length]  # without padding by an Ethernet card
        self._arrivals.append(
            _Arrival(
                beacon,
                tag=inner.tags[0] if inner.tags else None,
                length=len(arrived),
                tunnel="plain" if inner.tunnel is None else str(inner.tunnel),
                is_damaged=beacon.frame()[: len(arrived)] != arrived,
            )
        )

    def findings(self, run: int, paths: Iterable[BeaconPath]) -> tuple[Finding, ...]:
        """What arrived of one check, path by path."""
        return tuple(self._finding(run, path) for path in paths)

    def count(self, run: int) -> int:
        """How many different beacons of one check have arrived."""
        beacons = [arrival.beacon for arrival in self._arrivals if arrival.beacon.run == run]
        return len({(b.bridge, b.sensor, b.network, b.number) for b in beacons})

    def _finding(self, run: int, path: BeaconPath) -> Finding:
        wanted = (path.bridge, path.sensor, path.network)
        arrivals = [
            arrival
            for arrival in self._arrivals
            if (b := arrival.beacon).run == run and (b.bridge, b.sensor, b.network) == wanted
        ]
        numbers = [arrival.beacon.number for arrival in arrivals]
        highest, late = 0, 0
        for number in dict.fromkeys(numbers):
            late += number < highest
            highest = max(highest, number)
        return Finding(
            path,
            arrived=len(set(numbers)),
            twice=len(numbers) - len(set(numbers)),
            late=late,
            damaged=sum(arrival.is_damaged for arrival in arrivals),
            tags=Counter(arrival.tag for arrival in arrivals),
            lengths=Counter(arrival.length for arrival in arrivals),
            tunnels=Counter(arrival.tunnel for arrival in arrivals),
        )
