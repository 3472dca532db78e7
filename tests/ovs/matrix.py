"""The test matrix on real Open vSwitch: runs every scene and compares each frame.

    tools/isolate .venv/bin/python -m tests.ovs.matrix [--write]

With --write the result is kept, for docs/reference/matrix.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tests.arrivals import Frames, Remote
from tests.matrix.cells import HOST_MTU
from tests.matrix.plays import scenes
from tests.matrix.scenes import SLOTS, Scene
from tests.matrix.seen import Seen, digest_of, keep
from tests.ovs.bridge_ring import BridgeRing, Damage
from tests.ovs.lab import Lab, vsctl

PAUSE = 2
"""Rounds of markers between bursts: frames in flight on a link have then arrived."""


class Difference(NamedTuple):
    """The frames of a scene that are missing, and those that are extra."""

    missing: Frames
    extra: Frames

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)


def build_ring(lab: Lab) -> BridgeRing:
    """A ring of three bridges with as many endpoints as a scene may use."""
    return BridgeRing(lab, SLOTS)


def run_scene(ring: BridgeRing, scene: Scene, damage: Damage | None = None) -> Difference:
    """Install the world of a scene, send its packets, and compare what came out."""
    ring.install(scene.world, damage)
    places = scene.world.placements
    sent = [(ring.ends[places[packet.sender.id]], packet.frame) for packet in scene.packets]
    got = ring.lab.exchange(sent, scene.burst, PAUSE)
    seen: Frames = Counter(
        (scene.place(place), frame) for place, end in ring.ends.items() for frame in got[end]
    )
    path_mtu = {c.key: c.path_mtu or HOST_MTU for c in scene.world.collectors if c.is_tunnelled}
    for carried in ring.underlay.arrived():
        assert carried.packet_bytes <= path_mtu[carried.key], f"too long for its path: {carried}"
        there = Remote(carried.delivery, carried.address, carried.key)
        seen[scene.place(there), carried.frame] += 1
    return Difference(scene.expected - seen, seen - scene.expected)


def run_scenes(ring: BridgeRing, all_scenes: Iterable[Scene]) -> tuple[Seen, list[str]]:
    """Run all scenes; returns the counts, and a text for each scene that was not as expected."""
    played, failures = tuple(all_scenes), []
    missing = extra = 0
    for scene in played:
        began = time.monotonic()
        wrong = run_scene(ring, scene)
        missing, extra = missing + wrong.missing.total(), extra + wrong.extra.total()
        took = time.monotonic() - began
        print(f"{took:5.1f} s, {scene.cells} cells: {scene.name}", file=sys.stderr, flush=True)
        if wrong:
            failures.append(explain(scene, wrong))
    seen = Seen(
        scenes=len(played),
        cells=sum(scene.cells for scene in played),
        packets=sum(len(scene.packets) for scene in played),
        copies=sum(scene.copies.total() for scene in played),
        missing=missing, extra=extra, digest=digest_of(played),
        open_vswitch=vsctl("--version").split("\n")[0].split()[-1],
    )  # fmt: skip
    return seen, failures


def explain(scene: Scene, wrong: Difference) -> str:
    """The first missing and extra frames of a scene, and the packets that they are copies of."""
    lines = [f"scene: {scene.name}"]
    for change, found in (("missing", wrong.missing), ("extra", wrong.extra)):
        lines.append(f"{change}: {found.total()}")
        for (place, frame), count in list(found.items())[:8]:
            made_of = [
                f"{packet.cast.value}, {packet.trio.network}, {len(packet.frame)} bytes"
                for packet in scene.packets
                if packet.frame.startswith((frame, frame[:12] + frame[16:]))
            ]
            lines.append(f"  {count} at {place}, {len(frame)} bytes, of {made_of}")
    return "\n".join(lines)


def main() -> int:
    """Run the matrix and end with one line of counts."""
    parser = argparse.ArgumentParser(description="the test matrix on real Open vSwitch")
    parser.add_argument("--write", action="store_true", help="keep the result for the docs")
    arguments = parser.parse_args()
    with Lab() as lab:
        seen, failures = run_scenes(build_ring(lab), scenes())
    print("\n".join((*failures, str(seen))))
    if arguments.write and not failures:
        keep(seen)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
