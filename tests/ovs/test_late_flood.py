"""Late floods on real Open vSwitch: the copies are those of the interpreter."""

from __future__ import annotations

from flows.explain import Interpreter
from tests.arrivals import Arrivals
from tests.late_flood import is_late, random_story
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab

WORLDS = 30


def test_bridges_that_forgot_an_address_copy_as_the_interpreter_does(lab: Lab) -> None:
    ring, late, seed = BridgeRing(lab), 0, 700
    while late < WORLDS:
        seed += 1
        story = random_story(seed)
        if story is None:
            continue
        of, arrivals, flows = story.world, Arrivals(story.world), story.flows()
        place = of.placements[story.sent.sender.id]
        trace = Interpreter(flows, of.links, of.datapaths, of.segmenters).send(
            place, story.sent.frame
        )
        if not is_late(trace):
            continue
        late += 1
        ring.install(of, lambda dpid, compiled, flows=flows: flows.get(dpid, ()))

        seen = ring.exchange(arrivals, [story.sent])

        assert seen == arrivals.seen(trace), f"world of seed {seed}\n{trace}"
        want, _, _ = arrivals.expected(story.sent, story.learned)
        assert seen.keys() == want.keys()
