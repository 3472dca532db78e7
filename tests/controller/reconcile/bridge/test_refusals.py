"""A switch refuses one flow: the status of the sessions that need it says so, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.status import SessionStatus, State
from flows.compile import Program
from flows.model import (
    Collector,
    CollectorId,
    Dpid,
    Filter,
    FilterId,
    Mode,
    PortId,
    Rate,
    RateUnit,
    Rule,
    RuleMatch,
    SessionId,
    Source,
    Verdict,
)
from flows.openflow import PRODUCTION, Flow
from flows.pipeline import (
    AGREED,
    BRIDGE_CAP,
    COPIED_FROM,
    COPIED_TO,
    LEARNED,
    PIPELINE,
    TABLE_BY_NUMBER,
)
from tests.controller.rig import INVENTORY, RED, Rig
from tests.fake_switches.refusal import Refusal
from tests.ovs.waiting import wait_for

SYNC_S = 20.0
OPEN = "  - {id: e, tenant: red, network: lan, anti_spoofing: false, interface: s1-eth10}\n"
BESIDE = '  - {id: z, tenant: red, network: far, mac: "02:00:00:00:00:09", interface: s3-eth2}\n'
ROOMY = (
    INVENTORY.replace("  - {id: t1,", f"{OPEN}{BESIDE}  - {{id: t1,")
    .replace("tenant: red}]", "tenant: red}, {id: far, name: far, tenant: red}]", 1)
    .replace('"02:00:00:00:00:01"', '"02:00:00:00:00:01", ips: [10.0.0.1, "fd00::1"]')
)
"""Workloads with addresses to check, one without protection, and one in a network of its own."""
DNS = Filter(
    FilterId("dns"), "dns", RED,
    ingress=(Rule(1, Verdict.ACCEPT, RuleMatch(protocol=17)),),
    egress=(Rule(1, Verdict.ACCEPT, RuleMatch(protocol=17)),),
)  # fmt: skip
POOL = Collector(CollectorId("pool"), "pool", RED, (PortId("t1"), PortId("t2")))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Sessions of every sort on the first two bridges, and one on the third beside them."""
    built = Rig(tmp_path, ROOMY)
    built.store.filters.add(DNS, "test")
    built.add_session("plain", "a", "b", tap="t2")
    built.add_session("open", "e", tap="t1")
    built.add_session("beside", "z", tap="t3")
    built.add_session("away", "d", tap="t3")
    built.store.collectors.add(POOL, "test")
    [like] = [r.session for r in built.store.sessions.all() if r.session.name == "plain"]
    source = Source((PortId("a"), PortId("b")))
    for changes in (
        {"name": "filtered", "filter": DNS.id},
        {"name": "capped", "max_rate": Rate(RateUnit.PPS, 100)},
        {"name": "cut", "packet_length": 100},
        {"name": "spread", "collector": POOL.id},
        {"name": "first", "mode": Mode.EXCLUSIVE, "number": 1, "filter": DNS.id},
        {"name": "second", "mode": Mode.EXCLUSIVE, "number": 2, "source": Source((PortId("b"),))},
    ):
        named = SessionId(str(changes["name"]))
        made = replace(like, id=named, **{"source": source, **changes})  # type: ignore[arg-type]
        built.store.sessions.add(made, "test")
    for dpid in (1, 2, 3):
        built.connect(dpid)
    wait_for(lambda: built.reconciler.sync(SYNC_S), bool)
    yield built
    built.close()


def chosen(rig: Rig, dpid: int, table: str, words: str) -> Flow:
    """The first flow of a bridge in a table whose ``why`` contains these words."""
    resolved, program = rig.world.snapshot().resolved, Program(Dpid(dpid))
    program.has_meters = True
    return next(
        flow
        for flow in program.update(resolved).put
        if TABLE_BY_NUMBER[flow.table].name == table and words in flow.why
    )


def statuses(rig: Rig) -> dict[str, SessionStatus]:
    rig.reconciler.sync(SYNC_S)
    names = [record.session.id for record in rig.store.sessions.all()]
    return {name: rig.inspector.session_status(name) for name in names}


def refuse(rig: Rig, dpid: int, cookie: int | None) -> None:
    """Connect a bridge again that has no flows, and refuses the flow with this cookie."""
    model = rig.models[dpid]
    rig.cut(dpid)
    model.tables.flows.clear()
    model.faults.refuse = lambda asked: Refusal.TABLE_FULL if asked == cookie else None
    rig.connect(dpid)


def test_all_is_active_while_nothing_is_refused(rig: Rig) -> None:
    assert {s.state for s in statuses(rig).values()} == {State.ACTIVE}


