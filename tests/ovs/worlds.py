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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random

from controller.southbound.management import ManagedSwitch, open_management
from controller.southbound.revalidate import wait_revalidated
from flows.compile import Program, Survey, compile_bridge
from flows.diff import Plan, plan, plan_from_delta
from flows.flow import Flow
from flows.meaning import Learned
from flows.meter import plan_meters
from flows.model import Dpid, Ofport
from flows.trace import Interpreter
from flows.world import Placement, World
from tests.arrivals import Arrivals, Frames, Remote, Where
from tests.damage import DAMAGES
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, ofproto_trace, purge_cache
from tests.ovs.underlay import Underlay
from tests.random_changes import changed_world
from tests.random_worlds import BRIDGES, LINK_PORTS, SLOTS, Sent, random_packets, random_world

PACKETS = 24
"""Packets of each world."""
STREAM, AFTERWARDS = 12, 12
"""Packets that are on their way while it changes, and those that follow."""

Damage = Callable[[Dpid, Sequence[Flow]], Sequence[Flow]]


@dataclass
class Tally:
    """What was sent and seen so far; a failure text for each packet or batch that was wrong."""

    worlds: int = 0
    packets: int = 0
    copies: int = 0
    missing: int = 0
    extra: int = 0
    failures: list[str] = field(default_factory=list)

    def note(self, missing: Frames, extra: Frames) -> None:
        """Count frames that did not come, or should not have."""
        self.missing += missing.total()
        self.extra += extra.total()

    @property
    def is_clean(self) -> bool:
        """Whether everything was exact."""
        return self.missing == self.extra == 0

    def __str__(self) -> str:
        return (
            f"worlds={self.worlds} packets={self.packets} copies={self.copies} "
            f"missing={self.missing} extra={self.extra}"
        )


class PlanFailed(AssertionError):
    """A plan was not taken whole, or the plan after it was not empty."""


class Stage:
    """Three bridges in a ring of cables, six endpoints each; a world uses what it needs of them.

    With many ``slots`` one endpoint of each bridge sends the markers for all.
    """

    def __init__(self, lab: Lab, slots: Iterable[int] = SLOTS) -> None:
        self.lab, slots = lab, list(slots)
        self.names = {dpid: f"w{dpid:x}" for dpid in BRIDGES}
        self.ends: dict[Placement, Endpoint] = {}
        self.programs: dict[Dpid, Program] = {}
        self.survey: Survey | None = None
        for dpid, name in self.names.items():
            lab.add_bridge(name, dpid)
            added = lab.add_ports(name, slots)
            self.ends |= {Placement(dpid, Ofport(end.ofport)): end for end in added}
            if len(slots) > len(SLOTS):
                lab.criers.append(added[0])
        names = list(self.names.values())
        for here, there in zip(names, names[1:] + names[:1], strict=True):
            lab.link(here, LINK_PORTS[1], there, LINK_PORTS[0])
        self.underlay = Underlay(lab)
        for dpid, name in self.names.items():
            self.underlay.add_tunnels(name, dpid)
        lab.arm()

    def install(self, world: World, damage: Damage | None = None) -> None:
        """Bring every bridge from the last world to this one by a plan; ``damage`` may spoil it.

        Raises:
            PlanFailed: a switch refused a flow, or a second plan would not be empty.
        """
        # cached paths of the last world would teach this one: statistics are pushed by translating
        # a packet again, and what is translated is learned
        purge_cache()
        self.survey = Survey(world)
        self.programs = {dpid: Program(dpid) for dpid in self.names}
        for program in self.programs.values():
            program.has_meters = True
        for dpid, name in self.names.items():
            program, flows = self.programs[dpid], tuple[Flow, ...]()
            if dpid in world.dpids:
                flows = program.update(self.survey).put
            if damage is not None:
                flows = tuple(damage(dpid, flows))
            with open_management(name) as switch:
                _apply(switch, plan(flows, switch.our_flows()), flows, program)
        purge_cache()

    def change(self, world: World, meanwhile: Callable[[], object]) -> None:
        """Follow a world with the same estate, by the difference alone.

        ``meanwhile`` is called before and after each bridge changes. Cached paths are not purged,
        but waited for, as the product does.

        Raises:
            PlanFailed: see install.
        """
        self.survey = Survey(world, self.survey)
        for dpid in world.dpids:
            meanwhile()
            program = self.programs[dpid]
            delta = program.update(self.survey)
            with open_management(self.names[dpid]) as switch:
                todo = plan_from_delta(delta, len(program.flows))
                _apply(switch, todo, program.flows, program)
                meanwhile()
                if dpid == world.dpids[-1] and not wait_revalidated(nudge=switch.nudge):
                    raise PlanFailed("the data path was not waited for")

    def exchange(self, arrivals: Arrivals, sent: Iterable[Sent]) -> Frames:
        """Send packets and collect every frame that came out anywhere, with its place."""
        places = arrivals.world.placements
        frames = [(self.ends[places[s.sender.id]], s.frame) for s in sent]
        return self._seen(arrivals, self.lab.exchange(frames))

    def send(self, world: World, sent: Iterable[Sent]) -> None:
        """Send packets and wait for nothing."""
        for each in sent:
            self.ends[world.placements[each.sender.id]].send(each.frame)

    def collect(self, arrivals: Arrivals) -> Frames:
        """All that has come out since it was asked before."""
        self.lab.flush()
        return self._seen(arrivals, {end: end.receive_all() for end in self.ends.values()})

    def _seen(self, arrivals: Arrivals, got: Mapping[Endpoint, list[bytes]]) -> Frames:
        seen: list[tuple[Where, bytes]] = []
        for place, end in self.ends.items():
            seen += [(place, frame) for frame in got[end]]
        for carried in self.underlay.arrived():
            seen.append((Remote(carried.delivery, carried.address, carried.key), carried.frame))
        return Counter((arrivals.place(place), frame) for place, frame in seen)


