"""Random worlds on real Open vSwitch: packets in, byte-identical copies out, counted at every port.

    python -m tests.ovs.worlds --worlds 1000 --seed 7

World number n has the seed SEED+n, so any failure is replayed with `--worlds 1` and its own seed.
With `--damage KIND` the flows are spoilt on purpose, to see that the run notices.
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

from flows.compile import Survey, compile_bridge
from flows.semantics.meaning import Learned, meaning
from flows.model.session import Oversize, Port, Rate, RateUnit
from flows.pipeline.tables import BRIDGE_METER
from flows.explain.trace import Interpreter
from flows.model.world import World
from tests.arrivals import Arrivals, Frames, Where
from tests.damage import DAMAGES
from tests.ovs.lab import Lab, LabError, ofctl, ofproto_trace, purge_cache
from tests.ovs.stage import Damage, Stage
from tests.random_changes import changed_world
from tests.random_worlds import Sent, random_packets, random_world

PACKETS = 24
"""Packets of each world."""
STREAM, AFTERWARDS = 12, 12
"""Packets that are on their way while it changes, and those that follow."""
SHEDDING, BURST = 0.15, 30
"""In how many of the worlds a cap sheds, and the equal packets that are sent at once then."""


@dataclass
class Tally:
    """What was sent and seen so far; a failure text for each packet or batch that was wrong."""

    worlds: int = 0
    packets: int = 0
    copies: int = 0
    missing: int = 0
    extra: int = 0
    shed: int = 0
    failures: list[str] = field(default_factory=list)

    def note(self, missing: Frames, extra: Frames) -> None:
        """Count frames that did not come, or should not have."""
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


def play(stage: Stage, seed: int, tally: Tally, damage: Damage | None = None) -> None:
    """Build one world, send its packets, and compare what came out with what the contract says.

    Then the world changes while packets are on their way, and more follow; a damaged one does not.
    """
    rng = Random(seed)
    world = random_world(rng)
    packets = random_packets(rng, world, PACKETS)
    stage.install(world, damage)
    tally.worlds += 1
    learned = play_packets(stage, seed, world, packets, {}, tally)
    if damage is None:
        other = changed_world(rng, world)
        stream = random_packets(rng, other, STREAM)
        if (world.ports, world.placements) != (other.ports, other.placements):
            stage.forget()
            learned = {}
        play_change(stage, seed, (world, other), stream, learned, tally)
        packets = random_packets(rng, other, AFTERWARDS)
        learned = play_packets(stage, seed, other, packets, learned, tally)
        if rng.random() < SHEDDING:
            play_shedding(stage, seed, rng, other, learned, tally)


def play_packets(
    stage: Stage, seed: int, world: World, packets: Sequence[Sent], learned: Learned, tally: Tally
) -> Learned:
    """Send packets and compare what came out; returns what the bridges have learned then."""
    arrivals = Arrivals(world)
    for batch in batches(arrivals, packets, learned):
        want: Frames = Counter()
        taught = learned
        for sent in batch:
            frames, copies, taught = arrivals.expected(sent, learned)
            want += frames
            tally.copies += copies
        seen = stage.exchange(arrivals, batch)
        if taught != learned:
            purge_cache()
        learned = taught
        tally.packets += len(batch)
        if seen != want:
            tally.note(want - seen, seen - want)
            tally.failures.append(explain(stage, seed, world, batch, want - seen, seen - want))
            stage.collect(arrivals)  # a trace with a packet lets some of its copies out
    return learned


def play_change(
    stage: Stage, seed: int, worlds: tuple[World, World], stream: Sequence[Sent],
    learned: Learned, tally: Tally,
) -> None:  # fmt: skip
    """Change a world while packets that teach nothing are on their way.

    Production of ports that stay where they are does not notice. On one bridge each packet is
    copied by the one world or by the other, never by half of both; of several bridges some are
    there before the others, so that what the one floods may be heard at places of the other world:
    there a packet is on its way only if both worlds deliver it to the same places, and none if a
    tap port moves, for the one bridge may send copies where the other has brought the port.
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
        silent = [s for s in silent if heard(old, s, learned) == heard(new, s, learned)]
    least, most = Counter[tuple[Where, bytes]](), Counter[tuple[Where, bytes]]()
    for sent in silent:
        one, other = (arrivals.expected(sent, learned)[0] for arrivals in (old, new))
        production = old.delivered(one) & new.delivered(other)
        least += one & other if is_one_bridge else production
        most += one | other if is_one_bridge else one + other - production
    waiting = iter(silent)
    stage.collect(old)
    stage.change(worlds[1], lambda: stage.send(worlds[0], islice(waiting, 2)))
    stage.send(worlds[0], waiting)
    seen = stage.collect(old)
    tally.packets += len(silent)
    if least - seen or seen - most:
        tally.note(least - seen, seen - most)
        text = explain(stage, seed, worlds[1], silent, least - seen, seen - most)
        tally.failures.append(f"while this world changed:\n{worlds[0]}\n{text}")
        stage.collect(old)


def heard(arrivals: Arrivals, sent: Sent, learned: Learned) -> Frames:
    """Where production delivers a packet."""
    return arrivals.delivered(arrivals.expected(sent, learned)[0])


def stays(port: Port, worlds: tuple[World, World]) -> bool:
    """Whether a port is the same, at the same place, in both worlds."""
    return all(
        world.port_by_id.get(port.id) == port
        and world.placements.get(port.id) == worlds[0].placements.get(port.id) is not None
        for world in worlds
    )