OF_A = {"plain", "filtered", "capped", "cut", "spread", "first"}
OF_B = OF_A | {"second"}
OF_LAN = OF_B | {"open"}
CASES = [
    (1, "start", "a sends", OF_A),
    (1, "start", "e sends", {"open"}),
    (2, "start", "e of another bridge", OF_LAN),
    (1, "start", "copies for tap port t1", {"spread"}),
    (2, "start", "copies for tap port t3", {"away"}),
    (3, "start", "copies for tap port t3", {"away"}),
    (1, "admit", "a uses its own MAC address", OF_A),
    (1, "admit_address", "a probes", OF_A),
    (1, "admit_neighbour", "a advertises its own address", OF_A),
    (1, "identify", "b alone may use this address", OF_B),
    (1, "learn", "e may use any address", {"open"}),
    (1, "lookup", "b has this address", OF_B),
    (1, "lookup", "broadcast and multicast go to every port", set[str]()),
    (1, "output", "e is here", {"open"}),
    (1, "output", "the address is not known", set[str]()),
    (1, "flood", "every port of network lan", OF_LAN),
    (1, "own_tag", "the workload has not tagged it", OF_LAN - {"second"} | {"away"}),
    (1, "reread", "its own tag was read", OF_LAN - {"second"} | {"away"}),
    (1, "egress", "1 session(s) watch", {"open"}),
    (1, "egress", "6 session(s) watch", OF_A),
    (1, "ingress", "1 session(s) watch what this port receives", {"open"}),
    (1, "probe", "may have copied it when b sent it", {"first", "second"}),
    (1, "alone", "b does not receive its own packets", {"first", "second"}),
    (1, "claim", "session second accepts everything", {"second"}),
    (2, "claim", "an exclusive session has taken it", {"first", "second"}),
    (1, "won", "session first takes what a port here sends", {"first"}),
    (1, "once", "copied when e sent it", {"open"}),
    (1, "unsent", "the sender's bridge has copied it", {"filtered"}),
    (1, "accept", "session cut has no filter", {"cut"}),
    (1, "filter", "egress rule 1 of filter dns", {"filtered", "first"}),
    (1, "decide", "the filter accepts it", {"filtered"}),
    (1, "pool", "t2 has this share", {"spread"}),
    (1, "send", "too long for a whole copy", OF_LAN - {"open"} - {"second"} | {"away"}),
]
OWN = [
    (1, "deliver", "copy of session open", "open"),
    (1, "cap", "copy of session capped", "capped"),
    (1, "size", "copy of session cut", "cut"),
    (1, "send", "copy of session cut", "cut"),
    (1, "cut", "copy of session cut", "cut"),
    (1, "count", "copies of session cut", "cut"),
]


@pytest.mark.parametrize(("dpid", "table", "words", "who"), CASES)
def test_sessions_that_need_a_refused_flow_are_degraded_and_no_others(
    rig: Rig, dpid: int, table: str, words: str, who: set[str]
) -> None:
    flow = chosen(rig, dpid, table, words)
    assert flow.owner == PRODUCTION

    refuse(rig, dpid, flow.cookie)

    seen = statuses(rig)
    assert {name for name, status in seen.items() if status.state is not State.ACTIVE} == who, seen
    assert {seen[name].state for name in who} <= {State.DEGRADED}
    for name in who:
        assert f"bridge s{dpid} refused a flow that it needs" in " ".join(seen[name].reasons)
        assert "OFPFMFC_TABLE_FULL" in " ".join(seen[name].reasons)
        assert (f"s{dpid}", State.DEGRADED) in [(b.bridge, b.state) for b in seen[name].bridges]
    [bridge] = [b for b in rig.inspector.bridges() if b.dpid == dpid]
    assert bridge.state is State.DEGRADED


@pytest.mark.parametrize(("dpid", "table", "words", "who"), OWN)
def test_a_session_whose_own_flow_is_refused_makes_no_copies_there(
    rig: Rig, dpid: int, table: str, words: str, who: str
) -> None:
    refuse(rig, dpid, chosen(rig, dpid, table, words).cookie)

    seen = statuses(rig)
    assert {name for name, status in seen.items() if status.state is not State.ACTIVE} == {who}
    assert (f"s{dpid}", State.ERROR) in [(b.bridge, b.state) for b in seen[who].bridges]
    assert "OFPFMFC_TABLE_FULL" in " ".join(seen[who].reasons)


def test_every_table_is_refused_once() -> None:
    """Those of tap bridges beside the bridges of others are in the tests of their flows."""
    refused = {case[1] for case in (*CASES, *OWN)}
    of_taps = {AGREED.name, COPIED_FROM.name, COPIED_TO.name}
    left = {LEARNED.name, BRIDGE_CAP.name} | of_taps
    assert refused == {table.name for table in PIPELINE} - left


def test_a_session_is_active_again_once_its_flow_is_accepted(rig: Rig) -> None:
    refuse(rig, 1, chosen(rig, 1, "filter", "egress rule 1").cookie)
    assert statuses(rig)["filtered"].state is State.DEGRADED
    refuse(rig, 1, None)
    assert {s.state for s in statuses(rig).values()} == {State.ACTIVE}