def _apply(switch: ManagedSwitch, todo: Plan, flows: Iterable[Flow], program: Program) -> None:
    meters = plan_meters(program.meters, switch.our_meters())
    rejected = switch.apply(replace(todo, meters=meters))
    meters = plan_meters(program.meters, switch.our_meters())
    left = replace(plan(flows, switch.our_flows()), meters=meters)
    if rejected or left:
        raise PlanFailed(f"{switch.name} refused {rejected}, and still to do:\n{left}")


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
        play_change(stage, seed, (world, other), stream, learned, tally)
        play_packets(stage, seed, other, random_packets(rng, other, AFTERWARDS), learned, tally)


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

    Production does not notice. On one bridge each packet is copied by the one world or by the
    other, never by half of both; of several bridges some are there before the others.
    """
    old, new = Arrivals(*worlds), Arrivals(*reversed(worlds))
    may_tag = not worlds[0].links  # one of the worlds may have a filter (see random_packets)
    stream = [sent for sent in stream if may_tag or "+vlan" not in sent.kind]
    silent = [sent for sent in stream if old.expected(sent, learned)[2] == learned]
    least, most = Counter[tuple[Where, bytes]](), Counter[tuple[Where, bytes]]()
    for sent in silent:
        one, other = (arrivals.expected(sent, learned)[0] for arrivals in (old, new))
        production = old.delivered(one)
        is_one_bridge = len(worlds[0].dpids) == 1
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
    tally, shown = Tally(), 0
    began = last = time.monotonic()
    with Lab() as lab:
        stage = Stage(lab)
        for number in range(arguments.worlds):
            play(stage, arguments.seed + number, tally, damage)
            for text in tally.failures[shown:]:
                print(text, flush=True)
            shown = len(tally.failures)
            if shown >= arguments.failures:
                break
            if time.monotonic() - last > 5:
                last = time.monotonic()
                print(f"{tally} after {last - began:.0f} s", file=sys.stderr, flush=True)
    print(tally)
    return 0 if tally.is_clean and tally.worlds == arguments.worlds else 1


if __name__ == "__main__":
    sys.exit(main())