def play_shedding(
    stage: Stage, seed: int, rng: Random, world: World, learned: Learned, tally: Tally
) -> None:
    """Cap one session, or whole bridges, far below what a burst of one packet wants.

    All that is missing are copies under the cap, and meters have counted each of them.
    """
    arrivals = Arrivals(world)
    for sent in random_packets(rng, world, PACKETS):
        means = arrivals.expected(sent, learned)
        copies = means[0] - arrivals.delivered(means[0])
        if means[2] != learned or not copies:
            continue
        capped, meters = capped_world(rng, world, sent, learned)
        stage.change(capped, lambda: None)
        one = Arrivals(capped).expected(sent, learned)[0]
        wanted, before = Counter({k: n * BURST for k, n in one.items()}), stage.metered(meters)
        seen = stage.exchange(arrivals, [sent] * BURST)
        shed = wanted - seen
        tally.packets += BURST
        tally.shed += shed.total()
        wrong = arrivals.delivered(shed), seen - wanted
        counted = stage.metered(meters) - before
        if wrong[0] or wrong[1] or counted != shed.total() or not counted:
            tally.note(*wrong)
            tally.failures.append(
                f"under a cap {counted} were counted:\n"
                f"{explain(stage, seed, capped, [sent], shed, wrong[1])}"
            )
        return


def capped_world(
    rng: Random, world: World, sent: Sent, learned: Learned
) -> tuple[World, Container[int]]:
    """A world with a cap that a burst of a packet exceeds, and the meters that keep it.

    No session leaves long packets out: what a cap sheds before that was never to be seen.
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


def batches(arrivals: Arrivals, packets: Iterable[Sent], learned: Learned) -> Iterator[list[Sent]]:
    """Packets that may be on their way together; one that teaches bridges something goes alone.

    Packets of different ports overtake each other, so nobody could say who knew what when.
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
    stage: Stage, seed: int, world: World, batch: Sequence[Sent], missing: Frames, extra: Frames
) -> str:
    """The world, the packets that went wrong, and their way by us and by Open vSwitch."""
    survey = Survey(world)
    flows = {dpid: compile_bridge(dpid, survey) for dpid in world.dpids}
    wrong = {frame for _, frame in missing + extra}
    lines = [f"world of seed {seed}: replay with `make worlds WORLDS=1 SEED={seed}`", str(world)]
    for change, frames in (("missing", missing), ("extra", extra)):
        lines += [
            f"{change}: {n} at {place}: {frame.hex()}" for (place, frame), n in frames.items()
        ]
    for sent in batch:
        if any(is_made_of(frame, sent.frame) for frame in wrong):
            place = world.placements[sent.sender.id]
            lines.append(f"--- {sent.kind} of {sent.sender.id} at port {place.ofport}, by us:")
            lines.append(str(Interpreter(flows, world.links).send(place, sent.frame)))
            lines.append("--- by Open vSwitch:")
            lines.append(ofctl("dump-flows", stage.names[place.dpid], "table=22"))
            lines.append(ofproto_trace(stage.names[place.dpid], place.ofport, sent.frame))
    return "\n".join(lines)


def is_made_of(frame: bytes, sent: bytes) -> bool:
    """Whether a frame is a packet that was sent, or a copy of it: perhaps tagged, perhaps cut."""
    return sent.startswith((frame, frame[:12] + frame[16:]))


def spoil(kind: str) -> Damage:
    """Damage all flows of a kind (tests/damage.py) on every bridge."""
    return lambda dpid, flows: DAMAGES[kind].all(flows)


@dataclass
class Run:
    """Many worlds one after the other; a lab that breaks down is built anew, once for each world.

    What was not delivered in time by cables and sockets of an overloaded machine says nothing of
    flows; a frame that is missing behind its marker is no break-down, and counts.
    """

    tally: Tally = field(default_factory=Tally)
    began: float = field(default_factory=time.monotonic)
    shown: int = 0
    broken_at: int | None = None

    def is_over(self, seeds: range, failures: int) -> bool:
        """Whether all worlds were played, or so many packets were wrong."""
        return self.tally.worlds == len(seeds) or self.shown >= failures

    def go_on(self, stage: Stage, seeds: range, failures: int, damage: Damage | None) -> None:
        """Play the worlds that are left, and tell of them."""
        last = time.monotonic()
        while not self.is_over(seeds, failures):
            play(stage, seeds[self.tally.worlds], self.tally, damage)
            for text in self.tally.failures[self.shown :]:
                print(text, flush=True)
            self.shown = len(self.tally.failures)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                told = f"{self.tally} after {last - self.began:.0f} s"
                print(told, file=sys.stderr, flush=True)

    def begin_again(self, seeds: range, problem: LabError) -> None:
        """Play the last world again, in another lab; not twice."""
        self.tally.worlds -= 1
        if self.broken_at == self.tally.worlds:
            raise problem
        self.broken_at = self.tally.worlds
        again = f"the world of seed {seeds[self.tally.worlds]} is played again in a new lab"
        print(f"{again}: {problem}", file=sys.stderr, flush=True)


def main() -> int:
    """Run worlds, show progress, and end with one line that says how exact they were."""
    parser = argparse.ArgumentParser(description="random worlds on real Open vSwitch")
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failures", type=int, default=5, help="give up after so many (default 5)")
    parser.add_argument(
        "--damage", choices=sorted(DAMAGES), help="spoil every world in this way: the run must fail"
    )
    arguments = parser.parse_args()
    damage = spoil(arguments.damage) if arguments.damage else None
    seeds, run = range(arguments.seed, arguments.seed + arguments.worlds), Run()
    while not run.is_over(seeds, arguments.failures):
        try:
            with Lab() as lab:
                run.go_on(Stage(lab), seeds, arguments.failures, damage)
        except LabError as problem:
            run.begin_again(seeds, problem)
    print(run.tally)
    return 0 if run.tally.is_clean and run.tally.worlds == arguments.worlds else 1


if __name__ == "__main__":
    sys.exit(main())
