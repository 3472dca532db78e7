"""A connected bridge of a real Open vSwitch: plans, counters, ports, and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from controller.southbound import LOCAL_PORT, SwitchGone, SwitchPort, SwitchUnfit, SwitchUnreachable
from controller.southbound.openflow import ManagedSwitch, open_management
from flows.openflow import (
    ETH_DST,
    IN_PORT,
    PRODUCTION,
    Flow,
    Load,
    Match,
    Output,
    PacketCount,
    PopVlan,
    RegField,
)
from flows.plan import Plan, plan
from tests.ovs.lab import MARKER_COOKIE, Lab, ofctl, vsctl
from tests.ovs.open_vswitch import pid_of
from tests.ovs.processor import Stopwatch
from tests.ovs.waiting import wait_for

REGISTER = RegField("part", 1, 0, 19)
FRAME = bytes.fromhex("ffffffffffff0200000000010800").ljust(100, b"\0")


@pytest.fixture
def switch(lab: Lab) -> Iterator[ManagedSwitch]:
    lab.add_bridge("s1", dpid=0x51)
    with open_management("s1", timeout_s=30) as connected:
        yield connected


def flow(number: int, *outputs: int, owner: int = PRODUCTION, table: int = 0) -> Flow:
    actions = tuple(Output(output) for output in outputs)
    return Flow(table, 10, Match.of(IN_PORT.eq(number)), actions, owner, "test")


def add(*flows: Flow) -> Plan:
    return Plan(flows, (), 0)


def test_a_plan_brings_the_bridge_to_what_is_desired(switch: ManagedSwitch) -> None:
    first = [flow(number, 1) for number in range(2, 50)]
    assert switch.apply(plan(first, switch.our_flows())) == ()
    second = [flow(number, 1, 2) if number % 2 else flow(number, 1) for number in range(20, 70)]
    todo = plan(second, switch.our_flows())
    assert (len(todo.add), len(todo.remove), todo.kept) == (35, 18, 15)
    assert switch.apply(todo) == ()
    assert not plan(second, switch.our_flows())
    assert switch.apply(Plan((), (), 50)) == ()


def test_a_switch_is_free_again_when_many_rules_are_removed(switch: ManagedSwitch) -> None:
    """In descending order of priority 20,000 rules kept it busy for 14 s on a free machine."""
    rules = [
        Flow(0, 60_000 - n, Match.of(ETH_DST.eq(n)), (Output(1),), PRODUCTION, "test")
        for n in range(20_000)
    ]
    assert switch.apply(add(*rules)) == ()
    assert switch.apply(plan((), switch.our_flows())) == ()
    busy = Stopwatch(pid_of("ovs-vswitchd"))
    begun, asked = time.monotonic(), 0
    while time.monotonic() < begun + 1 or asked < 10:
        switch.barrier()
        asked += 1
    assert busy.seconds() < 7, f"{asked} barriers"


def test_what_a_plan_leaves_alone_keeps_its_counters(lab: Lab, switch: ManagedSwitch) -> None:
    sender, tap, _ = lab.add_ports("s1", (1, 2, 3))
    kept = flow(1, 2, owner=7, table=0)
    switch.apply(add(kept, flow(3, 2)))
    assert lab.exchange([(sender, FRAME)] * 5)[tap] == [FRAME] * 5
    wait_for(
        lambda: switch.flow_copies(0).get(kept.cookie), lambda seen: seen == PacketCount(5, 500)
    )
    switch.apply(plan([kept, flow(3, 1)], switch.our_flows()))
    assert switch.flow_copies(0)[kept.cookie] == PacketCount(5, 500)


def test_counters_are_told_of_each_flow_and_of_one_session(lab: Lab, switch: ManagedSwitch) -> None:
    one, two, tap = lab.add_ports("s1", (1, 2, 3))
    first, second, third = flow(1, 3, owner=7), flow(2, 3, owner=7), flow(9, 3, owner=8)
    switch.apply(add(first, second, third))
    assert len(lab.exchange([(one, FRAME), (two, FRAME), (two, FRAME)])[tap]) == 3
    of_seven = {first.cookie: PacketCount(1, 100), second.cookie: PacketCount(2, 200)}
    expected = of_seven | {third.cookie: PacketCount(0, 0)}
    wait_for(lambda: dict(switch.flow_copies(0)), lambda seen: seen == expected)
    assert switch.flow_copies(0, session=7) == of_seven
    assert switch.flow_copies(5) == {}


def test_flows_of_others_are_counted_and_never_touched(switch: ManagedSwitch) -> None:
    foreign = "cookie=0x5,table=7,priority=3,in_port=1,metadata=0x5,actions=drop"
    ofctl("add-flow", "s1", foreign)
    ofctl("add-flow", "s1", f"cookie={MARKER_COOKIE:#x},actions=drop")
    switch.apply(add(*(flow(number) for number in range(1, 5))))
    assert switch.count_flows().foreign == 2
    switch.apply(plan([], switch.our_flows()))
    assert (switch.our_flows(), switch.count_flows().foreign) == ([], 2)


def test_a_flow_of_ours_that_somebody_altered_is_put_right(switch: ManagedSwitch) -> None:
    wanted = [flow(1, 2), flow(2, 1)]
    switch.apply(add(*wanted))
    ofctl("add-flow", "s1", "cookie=0xc7a0000000000001,priority=10,in_port=1,actions=flood")
    ofctl("add-flow", "s1", "cookie=0xc7a0000000000002,metadata=5,actions=flood")
    todo = plan(wanted, switch.our_flows())
    assert (len(todo.add), len(todo.remove)) == (1, 1)
    assert todo.remove[0].match is None, "we do not know this field"
    assert switch.apply(todo) == ()
    assert not plan(wanted, switch.our_flows())


def test_a_removal_spares_a_flow_that_changed_meanwhile(switch: ManagedSwitch) -> None:
    switch.apply(add(flow(1, 2)))
    (seen,) = switch.our_flows()
    ofctl("add-flow", "s1", "cookie=0x5,priority=10,in_port=1,actions=drop")
    assert switch.apply(Plan((), (seen,), 0)) == ()
    assert switch.count_flows().foreign == 1


def test_refused_flows_are_named_and_all_others_are_applied(switch: ManagedSwitch) -> None:
    match = Match.of(IN_PORT.eq(1))
    no_tag = Flow(3, 1, match, (Load(REGISTER, 1), PopVlan()), 5, "pops what is not there")
    no_port = flow(2, 0xFFFFFF05, owner=6)
    too_long = flow(3, *[1] * 5000, owner=7)
    internal = flow(4, 1, owner=8).replace(table=254)
    good = [flow(number, 1) for number in range(10, 20)]
    rejected = switch.apply(add(*good, no_tag, no_port, too_long, internal))
    assert {r.flow: r.reason for r in rejected if r.flow != too_long} == {
        no_tag: "an action does not go with what the flow matches (OFPBAC_MATCH_INCONSISTENT)",
        no_port: "the switch has no port with this number to send to (OFPBAC_BAD_OUT_PORT)",
        internal: "the switch does not let this controller change anything (OFPBRC_EPERM)",
    }
    assert "80000 bytes long" in next(r.reason for r in rejected if r.flow == too_long)
    assert not plan(good, switch.our_flows())


def test_a_full_table_refuses_a_flow_and_nothing_else_is_lost(switch: ManagedSwitch) -> None:
    limit = ["--id=@t", "create", "Flow_Table", "flow_limit=3", "overflow_policy=refuse"]
    vsctl("--", *limit, "--", "set", "Bridge", "s1", "flow_tables:5=@t")
    flows = [flow(number, 1, table=5) for number in range(1, 6)]
    others = [flow(number, 1) for number in range(1, 6)]
    rejected = switch.apply(add(*flows, *others))
    assert {r.reason for r in rejected} == {
        "the flow table of the switch is full (OFPFMFC_TABLE_FULL)"
    }
    refused = [r.flow for r in rejected]
    left = [f for f in [*flows, *others] if f not in refused]
    assert len(refused) == 2
    assert not plan(left, switch.our_flows())


def test_what_a_plan_removes_makes_room_for_what_it_adds(switch: ManagedSwitch) -> None:
    limit = ["--id=@t", "create", "Flow_Table", "flow_limit=3", "overflow_policy=refuse"]
    vsctl("--", *limit, "--", "set", "Bridge", "s1", "flow_tables:5=@t")
    assert switch.apply(add(*(flow(number, 1, table=5) for number in (1, 2, 3)))) == ()
    others = [flow(number, 1, table=5) for number in (4, 5, 6)]
    assert switch.apply(plan(others, switch.our_flows())) == ()
    assert not plan(others, switch.our_flows())


def test_a_table_far_too_small_takes_what_it_holds_and_all_else_is_done(
    switch: ManagedSwitch,
) -> None:
    """600 sessions where 200 fit, and production changes in the same plan."""
    gone = [flow(number, 1) for number in range(2000, 2300)]
    assert switch.apply(add(*gone)) == ()
    limit = ["--id=@t", "create", "Flow_Table", "flow_limit=200", "overflow_policy=refuse"]
    vsctl("--", *limit, "--", "set", "Bridge", "s1", "flow_tables:6=@t")
    production = [flow(number, 1) for number in range(1, 300)]
    sessions = [flow(n, 1, owner=n, table=t) for n in range(1, 601) for t in (5, 6)]
    desired = [*production, *sessions]

    begun = time.monotonic()
    rejected = switch.apply(plan(desired, switch.our_flows()))
    print(f"applied but for {len(rejected)} flows in {time.monotonic() - begun:.2f} s")

    left_out = {r.flow for r in rejected}
    assert len(left_out) == 2 * 400
    assert not plan([f for f in desired if f not in left_out], switch.our_flows())
    vsctl("clear", "Bridge", "s1", "flow_tables")
    assert switch.apply(plan(desired, switch.our_flows())) == ()


def test_nothing_is_applied_before_all_of_it_can_be(lab: Lab, switch: ManagedSwitch) -> None:
    """A packet matches the old flows or the new ones, never a mixture."""
    sender, a, b = lab.add_ports("s1", (1, 2, 3))
    switch.apply(add(flow(1, 2)))
    bad = Flow(3, 1, Match.of(IN_PORT.eq(1)), (PopVlan(),), 5, "test")
    swapped = plan([flow(1, 3), bad], switch.our_flows())
    (rejected,) = switch.apply(swapped)
    assert rejected.flow == bad
    got = lab.exchange([(sender, FRAME)])
    assert (got[a], got[b]) == ([], [FRAME])


def test_a_current_switch_lacks_nothing_and_a_probe_leaves_nothing(switch: ManagedSwitch) -> None:
    assert switch.probe() == ()
    assert (switch.our_flows(), switch.count_flows().foreign) == ([], 0)


def test_ports_are_listed_with_the_name_of_the_bridge(lab: Lab, switch: ManagedSwitch) -> None:
    lab.add_ports("s1", (1, 200))
    ports = {port.ofport: port for port in switch.ports()}
    assert ports.keys() == {1, 200, LOCAL_PORT}
    assert ports[200] == SwitchPort(200, "s1-eth200", True)
    assert ports[LOCAL_PORT].name == "s1"
    ofctl("mod-port", "s1", "1", "down")
    assert not next(port for port in switch.ports() if port.ofport == 1).is_up
    assert switch.dpid == 0x51


def test_many_flows_are_dumped_in_many_parts(switch: ManagedSwitch) -> None:
    flows = [
        Flow(1, 5, Match.of(ETH_DST.eq(0x020000000000 | number)), (Output(1),), number, "test")
        for number in range(20_000)
    ]
    assert switch.apply(add(*flows)) == ()
    assert not plan(flows, switch.our_flows())


def test_parts_that_come_too_late_are_not_taken_by_halves(switch: ManagedSwitch) -> None:
    """Open vSwitch discards an idle bundle; later parts of it would open another one."""
    vsctl("set", "Open_vSwitch", ".", "other_config:bundle-idle-timeout=1")
    flows = [flow(n, 1, table=1) for n in range(1, 3000)]

    def late() -> Iterator[list[Flow]]:
        yield flows[:2000]
        wait_for(lambda: switch.waiting, lambda count: count == 2)  # opened; forgotten
        yield flows[2000:]

    assert not switch.install(late())

    assert switch.count_flows() == (0, 0)
    assert switch.install([flows])


def test_threads_take_turns(switch: ManagedSwitch) -> None:
    failed: list[BaseException] = []

    def work(table: int) -> None:
        try:
            for round_ in range(10):
                mine = [flow(n, round_ + 1, table=table) for n in range(1, 20)]
                found = [f for f in switch.our_flows() if f.table == table]
                assert switch.apply(plan(mine, found)) == ()
                switch.barrier()
                assert switch.count_flows().foreign == 0
        except BaseException as problem:
            failed.append(problem)

    threads = [threading.Thread(target=work, args=(table,)) for table in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(switch.our_flows()) == 4 * 19


def test_a_bridge_that_is_deleted_is_gone_at_once(lab: Lab, switch: ManagedSwitch) -> None:
    vsctl("del-br", "s1")
    with pytest.raises(SwitchGone, match="the connection to bridge 's1' ended"):
        switch.our_flows()
    with pytest.raises(SwitchGone):
        switch.apply(add(flow(1)))


def test_a_bridge_that_is_not_there_is_a_clear_error(lab: Lab) -> None:
    with pytest.raises(SwitchUnreachable, match=r"'s9' cannot be reached at .*s9\.mgmt: No such"):
        open_management("s9")


def test_a_bridge_of_another_openflow_version_is_unfit(lab: Lab) -> None:
    lab.add_bridge("s1")
    vsctl("set", "Bridge", "s1", "protocols=OpenFlow10")
    with pytest.raises(SwitchUnfit, match=r"'s1' lacks OpenFlow 1\.3"):
        open_management("s1")
