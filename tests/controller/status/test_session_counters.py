"""Copies made are those wanted minus those lost, over restarts of switches and controllers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.status import (
    BridgeShare,
    BridgeStatus,
    Losses,
    Measure,
    SessionCounters,
    SessionCountersByBridge,
    SessionStatus,
    State,
    own_meters,
    with_counts,
    with_shed,
)
from controller.status.session_counters import RECENT_S
from flows.model import BRIDGE_METER, METERS, Dpid, Oversize, Rate, RateUnit
from flows.openflow import MeterCount, PacketCount, make_cookie
from flows.plan import (
    count_meters,
    counts_long,
    counts_made,
    dropped_meter,
    is_our_meter,
    long_meter,
    lost_meter,
    own_tag_meter,
    owner_of_meter,
    port_meter,
)

ONE, OTHER = 7, 8
CAP = METERS[3]
CAPS = {CAP: ONE}
CUT, SKIPPED = (long_meter(ONE, oversize).number for oversize in Oversize)
MADE, TAGGED = count_meters(ONE)
DROPPED, OWN_TAG = dropped_meter(ONE).number, own_tag_meter(ONE).number
COOKIE = make_cookie(ONE, 1)
ALL_ONES = PacketCount(2**64 - 1, 2**64 - 1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def metering(seen: int = 0, dropped: int = 0) -> MeterCount:
    return MeterCount(PacketCount(seen, seen * 100), PacketCount(dropped, dropped * 100))


def name(dpid: Dpid) -> str:
    return f"s{dpid}"


def tagged(count: int) -> MeterCount:
    """Copies of 100 bytes that wear a tag of ours."""
    return MeterCount(PacketCount(count, count * 104))


def test_copies_are_counted_where_they_are_made_and_losses_where_they_are_lost() -> None:
    session_counters = SessionCounters()
    made = {MADE: metering(70), TAGGED: tagged(3)}
    lost = {CUT: metering(5), SKIPPED: metering(7), CAP: metering(90, 20)}
    session_counters.update({**made, **lost}, CAPS)
    assert session_counters.made(ONE) == PacketCount(73, 7300), "without the bytes of our tags"
    assert session_counters.losses(ONE) == Losses(truncated=5, skipped=7, shed=20)
    assert session_counters.losses(ONE).by_reason == {"mtu": 7, "rate": 20}
    assert session_counters.losses(OTHER) == Losses()
    assert Losses().by_reason == {}


def test_a_reset_of_a_meter_loses_no_count() -> None:
    session_counters = SessionCounters()
    session_counters.update({CAP: metering(0, 20), CUT: metering(5)}, CAPS)
    session_counters.update({CAP: metering(0, 3)}, CAPS)
    session_counters.update_one(ONE, {CUT: metering(1)}, CAPS)
    assert session_counters.losses(ONE) == Losses(truncated=6, shed=23)


def test_stored_counters_are_restored_in_each_measure() -> None:
    session_counters, later = SessionCounters(), SessionCounters()
    counted = {MADE: metering(30), TAGGED: tagged(5), SKIPPED: metering(5), CAP: metering(0, 10)}
    session_counters.update(counted, CAPS)
    parts = session_counters.parts_of(ONE)
    assert set(parts) == {Measure.MADE, Measure.TAGGED, Measure.SKIPPED, Measure.SHED}
    for measure, (before, last) in parts.items():
        later.restore(ONE, measure, before, last)
    assert (later.made(ONE), later.losses(ONE)) == (
        session_counters.made(ONE),
        session_counters.losses(ONE),
    )
    later.update(counted, CAPS)
    assert later.recent_losses(ONE) == set(), "all of it was lost before"
    later.update(
        {MADE: metering(31), TAGGED: tagged(5), SKIPPED: metering(6), CAP: metering(0, 1)}, CAPS
    )
    assert later.recent_losses(ONE) == {Measure.SKIPPED, Measure.SHED}
    assert later.losses(ONE) == Losses(skipped=6, shed=11)
    assert later.made(ONE) == PacketCount(36, 3600)


def test_what_was_shed_is_not_counted_again_after_it_was_read_without_its_session() -> None:
    """Before a bridge is confirmed it is not known which meter caps which session."""
    session_counters = SessionCounters()
    session_counters.restore(ONE, Measure.SHED, PacketCount(), PacketCount(190, 19_000))
    metered = {CAP: metering(200, 190), MADE: metering(10)}
    for caps in ({}, CAPS, {}, CAPS):
        session_counters.update(metered, caps)
        session_counters.update_one(ONE, metered, caps)
        assert session_counters.losses(ONE).by_reason == {"rate": 190}
        assert session_counters.made(ONE).packets == 10
    assert not session_counters.recent_losses(ONE)


def test_a_meter_that_is_made_anew_goes_on_where_the_old_one_ended() -> None:
    """The new one may be higher when it is read first: only who has made it knows."""
    session_counters = SessionCounters()
    session_counters.update({MADE: metering(50), CAP: metering(0, 4)}, CAPS)
    with session_counters.resetting([MADE], [CAP], CAPS):
        pass
    session_counters.update({MADE: metering(80), CAP: metering(0, 9)}, CAPS)
    assert session_counters.made(ONE).packets == 130
    assert session_counters.losses(ONE).shed == 13


def test_a_meter_that_a_restarted_controller_makes_anew_goes_on_as_well() -> None:
    later = SessionCounters()
    later.restore(ONE, Measure.MADE, PacketCount(7, 700), PacketCount(50, 5000))
    later.restore(ONE, Measure.TAGGED, PacketCount(), PacketCount(2, 200))
    with later.resetting([MADE], [], CAPS):
        pass
    later.update({MADE: metering(80), TAGGED: tagged(3)}, CAPS)
    assert later.made(ONE) == PacketCount(7 + 50 + 80 + 3, 14_000)


def test_counters_that_were_read_while_meters_were_reset_are_dropped() -> None:
    session_counters = SessionCounters()
    session_counters.update({MADE: metering(50)}, CAPS)
    before = session_counters.moment
    with session_counters.resetting([], [MADE], CAPS):
        session_counters.update({MADE: metering(55)}, CAPS, session_counters.moment)
    session_counters.update({MADE: metering(60)}, CAPS, before)
    session_counters.update_one(ONE, {MADE: metering(60)}, CAPS, before)
    assert session_counters.made(ONE).packets == 50
    session_counters.update({MADE: metering(1)}, CAPS, session_counters.moment)
    assert session_counters.made(ONE).packets == 51


def test_beacons_are_no_copies() -> None:
    session_counters = SessionCounters()
    session_counters.update({MADE: metering(5), CUT: metering(1)}, CAPS)
    beacons = {measure: PacketCount(20, 2000) for measure in (Measure.MADE, Measure.TRUNCATED)}
    session_counters.update_one(ONE, {MADE: metering(27), CUT: metering(22)}, CAPS, beacons=beacons)
    assert session_counters.made(ONE) == PacketCount(7, 700)
    assert session_counters.losses(ONE).truncated == 2
    assert session_counters.take_unkept() == {ONE}, "nobody else knows how many were beacons"
    assert session_counters.take_unkept() == frozenset()


def test_beacons_are_no_copies_while_meters_are_reset() -> None:
    session_counters = SessionCounters()
    session_counters.update({MADE: metering(5)}, CAPS)
    moment, beacons = session_counters.moment, {Measure.MADE: PacketCount(20, 2000)}
    with session_counters.resetting([], [MADE], CAPS):
        session_counters.update_one(ONE, {MADE: metering(27)}, CAPS, moment, beacons)
        session_counters.update_some({MADE: metering(27)}, CAPS)
    session_counters.update({MADE: metering(1)}, CAPS)
    assert session_counters.made(ONE) == PacketCount(8, 800)
    assert session_counters.take_unkept() == {ONE}


def test_a_bridge_without_meters_has_its_flows_count() -> None:
    session_counters = SessionCounters()
    session_counters.update_flows({COOKIE: PacketCount(40, 4000)})
    assert session_counters.made(ONE) == PacketCount(40, 4000)


def test_counters_of_all_bridges_are_added() -> None:
    counters_by_bridge = SessionCountersByBridge()
    for dpid in (Dpid(1), Dpid(2)):
        counters_by_bridge.of(dpid).update({MADE: metering(9), CAP: metering(0, 1)}, CAPS)
    assert counters_by_bridge.made(ONE) == PacketCount(18, 1800)
    assert counters_by_bridge.losses(ONE) == Losses(shed=2)
    assert counters_by_bridge.by_bridge(ONE) == {
        d: (PacketCount(9, 900), Losses(shed=1)) for d in (1, 2)
    }
    assert len(counters_by_bridge.parts({ONE})) == 4
    assert (
        counters_by_bridge.made(OTHER),
        counters_by_bridge.parts({OTHER}),
        counters_by_bridge.by_bridge(OTHER),
    ) == (
        PacketCount(),
        {},
        {},
    )


def test_a_loss_degrades_a_session_for_a_while_and_says_why() -> None:
    clock, counters_by_bridge = Clock(), SessionCountersByBridge()
    counters_by_bridge._by_dpid[Dpid(1)] = session_counters = SessionCounters(clock)
    active = SessionStatus(State.ACTIVE, largest_frame=1464)
    assert with_counts(active, counters_by_bridge, ONE, name, ()) == active
    session_counters.update({CUT: metering(5), SKIPPED: metering(7), CAP: metering(0, 20)}, CAPS)

    status = with_counts(active, counters_by_bridge, ONE, name, ())

    assert status.state is State.DEGRADED
    assert (status.truncated, status.skipped) == (5, {"mtu": 7, "rate": 20})
    lately = "some of them counted within the last minute, because they"
    path = "did not fit the path to its sensors, which now carries frames of at most 1464 bytes"
    assert status.reasons == (
        f"mtu: 5 copies were cut, {lately} {path}",
        f"mtu: 7 copies were left out, {lately} {path}",
        f"rate: 20 copies were left out, {lately} exceeded its max_rate",
    )
    clock.now += RECENT_S + 1
    session_counters.update({CUT: metering(5), SKIPPED: metering(8), CAP: metering(0, 20)}, CAPS)
    (reason,) = with_counts(active, counters_by_bridge, ONE, name, ()).reasons
    assert reason.startswith("mtu: 8 copies were left out")
    stopped = SessionStatus(State.STOPPED, ("enough",))
    assert with_counts(stopped, counters_by_bridge, ONE, name, ()).reasons == ("enough",)
    clock.now += RECENT_S + 1
    assert with_counts(active, counters_by_bridge, ONE, name, ()).state is State.ACTIVE


def test_bridges_that_have_counted_stay_in_a_status_which_is_their_sum() -> None:
    counters_by_bridge = SessionCountersByBridge()
    for dpid, counted in (
        (1, {MADE: metering(10), CUT: metering(5)}),
        (2, {MADE: metering(12), SKIPPED: metering(7), CAP: metering(0, 1)}),
        (3, {MADE: metering(40)}),
    ):
        counters_by_bridge.of(Dpid(dpid)).update(counted, CAPS)
    shares = (BridgeShare(Dpid(4), "s4", State.PENDING), BridgeShare(Dpid(1), "s1", State.ACTIVE))
    seen = SessionStatus(State.ACTIVE, bridges=shares)

    status = with_counts(seen, counters_by_bridge, ONE, name, {Dpid(3), Dpid(4)})

    assert status.bridges == (
        BridgeShare(Dpid(4), "s4", State.PENDING),
        BridgeShare(Dpid(1), "s1", State.ACTIVE, PacketCount(10, 1000), 5),
        BridgeShare(Dpid(2), "s2", State.INACTIVE, PacketCount(12, 1200), 0, {"mtu": 7, "rate": 1}),
        BridgeShare(Dpid(3), "s3", State.PENDING, PacketCount(40, 4000)),
    )
    assert (status.copies, status.truncated) == (PacketCount(62, 6200), 5)
    assert status.skipped == {"mtu": 7, "rate": 1}
    assert counters_by_bridge.made(ONE) == status.copies


def test_the_sentence_about_a_loss_is_true_after_its_cause_has_gone() -> None:
    counters_by_bridge = SessionCountersByBridge()
    session_counters = counters_by_bridge.of(Dpid(1))
    lost = lost_meter(ONE).number
    session_counters.update({CUT: metering(30), lost: metering(10)}, CAPS)

    def reasons(largest_frame: int | None) -> tuple[str, ...]:
        now = SessionStatus(State.ACTIVE, largest_frame=largest_frame)
        return with_counts(now, counters_by_bridge, ONE, name, ()).reasons

    for largest_frame, now in (
        (1014, "now carries frames of at most 1014 bytes"),
        (1514, "now carries frames of at most 1514 bytes"),
        (None, "now carries every frame"),
    ):
        cut, left_out = reasons(largest_frame)
        assert cut.startswith(
            "mtu: 30 copies were cut, some of them counted within the last minute"
        )
        assert cut.endswith(f"they did not fit the path to its sensors, which {now}")
        assert left_out.endswith("within the last minute, because no sensor could get them")
    assert RECENT_S == 60


def test_copies_shed_by_the_cap_of_a_bridge_degrade_the_bridge_and_its_sessions() -> None:
    clock, counters_by_bridge = Clock(), SessionCountersByBridge()
    counters_by_bridge._by_dpid[Dpid(1)] = session_counters = SessionCounters(clock)
    active = BridgeStatus(Dpid(1), "s1", State.ACTIVE)
    own = SessionStatus(State.ACTIVE, bridges=(BridgeShare(Dpid(1), "s1", State.ACTIVE),))
    elsewhere = SessionStatus(State.ACTIVE, bridges=(BridgeShare(Dpid(2), "s2", State.ACTIVE),))
    gone = SessionStatus(State.ACTIVE, bridges=(BridgeShare(Dpid(1), "s1", State.INACTIVE),))
    with session_counters.resetting([BRIDGE_METER], [], CAPS):
        pass

    def of(status: SessionStatus) -> SessionStatus:
        return with_counts(status, counters_by_bridge, ONE, name, ())

    assert with_shed(active, session_counters) == active and of(own) == own
    session_counters.update({BRIDGE_METER: metering(50, 9)}, CAPS)
    status = with_shed(active, session_counters)
    assert (status.state, status.shed) == (State.DEGRADED, 9)
    assert status.reasons == (
        "its sessions wanted more copies than `bridge_rate` of [bridges] allows: 9 were left out, "
        "some of them counted within the last minute",
    )
    assert session_counters.losses(ONE) == Losses()
    assert of(own).state is State.DEGRADED
    assert of(own).reasons == (
        "bridge_rate: bridge s1 left out 9 copies of its sessions, some of them counted within the "
        "last minute, because they exceeded `bridge_rate` of [bridges]: some of its copies may be "
        "among them",
    )
    assert (of(own).copies, of(own).skipped) == (PacketCount(), {})
    assert of(elsewhere) == elsewhere and of(gone) == gone
    clock.now += RECENT_S + 1
    assert with_shed(active, session_counters).state is State.ACTIVE and of(own) == own
    session_counters.update_one(OTHER, {BRIDGE_METER: metering(60, 10)}, CAPS)
    assert of(own).state is State.DEGRADED


def test_what_the_cap_of_a_bridge_shed_before_this_controller_is_not_recent() -> None:
    session_counters, active = SessionCounters(), BridgeStatus(Dpid(1), "s1", State.ACTIVE)
    session_counters.update({BRIDGE_METER: metering(50, 9)}, CAPS)
    assert with_shed(active, session_counters) == replace(active, shed=9)
    session_counters.update({BRIDGE_METER: metering(51, 10)}, CAPS)
    assert with_shed(active, session_counters).state is State.DEGRADED


def test_each_session_has_counting_meters_of_its_own() -> None:
    numbers = [long_meter(n, o).number for n in (0, 1, (1 << 20) - 1) for o in Oversize]
    assert len(set(numbers)) == len(numbers)
    assert all(map(is_our_meter, numbers))
    assert counts_long(CUT) == (ONE, Oversize.TRUNCATE)
    assert counts_long(SKIPPED) == (ONE, Oversize.SKIP)
    assert counts_long(CAP) is None
    assert counts_made(MADE) == (ONE, False) and counts_made(TAGGED) == (ONE, True)
    assert counts_made(CUT) is None and counts_long(MADE) is None
    port, lost = port_meter(ONE, Rate(RateUnit.KBPS, 9)).number, lost_meter(ONE).number
    own = [CAP, CUT, SKIPPED, port, lost, DROPPED, OWN_TAG, MADE, TAGGED]
    assert own_meters(ONE, CAPS, None) == own
    assert len({*own, *numbers}) == len(numbers) + len(own) and all(map(is_our_meter, own))
    assert {owner_of_meter(number) for number in own} == {None, ONE}
    assert own_meters(ONE, CAPS, {CUT}) == [CUT]
    assert own_meters(ONE, CAPS, {CUT, BRIDGE_METER}) == [CUT, BRIDGE_METER]
    assert own_meters(OTHER, CAPS, {CUT, CAP}) == []


def test_a_tag_that_a_meter_does_not_see_is_counted_and_one_of_ours_is_not() -> None:
    session_counters = SessionCounters()
    session_counters.update({MADE: metering(3), TAGGED: metering(5), OWN_TAG: metering(7)}, CAPS)
    assert session_counters.made(ONE) == PacketCount(15, 1500 - 5 * 4 + 7 * 4)


def test_what_another_bridge_had_to_drop_is_lost_and_no_copy() -> None:
    counters_by_bridge = SessionCountersByBridge()
    one, other, sensor = (counters_by_bridge.of(Dpid(n)) for n in (1, 2, 3))
    one.update({TAGGED: tagged(50), CUT: metering(5)}, CAPS)
    other.update({MADE: metering(8)}, CAPS)
    sensor.update({DROPPED: tagged(20)}, CAPS)
    assert counters_by_bridge.made(ONE) == PacketCount(38, 3800)
    assert counters_by_bridge.losses(ONE) == Losses(truncated=5, lost=20)
    shares = {
        1: (PacketCount(30, 3000), Losses(truncated=5, lost=20)),
        2: (PacketCount(8, 800), Losses()),
    }
    assert counters_by_bridge.by_bridge(ONE) == shares
    assert counters_by_bridge.recent_losses(ONE) == {Measure.TRUNCATED, Measure.LOST}

    sensor.update({DROPPED: tagged(70)}, CAPS)
    assert counters_by_bridge.made(ONE) == PacketCount(), "never less than nothing"
    assert counters_by_bridge.losses(ONE).lost == 58


def test_what_was_dropped_is_not_told_while_who_made_it_is_away() -> None:
    session_counters, other = SessionCounters(), dropped_meter(OTHER).number
    session_counters.update({DROPPED: tagged(20), other: tagged(5)}, CAPS)
    more = {DROPPED: tagged(30), other: tagged(9)}
    session_counters.update(more, CAPS, untold={ONE})
    session_counters.update({}, CAPS, untold={ONE})
    session_counters.update_one(ONE, more, CAPS, is_untold=True)
    assert session_counters.dropped(ONE) == PacketCount(20, 2000)
    assert session_counters.dropped(OTHER) == PacketCount(9, 900)
    session_counters.update(more, CAPS)
    assert session_counters.dropped(ONE) == PacketCount(30, 3000)
    later = SessionCounters()
    later.restore(ONE, Measure.DROPPED, *session_counters.parts_of(ONE)[Measure.DROPPED])
    later.update(more, CAPS)
    assert later.dropped(ONE) == PacketCount(30, 3000)


def test_a_reused_session_number_starts_at_zero() -> None:
    counters_by_bridge = SessionCountersByBridge()
    session_counters = counters_by_bridge.of(Dpid(1))
    others = count_meters(OTHER)[0]
    counted = {MADE: metering(50), others: metering(50), CAP: metering(50, dropped=20)}
    session_counters.update(counted, CAPS)
    session_counters.restore(ONE, Measure.SKIPPED, PacketCount(3, 300), PacketCount(4, 400))
    assert session_counters.made(ONE).packets == 50 and session_counters.losses(ONE) != Losses()

    counters_by_bridge.keep({OTHER})

    assert (
        session_counters.made(ONE),
        session_counters.losses(ONE),
        session_counters.has_counted(ONE),
    ) == (PacketCount(), Losses(), False)
    assert session_counters.recent_losses(ONE) == frozenset()
    assert session_counters.made(OTHER) == PacketCount(50, 5000)
    session_counters.update_one(ONE, {MADE: metering(2)}, CAPS)
    assert session_counters.made(ONE) == PacketCount(2, 200)


def test_meters_that_were_altered_are_said_of_their_sessions_for_a_while() -> None:
    clock, counters = Clock(), SessionCountersByBridge()
    here = counters.of(Dpid(1))
    here._now = clock
    here.update({MADE: metering(70), CAP: metering(0, 20)}, CAPS)

    def said(number: int, state: State = State.ACTIVE) -> SessionStatus:
        share = BridgeShare(Dpid(1), "s1", state)
        status = SessionStatus(State.ACTIVE, bridges=(share,))
        return with_counts(status, counters, number, name, ())

    clock.now += RECENT_S  # what was shed before is no news
    assert said(ONE).state is State.ACTIVE
    here.note_altered([BRIDGE_METER, CAP], CAPS)
    [reason] = said(ONE).reasons
    assert said(ONE).state is State.DEGRADED and "meters of bridge s1" in reason
    assert said(OTHER).reasons == () == said(ONE, State.INACTIVE).reasons
    assert list(counters.take_unkept()) == [(Dpid(1), {ONE})], "the last counts are stored"
    assert list(counters.take_unkept()) == []
    clock.now += RECENT_S
    assert said(ONE).state is State.ACTIVE
    here.note_altered([MADE], {})
    here.keep({OTHER})
    assert not here.was_altered(ONE)


def test_counters_that_cannot_be_right_are_said_and_leave_other_sessions_alone() -> None:
    counters_by_bridge, liar = SessionCountersByBridge(), MeterCount(*[ALL_ONES] * 2)
    made_of_other, _ = count_meters(OTHER)
    session_counters = counters_by_bridge.of(Dpid(1))
    session_counters.update({MADE: metering(10), made_of_other: metering(3)}, CAPS)
    session_counters.update(
        {MADE: liar, TAGGED: liar, BRIDGE_METER: liar, made_of_other: metering(5)}, CAPS
    )

    status = with_counts(SessionStatus(State.ACTIVE), counters_by_bridge, ONE, name, ())
    assert status.state is State.DEGRADED and status.copies == PacketCount(10, 1000)
    (reason,) = status.reasons
    assert reason.startswith("bridge s1 reports counters that cannot be right")
    other = with_counts(SessionStatus(State.ACTIVE), counters_by_bridge, OTHER, name, ())
    assert (other.state, other.copies.packets) == (State.ACTIVE, 5)
    bridge = with_shed(BridgeStatus(Dpid(1), "s1", State.ACTIVE), session_counters)
    assert (bridge.state, bridge.shed) == (State.DEGRADED, 0)
    assert bridge.reasons[0].startswith("it reports counters that cannot be right")

    session_counters.update({MADE: metering(12), made_of_other: metering(5)}, CAPS)
    status = with_counts(SessionStatus(State.ACTIVE), counters_by_bridge, ONE, name, ())
    assert (status.state, status.copies.packets) == (State.ACTIVE, 12)


def test_what_is_stored_of_all_sessions_costs_as_much_as_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every session on every bridge was looked at: 18 s, each minute, for 1,000 of both."""
    counters_by_bridge, looked = SessionCountersByBridge(), list[int]()
    parts_of = SessionCounters.parts_of

    def look(counters: SessionCounters, number: int) -> object:
        looked.append(number)
        return parts_of(counters, number)

    monkeypatch.setattr(SessionCounters, "parts_of", look)
    many = range(1, 51)
    for number in many:
        counters_by_bridge.of(Dpid(number)).restore(
            number, Measure.MADE, PacketCount(), PacketCount(number, 60 * number)
        )
    assert counters_by_bridge.parts(many) == {
        (n, Dpid(n), Measure.MADE): (PacketCount(), PacketCount(n, 60 * n)) for n in many
    }
    assert sorted(looked) == list(many)
