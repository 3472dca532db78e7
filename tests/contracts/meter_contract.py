"""What every switch must do with meters, real or fake, and what its writer makes of it.

A test module imports all of this beside all of tests/contracts/switch_contract.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.reconcile import Snapshot
from controller.reconcile.bridge import Depth
from controller.southbound.openflow import ManagedSwitch, Stream, open_management
from controller.southbound.wire import (
    ALL_METERS,
    DROP_BAND,
    ONF,
    MeterCommand,
    encode_bundle_add,
    encode_message,
    encode_meter_delete,
    encode_meter_mod,
    encode_meter_stats_request,
)
from flows.model import BRIDGE_METER, METERS, Dpid, Rate, RateUnit, Session, SessionId, World
from flows.openflow import Flow, Match, MeterCount, Metered, Resubmit
from flows.pipeline import CAP, DELIVER, SESSION
from flows.plan import Meter, MeterPlan, Plan, owner_of_meter, plan_meters
from flows.resolve import ResolvedWorld
from tests.contracts.switch_contract import XID, answers, flow_of
from tests.flows import hand_made
from tests.lone_writer import LoneWriter

METER = Meter(METERS[1], Rate(RateUnit.KBPS, 2_000))
OTHER_METER = Meter(BRIDGE_METER, Rate(RateUnit.PPS, 100))
FOREIGN_METER = Meter(METERS.start - 1, Rate(RateUnit.PPS, 7))


def metered(number: int, owner: int = 9) -> Flow:
    actions = (Metered(number), Resubmit(DELIVER.number))
    return Flow(91, 100, Match.of(SESSION.eq(owner)), actions, owner, "capped")


def meter_bytes(
    command: int = MeterCommand.ADD, flags: int = 0b1101, number: int = METER.number,
    bands: bytes | None = None,
) -> bytes:  # fmt: skip
    """A meter mod that may be wrong in any part."""
    band = DROP_BAND.pack(1, 16, 10, 10) if bands is None else bands
    return encode_message(29, XID, struct.pack("!HHI", command, flags, number) + band)


def test_meters_come_before_their_flows_change_in_place_and_go_after_them(
    switch: ManagedSwitch,
) -> None:
    flow = metered(METER.number)
    meters = MeterPlan(add=(METER, OTHER_METER))
    assert switch.apply(Plan((flow,), (), 0, meters)) == ()
    assert switch.our_meters() == {METER.number: METER, BRIDGE_METER: OTHER_METER}

    faster = Meter(METER.number, Rate(RateUnit.PPS, 3_000))
    assert switch.apply(Plan((), (), 1, MeterPlan(change=(faster,)))) == ()
    assert switch.our_meters()[METER.number] == faster
    (there,) = switch.our_flows()

    rest = plan_meters({}, switch.our_meters())
    assert switch.apply(Plan((), (there,), 0, rest)) == ()
    assert (switch.our_meters(), switch.our_flows()) == ({}, [])


def test_what_a_meter_dropped_is_counted_by_its_number(switch: ManagedSwitch) -> None:
    switch.apply(Plan((), (), 0, MeterPlan(add=(METER, OTHER_METER))))
    nothing = MeterCount()
    assert switch.metered() == {METER.number: nothing, BRIDGE_METER: nothing}
    unknown = METERS[9]
    assert switch.metered([METER.number, unknown]) == {METER.number: nothing}


def test_a_meter_of_somebody_else_is_left_alone(switch: ManagedSwitch, stream: Stream) -> None:
    assert answers(stream, encode_meter_mod(MeterCommand.ADD, FOREIGN_METER, XID)) == []
    assert switch.our_meters() == {} == switch.metered()
    switch.apply(Plan((), (), 0, plan_meters({}, switch.our_meters())))
    again = answers(stream, encode_meter_mod(MeterCommand.ADD, FOREIGN_METER, XID))
    assert again == [(XID, 12, 1)], "it is still there"


@pytest.mark.parametrize(
    "bands", [DROP_BAND.pack(1, 16, 10, 10) * 2, DROP_BAND.pack(1, 16, 2_000, 9)]
)
def test_a_meter_that_does_other_than_ours_is_shown_as_that(
    bands: bytes, switch: ManagedSwitch, stream: Stream
) -> None:
    assert answers(stream, meter_bytes(bands=bands)) == []
    assert switch.our_meters() == {METER.number: None}
    todo = plan_meters({METER.number: METER}, switch.our_meters())
    assert switch.apply(Plan((), (), 0, todo)) == ()
    assert switch.our_meters() == {METER.number: METER}


def test_flows_of_a_refused_meter_are_not_sent_and_all_others_are(
    switch: ManagedSwitch, stream: Stream
) -> None:
    assert answers(stream, meter_bytes()) == []  # somebody was first
    flows = metered(METER.number, 41), metered(BRIDGE_METER, 42), flow_of(1)

    rejected = switch.apply(Plan(flows, (), 0, MeterPlan(add=(METER, OTHER_METER))))

    assert [r.flow for r in rejected] == [METER, flows[0]]
    assert all("OFPMMFC_METER_EXISTS" in r.reason for r in rejected)
    assert {flow.key for flow in switch.our_flows()} == {flow.key for flow in flows[1:]}


def test_a_flow_that_names_no_meter_is_refused_when_its_bundle_is_committed(
    switch: ManagedSwitch,
) -> None:
    good, bad = flow_of(1), metered(METER.number, 41)
    (rejected,) = switch.apply(Plan((good, bad), (), 0))
    assert rejected.flow == bad
    assert "OFPMMFC_INVALID_METER" in rejected.reason
    assert [flow.key for flow in switch.our_flows()] == [good.key]


def test_a_meter_that_goes_takes_its_flows_along(switch: ManagedSwitch, stream: Stream) -> None:
    flows = metered(METER.number, 41), metered(BRIDGE_METER, 42)
    switch.apply(Plan(flows, (), 0, MeterPlan(add=(METER, OTHER_METER))))
    assert answers(stream, encode_meter_delete(METER.number, XID)) == []
    assert [flow.key for flow in switch.our_flows()] == [flows[1].key]


BAD_METERS: dict[str, tuple[bytes, tuple[int, int]]] = {
    "unknown command": (meter_bytes(9), (12, 4)),
    "no unit": (meter_bytes(flags=0b1100), (12, 5)),
    "both units": (meter_bytes(flags=0b1111), (12, 5)),
    "unknown flag": (meter_bytes(flags=0b11101), (12, 5)),
    "number 0": (meter_bytes(number=0), (12, 2)),
    "every number": (meter_bytes(number=ALL_METERS), (12, 2)),
    "change of nothing": (meter_bytes(MeterCommand.MODIFY), (12, 3)),
    "no band": (meter_bytes(bands=b""), (12, 11)),
    "too many bands": (meter_bytes(bands=DROP_BAND.pack(1, 16, 10, 10) * 9), (12, 11)),
    "unknown band": (meter_bytes(bands=DROP_BAND.pack(7, 16, 10, 10)), (12, 8)),
    "no rate": (meter_bytes(bands=DROP_BAND.pack(1, 16, 0, 10)), (12, 6)),
    "band cut off": (meter_bytes(bands=DROP_BAND.pack(1, 32, 10, 10)), (1, 6)),
    "cut off": (encode_message(29, XID, bytes(4)), (1, 6)),
    "counters of no meter": (encode_meter_stats_request(XID, METER.number), (12, 3)),
    "in a bundle": (
        encode_bundle_add(4, encode_meter_mod(MeterCommand.ADD, METER, XID)), (ONF, 2310)),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_METERS)
def test_a_bad_meter_is_refused_with_the_right_type_and_code(what: str, stream: Stream) -> None:
    message, expected = BAD_METERS[what]
    assert answers(stream, message) == [(XID, *expected)]


class Writing(LoneWriter):
    """One writer of a switch, and the sessions that it follows."""

    def __init__(self, switch: ManagedSwitch, *rates: Rate | None) -> None:
        self.switch, self.version = switch, 0
        self.show(*rates)
        super().__init__(switch, lambda: self.snapshot)
        self.sync()

    def show(self, *rates: Rate | None, bridge_rate: Rate | None = None) -> None:
        """A session for each rate, of one workload each."""
        world = capped_world(self.switch.dpid, *rates)
        world = replace(world, bridge_rate=bridge_rate)
        self.version += 1
        self.snapshot = Snapshot(self.version, ResolvedWorld(world), (), world.numbers)

    def recheck(self) -> int:
        """Have everything read again; how many plans were needed for that."""
        before, self.version = self.writer.plans, self.version + 1
        self.snapshot = replace(self.snapshot, version=self.version)
        self.writer.recheck(Depth.COOKIES)
        self.sync()
        return self.writer.plans - before

    def refusals(self) -> dict[str, tuple[str, ...]]:
        """Why each session was refused."""
        numbers = self.snapshot.numbers.session.items()
        return {name: self.writer.confirmed.refusals_of(number) for name, number in numbers}


def capped_world(dpid: Dpid, *rates: Rate | None) -> World:
    """Sessions c0, c1 and so on, of port 1 for port 2, each with its rate."""
    workload = hand_made.vm("a", hand_made.at(dpid, 1), 0x020000000001)
    tap = hand_made.tap("t", hand_made.at(dpid, 2))
    sessions: list[Session] = []
    for n, rate in enumerate(rates):
        sessions.append(replace(hand_made.watch(f"c{n}", "a", to="t"), max_rate=rate))
    world = hand_made.world(workload, tap, *sessions)
    meters = {SessionId(f"c{n}"): METERS[n] for n in range(len(rates))}
    return replace(world, numbers=replace(world.numbers, meter=meters))


SLOW, FAST = Rate(RateUnit.PPS, 100), Rate(RateUnit.KBPS, 5_000)


@pytest.fixture
def writing(switch: ManagedSwitch) -> Iterator[Writing]:
    started = Writing(switch, SLOW, FAST, None)
    yield started
    started.writer.stop()


def capping(switch: ManagedSwitch) -> int:
    """How many sessions have their flow in the table of caps."""
    return sum(flow.table == CAP.number for flow in switch.our_flows()) - 1


def caps(switch: ManagedSwitch) -> dict[int, Meter | None]:
    """The meters that limit a rate."""
    return {n: meter for n, meter in switch.our_meters().items() if owner_of_meter(n) is None}


def counting(switch: ManagedSwitch) -> list[int]:
    """The numbers of the meters that only count."""
    return [number for number in switch.our_meters() if owner_of_meter(number) is not None]


def test_a_writer_follows_rates_that_change_and_leaves_nothing_behind(writing: Writing) -> None:
    switch = writing.switch
    assert caps(switch) == {METERS[n]: Meter(METERS[n], r) for n, r in enumerate([SLOW, FAST])}

    writing.show(FAST, FAST, SLOW, bridge_rate=FAST)
    writing.sync()
    wanted = {**dict.fromkeys(METERS[:2], FAST), METERS[2]: SLOW, BRIDGE_METER: FAST}
    assert caps(switch) == {number: Meter(number, rate) for number, rate in wanted.items()}
    assert (capping(switch), writing.writer.confirmed.rejected) == (3, ())

    writing.show(None, None)
    writing.sync()
    kept = {METERS[n]: Meter(METERS[n], FAST) for n in (0, 1)}
    assert (caps(switch), capping(switch)) == (kept, 0), "their numbers are still given"
    assert {owner_of_meter(number) for number in counting(switch)} == {1, 2}

    writing.show()
    writing.sync()
    assert (switch.our_meters(), capping(switch)) == ({}, 0)


def test_a_meter_that_somebody_deletes_comes_back_with_its_flows(
    writing: Writing, stream: Stream
) -> None:
    assert answers(stream, encode_meter_delete(METERS[0], XID)) == []
    assert capping(writing.switch) == 1

    assert writing.recheck() == 1

    assert (len(caps(writing.switch)), capping(writing.switch)) == (2, 2)
    assert writing.recheck() == 0


def test_a_meter_that_somebody_changes_is_set_right(writing: Writing, stream: Stream) -> None:
    other = encode_meter_mod(MeterCommand.MODIFY, Meter(METERS[0], FAST), XID)
    assert answers(stream, other) == []

    assert writing.recheck() == 1

    assert writing.switch.our_meters()[METERS[0]] == Meter(METERS[0], SLOW)


def test_a_meter_that_goes_behind_the_writers_back_is_there_after_the_next_change(
    writing: Writing, stream: Stream
) -> None:
    assert answers(stream, encode_meter_delete(METERS[0], XID)) == []
    writing.show(FAST, FAST, None)  # changes the meter that is not there any more
    writing.sync()
    assert writing.switch.our_meters()[METERS[0]] == Meter(METERS[0], FAST)
    assert capping(writing.switch) == 2


def test_another_controller_changes_no_meter(writing: Writing, place: Path) -> None:
    writing.writer.stop()
    with open_management("s1", str(place), timeout_s=5) as later:
        again = Writing(later, SLOW, FAST, None)
        again.writer.stop()
        assert again.writer.plans == 0
        assert again.writer.confirmed.rejected == ()
