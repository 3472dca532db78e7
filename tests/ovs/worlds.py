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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from controller.southbound.management import ManagedSwitch, open_management
from flows.compile import Program, Survey, compile_bridge
from flows.diff import Plan, plan
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
from tests.random_worlds import BRIDGES, LINK_PORTS, SLOTS, Sent, random_packets, random_world

PACKETS = 24
"""Packets of each world."""

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
        survey = Survey(world)
        for dpid, name in self.names.items():
            program = Program(dpid)
            flows: Sequence[Flow] = program.update(survey).put if dpid in world.dpids else ()
            if damage is not None:
                flows = damage(dpid, flows)
            with open_management(name) as switch:
                rejected = switch.apply(_plan(switch, flows, program))
                left = _plan(switch, flows, program)
            if rejected or left:
                raise PlanFailed(f"bridge {name}: refused {rejected}, and still to do:\n{left}")
        purge_cache()

    def exchange(self, arrivals: Arrivals, sent: Iterable[Sent]) -> Frames:
        """Send packets and collect every frame that came out anywhere, with its place."""
        places = arrivals.world.placements
        frames = [(self.ends[places[s.sender.id]], s.frame) for s in sent]
        got = self.lab.exchange(frames)
        seen: list[tuple[Where, bytes]] = []
        for place, end in self.ends.items():
            seen += [(place, frame) for frame in got[end]]
        for carried in self.underlay.arrived():
            seen.append((Remote(carried.delivery, carried.address, carried.key), carried.frame))
        return Counter((arrivals.place(place), frame) for place, frame in seen)


def _plan(switch: ManagedSwitch, flows: Sequence[Flow], program: Program) -> Plan:
    meters = plan_meters(program.meters, switch.our_meters())
    return replace(plan(flows, switch.our_flows()), meters=meters)


def play(stage: Stage, seed: int, tally: Tally, damage: Damage | None = None) -> None:
    """Build one world, send its packets, and compare what came out with what the contract says."""
    rng = Random(seed)
    world = random_world(rng)
    packets = random_packets(rng, world, PACKETS)
    stage.install(world, damage)
    arrivals = Arrivals(world)
    tally.worlds += 1
    learned: Learned = {}
    for batch in batches(arrivals, packets):
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
            tally.missing += (want - seen).total()
            tally.extra += (seen - want).total()
            tally.failures.append(explain(stage, seed, world, batch, want, seen))
            stage.lab.flush()  # a trace with a packet lets some of its copies out
            stage.exchange(arrivals, ())


def batches(arrivals: Arrivals, packets: Iterable[Sent]) -> Iterator[list[Sent]]:
    """Packets that may be on their way together; one that teaches bridges something goes alone.

    Packets of different ports overtake each other, so nobody could say who knew what when.
    """
    learned: Learned = {}
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
    stage: Stage, seed: int, world: World, batch: Sequence[Sent], want: Frames, seen: Frames
) -> str:
    """The world, the packets that went wrong, and their way by us and by Open vSwitch."""
    survey = Survey(world)
    flows = {dpid: compile_bridge(dpid, survey) for dpid in world.dpids}
    wrong = {frame for _, frame in (want - seen) + (seen - want)}
    lines = [f"world of seed {seed}: replay with `make worlds WORLDS=1 SEED={seed}`", str(world)]
    for change, frames in (("missing", want - seen), ("extra", seen - want)):
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
