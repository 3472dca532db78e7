"""A place that claims a workload which is elsewhere: its frames are counted, and go nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import Program, compile_bridge, counted_by
from flows.explain import Interpreter
from flows.model import Link, PortId, World
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, tap, vm, watch, world
from tests.frames import ethernet

WEB, DB, EVERYBODY = 0x020000000001, 0x020000000002, 0xFFFFFFFFFFFF
CLAIMED = at(S2, 7)


def claimed(*, anti_spoofing: bool = True) -> World:
    """A watched workload at s1 that is claimed at s2, beside its peer."""
    web = vm("web", at(S1, 1), WEB, anti_spoofing=anti_spoofing)
    db, ids = vm("db", at(S2, 2), DB), tap("ids", at(S2, 5))
    link = Link(at(S1, 9), at(S2, 9))
    of = world(web, db, ids, link, watch("s", "web", "db", to="ids"))
    return replace(of, contests={PortId("web"): (CLAIMED,)})


@pytest.mark.parametrize("anti_spoofing", [True, False])
def test_what_comes_from_there_is_neither_forwarded_nor_copied(anti_spoofing: bool) -> None:
    of = claimed(anti_spoofing=anti_spoofing)
    resolved = ResolvedWorld(of)
    flows = {dpid: compile_bridge(dpid, resolved) for dpid in (S1, S2)}
    bridges = Interpreter(flows, of.links)
    for source in (WEB, DB, 0x020000000009):
        for destination in (DB, WEB, EVERYBODY):
            frame = ethernet(destination, source, 0x0800, bytes(46))
            assert bridges.send(CLAIMED, frame).emissions == ()
    sent = bridges.send(at(S1, 1), ethernet(DB, WEB, 0x88B5, bytes(46)))
    assert len(sent.emissions) == 2, "its peer, and the copy"
    port = of.port_by_id[PortId("web")]
    for dpid, place in ((S2, CLAIMED), (S1, at(S1, 1))):
        keys = [(flow.table, flow.match) for flow in flows[dpid]]
        assert keys.count(counted_by(port, place.ofport)) == 1


def test_a_claim_that_comes_and_goes_changes_its_bridge_alone() -> None:
    of = claimed()
    before = ResolvedWorld(replace(of, contests={}))
    programs = {dpid: Program(dpid) for dpid in (S1, S2)}
    for program in programs.values():
        program.update(before)
    places = (of.placements, of.links, of.numbers)
    with_claim = ResolvedWorld(before.world.with_placements(*places, of.contests), before)
    delta = programs[S2].update(with_claim)
    assert len(delta.put) == 2 and not delta.gone
    assert not programs[S1].update(with_claim).put
    without = ResolvedWorld(with_claim.world.with_placements(*places), with_claim)
    assert set(programs[S2].update(without).gone) == set(delta.put)


def test_a_place_where_another_port_is_claims_nothing() -> None:
    of = replace(claimed(), contests={PortId("web"): (at(S2, 2), at(S2, 9))})
    assert of.claims_by_dpid == {}
