"""Random worlds on real Open vSwitch: every copy compared byte by byte, and counted at every port.

    python -m tests.ovs.worlds --worlds 1000 --seed 7

World number n has the seed SEED+n, so any failure is replayed with `--worlds 1` and its own seed.
With `--damage KIND` flows are damaged on purpose: the run must fail.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random

from flows.compile import compile_bridge
from flows.explain import Interpreter
from flows.model import BRIDGE_METER, Oversize, Port, Rate, RateUnit, World
from flows.resolve import ResolvedWorld
from flows.semantics import LearnedAddresses, meaning
from tests.arrivals import Arrivals, Frames, Where
from tests.damage import DAMAGES
from tests.generators.random_changes import changed_world
from tests.generators.random_worlds import Sent, random_packets, random_world
from tests.ovs.bridge_ring import BridgeRing, Damage
from tests.ovs.datapath import IS_KERNEL
from tests.ovs.lab import Lab, LabError, ofctl, ofproto_trace, purge_cache

PACKETS = 24
"""Packets of each world."""
STREAM, AFTERWARDS = 12, 12
"""Packets in flight while the world changes, and packets after it."""
SHEDDING, BURST = 0.15, 30
"""Share of the worlds with a cap that sheds copies, and how many equal packets are sent then."""


@dataclass
class WorldsResult:
    """What was sent and received so far, with a text for each batch that was wrong."""

    worlds: int = 0
    packets: int = 0
    copies: int = 0
    missing: int = 0
    extra: int = 0
    shed: int = 0
    failures: list[str] = field(default_factory=list)

    def note(self, missing: Frames, extra: Frames) -> None:
        """Count missing and extra frames."""
        self.missing += missing.total()
        self.extra += extra.total()

    @property
    def is_clean(self) -> bool:
        """Whether everything was exact."""
        return self.missing == self.extra == 0 and not self.failures

    def __str__(self) -> str:
        return (
            f"worlds={self.worlds} packets={self.packets} copies={self.copies} "
            f"missing={self.missing} extra={self.extra}"
        )


def run_world(
    ring: BridgeRing, seed: int, result: WorldsResult, damage: Damage | None = None
) -> None:
    """Install one world, send its packets, and compare what came out with the contract.

    Then change the world while packets are in flight, and send more; not in a damaged world.
    """
    rng = Random(seed)
    world = random_world(rng)
    packets = random_packets(rng, world, PACKETS)
    ring.install(world, damage)
    result.worlds += 1
    learned = run_packets(ring, seed, world, packets, {}, result)
    if damage is None:
        other = changed_world(rng, world)
        stream = random_packets(rng, other, STREAM)
        if (world.ports, world.placements) != (other.ports, other.placements):
            ring.forget_addresses()
            learned = {}
        run_change(ring, seed, (world, other), stream, learned, result)
        packets = random_packets(rng, other, AFTERWARDS)
        learned = run_packets(ring, seed, other, packets, learned, result)
        if rng.random() < SHEDDING:
            run_shedding(ring, seed, rng, other, learned, result)


def run_packets(
    ring: BridgeRing,
    seed: int,
    world: World,
    packets: Sequence[Sent],
    learned: LearnedAddresses,
    result: WorldsResult,
) -> LearnedAddresses:
    """Send packets and compare what came out; returns what the bridges have learned by then."""
    arrivals = Arrivals(world)
    for batch in batches(arrivals, packets, learned):
        want: Frames = Counter()
        taught = learned
        for sent in batch:
            frames, copies, taught = arrivals.expected(sent, learned)
            want += frames
            result.copies += copies
        seen = ring.exchange(arrivals, batch)
        if taught != learned:
            purge_cache()
        learned = taught
        result.packets += len(batch)
        if seen != want:
            result.note(want - seen, seen - want)
            result.failures.append(explain(ring, seed, world, batch, want - seen, seen - want))
            ring.collect(arrivals)  # ofproto/trace with a packet sends some of its copies
    return learned


def run_change(
    ring: BridgeRing, seed: int, worlds: tuple[World, World], stream: Sequence[Sent],
    learned: LearnedAddresses, result: WorldsResult,
) -> None:  # fmt: skip
    """Change a world while packets are in flight that make no bridge learn an address.

    Production between ports that stay in place is not affected. On one bridge each packet is
    copied by the old world or by the new one, never by parts of both. Of several bridges some
    change before others, so that a flood of one may reach ports of the other world: there only
    packets are sent that both worlds deliver to the same places, and none if a tap port moves,
    because one bridge may send copies to where the other has already moved the port.
    """
    old, new = Arrivals(*worlds), Arrivals(*reversed(worlds))
    may_tag = not worlds[0].links  # one of the worlds may have a filter (see random_packets)
    stream = [sent for sent in stream if may_tag or "+vlan" not in sent.kind]
    stream = [sent for sent in stream if stays(sent.sender, worlds)]
    silent = [sent for sent in stream if old.expected(sent, learned)[2] == learned]
    is_one_bridge = len({dpid for world in worlds for dpid in world.dpids}) == 1
    taps = [[world.placements.get(tap.id) for tap in worlds[0].tap_ports] for world in worlds]
    if not is_one_bridge and taps[0] != taps[1]:
        silent = []
    elif not is_one_bridge:
        silent = [
            s
            for s in silent
            if delivered_frames(old, s, learned) == delivered_frames(new, s, learned)
        ]
    least, most = Counter[tuple[Where, bytes]](), Counter[tuple[Where, bytes]]()
    for sent in silent:
        one, other = (arrivals.expected(sent, learned)[0] for arrivals in (old, new))
        production = old.delivered(one) & new.delivered(other)
        least += one & other if is_one_bridge else production
        most += one | other if is_one_bridge else one + other - production
    waiting = iter(silent)
    ring.collect(old)
    ring.change(worlds[1], lambda: ring.send(worlds[0], islice(waiting, 2)))
    ring.send(worlds[0], waiting)
    seen = ring.collect(old)
    result.packets += len(silent)
    if least - seen or seen - most:
        result.note(least - seen, seen - most)
        text = explain(ring, seed, worlds[1], silent, least - seen, seen - most)
        result.failures.append(f"while this world changed:\n{worlds[0]}\n{text}")
        ring.collect(old)


def delivered_frames(arrivals: Arrivals, sent: Sent, learned: LearnedAddresses) -> Frames:
    """Where production delivers a packet."""
    return arrivals.delivered(arrivals.expected(sent, learned)[0])


def stays(port: Port, worlds: tuple[World, World]) -> bool:
    """Whether a port is the same, at the same place, in both worlds."""
    return all(
        world.port_by_id.get(port.id) == port
        and world.placements.get(port.id) == worlds[0].placements.get(port.id) is not None
        for world in worlds
    )


def run_shedding(
    ring: BridgeRing,
    seed: int,
    rng: Random,
    world: World,
    learned: LearnedAddresses,
    result: WorldsResult,
) -> None:
    """Cap one session, or whole bridges, far below the rate of a burst of one packet.

    All missing frames must be copies under the cap, and meters must have counted each of them.
    """
    arrivals = Arrivals(world)
    for sent in random_packets(rng, world, PACKETS):
        means = arrivals.expected(sent, learned)
        copies = means[0] - arrivals.delivered(means[0])
        if means[2] != learned or not copies:
            continue
        capped, meters = capped_world(rng, world, sent, learned)
        ring.change(capped, lambda: None)
        one = Arrivals(capped).expected(sent, learned)[0]
        wanted, before = Counter({k: n * BURST for k, n in one.items()}), ring.metered(meters)
        seen = ring.exchange(arrivals, [sent] * BURST)
        shed = wanted - seen
        result.packets += BURST
        result.shed += shed.total()
        wrong = arrivals.delivered(shed), seen - wanted
        counted = ring.metered(meters) - before
        if wrong[0] or wrong[1] or counted != shed.total() or not counted:
            result.note(*wrong)
            result.failures.append(
                f"under a cap {counted} were counted:\n"
                f"{explain(ring, seed, capped, [sent], shed, wrong[1])}"
            )
        return


def capped_world(
    rng: Random, world: World, sent: Sent, learned: LearnedAddresses
) -> tuple[World, Container[int]]:
    """A world with a cap that a burst of a packet exceeds, and the meters that enforce it.

    No session skips oversize packets, because those would be shed without being expected.
    """
    low = Rate(RateUnit.PPS, 1)
    world = replace(
        world, sessions=tuple(replace(s, oversize=Oversize.TRUNCATE) for s in world.sessions)
    )
    if rng.random() < 0.3:
        return replace(world, bridge_rate=low), (BRIDGE_METER,)
    copied = sorted(meaning(sent.frame, sent.sender, world, learned).copies)
    victim = rng.choice(copied)
    sessions = tuple(
        replace(each, max_rate=low) if each.id == victim else each for each in world.sessions
    )
    return replace(world, sessions=sessions), (world.numbers.meter[victim],)


def batches(
    arrivals: Arrivals, packets: Iterable[Sent], learned: LearnedAddresses
) -> Iterator[list[Sent]]:
    """Batches of packets; a packet from which bridges learn an address is a batch of its own.

    Packets of different ports may overtake each other, so the order of learning would be unknown.
    """
    batch: list[Sent] = []
    for sent in packets:
        taught = arrivals.expected(sent, learned)[2]
        if taught == learned:
            batch.append(sent)
            continue
        yield from filter(None, (batch, [sent]))
        batch, learned = [], taught
    if batch:
        yield batch


def explain(
    ring: BridgeRing, seed: int, world: World, batch: Sequence[Sent], missing: Frames, extra: Frames
) -> str:
    """The world, the packets that went wrong, and their traces by us and by Open vSwitch."""
    resolved = ResolvedWorld(world)
    flows = {dpid: compile_bridge(dpid, resolved) for dpid in world.dpids}
    bridges = Interpreter(flows, world.links, world.datapaths, world.segmenters)
    wrong = {frame for _, frame in missing + extra}
    more = " DATAPATH=kernel" if IS_KERNEL else ""
    replay = f"replay with `make worlds WORLDS=1 SEED={seed}{more}`"
    lines = [f"world of seed {seed}: {replay}", str(world)]
    for change, frames in (("missing", missing), ("extra", extra)):
        lines += [
            f"{change}: {n} at {place}: {frame.hex()}" for (place, frame), n in frames.items()
        ]
    for sent in batch:
        if any(is_made_of(frame, sent.frame) for frame in wrong):
            place = world.placements[sent.sender.id]
            lines.append(f"--- {sent.kind} of {sent.sender.id} at port {place.ofport}, by us:")
            lines.append(str(bridges.send(place, sent.frame)))
            lines.append("--- by Open vSwitch:")
            lines.append(ofctl("dump-flows", ring.names[place.dpid], "table=22"))
            lines.append(ofproto_trace(ring.names[place.dpid], place.ofport, sent.frame))
    return "\n".join(lines)


def is_made_of(frame: bytes, sent: bytes) -> bool:
    """Whether a frame is a packet that was sent, or a copy of it, possibly tagged or truncated."""
    return sent.startswith((frame, frame[:12] + frame[16:]))


def damage_all(kind: str) -> Damage:
    """Damage all flows of a kind (tests/damage.py) on every bridge."""
    return lambda dpid, flows: DAMAGES[kind].all(flows)


@dataclass
class WorldsRun:
    """Many worlds in sequence; a lab that breaks down is rebuilt, at most once for each world.

    A marker that an overloaded machine did not deliver in time says nothing about flows. A frame
    that is missing although its marker arrived is no breakdown, and counts.
    """

    result: WorldsResult = field(default_factory=WorldsResult)
    began: float = field(default_factory=time.monotonic)
    shown: int = 0
    broken_at: int | None = None

    def is_over(self, seeds: range, failures: int) -> bool:
        """Whether all worlds were run, or the limit of failures is reached."""
        return self.result.worlds == len(seeds) or self.shown >= failures

    def run_rest(
        self, ring: BridgeRing, seeds: range, failures: int, damage: Damage | None
    ) -> None:
        """Run the remaining worlds and print failures and progress."""
        last = time.monotonic()
        while not self.is_over(seeds, failures):
            run_world(ring, seeds[self.result.worlds], self.result, damage)
            for text in self.result.failures[self.shown :]:
                print(text, flush=True)
            self.shown = len(self.result.failures)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                progress = f"{self.result} after {last - self.began:.0f} s"
                print(progress, file=sys.stderr, flush=True)

    def retry_last(self, seeds: range, problem: LabError) -> None:
        """Have the last world run again in another lab; not twice."""
        self.result.worlds -= 1
        if self.broken_at == self.result.worlds:
            raise problem
        self.broken_at = self.result.worlds
        again = f"the world of seed {seeds[self.result.worlds]} is run again in a new lab"
        print(f"{again}: {problem}", file=sys.stderr, flush=True)


def main() -> int:
    """Run worlds, print progress, and end with one line of counts."""
    parser = argparse.ArgumentParser(description="random worlds on real Open vSwitch")
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failures", type=int, default=5, help="give up after so many (default 5)")
    parser.add_argument(
        "--damage",
        choices=sorted(DAMAGES),
        help="damage every world in this way: the run must fail",
    )
    arguments = parser.parse_args()
    damage = damage_all(arguments.damage) if arguments.damage else None
    seeds, run = range(arguments.seed, arguments.seed + arguments.worlds), WorldsRun()
    while not run.is_over(seeds, arguments.failures):
        try:
            with Lab() as lab:
                run.run_rest(BridgeRing(lab), seeds, arguments.failures, damage)
        except LabError as problem:
            run.retry_last(seeds, problem)
    print(run.result)
    return 0 if run.result.is_clean and run.result.worlds == arguments.worlds else 1


if __name__ == "__main__":
    sys.exit(main())
