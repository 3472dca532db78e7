"""Copies made are those wanted less those lost, over restarts of switches and controllers."""

from __future__ import annotations

from controller.status.losses import with_counts, with_shed
from controller.southbound.switch import Metering
from controller.status.values import (
    BridgeShare,
    BridgeStatus,
    Copies,
    Losses,
    Measure,
    SessionStatus,
    State,
)
from controller.status.session_counters import LATELY_S, Tallies, Tally, own_meters
from flows.openflow.flow import make_cookie
from flows.plan.meters import counts_long, is_our_meter, long_meter
from flows.model.session import Dpid, Oversize
from flows.pipeline.tables import BRIDGE_METER
from flows.model.world import METERS

ONE, OTHER = 7, 8
CAP = METERS[3]
CAPS = {CAP: ONE}
CUT, SKIPPED = (long_meter(ONE, oversize).number for oversize in Oversize)
COOKIE = make_cookie(ONE, 1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def metering(seen: int = 0, dropped: int = 0) -> Metering:
    return Metering(Copies(seen, seen * 100), Copies(dropped, dropped * 100))


def name(dpid: Dpid) -> str:
    return f"s{dpid}"


def wanted(tally: Tally, count: int) -> None:
    tally.wanted.update({COOKIE: Copies(count, count * 100)})


def test_what_was_skipped_or_shed_was_not_made_and_what_was_cut_was() -> None:
    tally = Tally()
    wanted(tally, 100)
    tally.update({CUT: metering(5), SKIPPED: metering(7), CAP: metering(90, 20)}, CAPS)
    assert tally.made(ONE) == Copies(73, 7300)
    assert tally.losses(ONE) == Losses(truncated=5, skipped=7, shed=20)
    assert tally.losses(ONE).by_reason == {"mtu": 7, "rate": 20}
    assert tally.losses(OTHER) == Losses()
    assert Losses().by_reason == {}


def test_a_meter_that_counts_from_nothing_again_goes_on_where_it_was() -> None:
    tally = Tally()
    tally.update({CAP: metering(0, 20), CUT: metering(5)}, CAPS)
    tally.update({CAP: metering(0, 3)}, CAPS)
    tally.update_one(ONE, {CUT: metering(1)}, CAPS)
    assert tally.losses(ONE) == Losses(truncated=6, shed=23)


def test_what_was_written_down_is_restored_in_each_measure() -> None:
    tally, later = Tally(), Tally()
    wanted(tally, 50)
    tally.update({SKIPPED: metering(5), CAP: metering(0, 10)}, CAPS)
    parts = tally.parts_of(ONE)
    assert set(parts) == {Measure.WANTED, Measure.SKIPPED, Measure.SHED}
    for measure, (before, last) in parts.items():
        later.restore(ONE, measure, before, last)
    assert (later.made(ONE), later.losses(ONE)) == (tally.made(ONE), tally.losses(ONE))
    later.update({SKIPPED: metering(5), CAP: metering(0, 10)}, CAPS)
    assert later.lately(ONE) == set(), "all of it was lost before"
    wanted(later, 60)
    later.update({SKIPPED: metering(6), CAP: metering(0, 1)}, CAPS)
    assert later.lately(ONE) == {Measure.SKIPPED, Measure.SHED}
    assert later.losses(ONE) == Losses(skipped=6, shed=11)
    assert later.made(ONE) == Copies(43, 4300)


def test_copies_that_were_made_never_become_fewer() -> None:
    tally = Tally()
    wanted(tally, 100)
    assert tally.made(ONE) == Copies(100, 10_000)
    tally.update({CAP: metering(0, 30)}, CAPS)
    assert tally.made(ONE) == Copies(100, 10_000), "the flows have not told all yet"
    wanted(tally, 140)
    assert tally.made(ONE) == Copies(110, 11_000)


def test_all_bridges_together() -> None:
    tallies = Tallies()
    for dpid in (Dpid(1), Dpid(2)):
        wanted(tallies.of(dpid), 10)
        tallies.of(dpid).update({CAP: metering(0, 1)}, CAPS)
    assert tallies.made(ONE) == Copies(18, 1800)
    assert tallies.by_bridge(ONE) == {d: (Copies(9, 900), Losses(shed=1)) for d in (1, 2)}
    assert len(tallies.parts_of(ONE)) == 4
    assert (tallies.made(OTHER), tallies.parts_of(OTHER), tallies.by_bridge(OTHER)) == (
        Copies(),
        {},
        {},
    )


def test_a_loss_degrades_a_session_for_a_while_and_says_why() -> None:
    clock, tallies = Clock(), Tallies()
    tallies._by_dpid[Dpid(1)] = tally = Tally(clock)
    active = SessionStatus(State.ACTIVE, largest_frame=1464)
    assert with_counts(active, tallies, ONE, name, ()) == active
    tally.update({CUT: metering(5), SKIPPED: metering(7), CAP: metering(0, 20)}, CAPS)

    status = with_counts(active, tallies, ONE, name, ())

    assert status.state is State.DEGRADED
    assert (status.truncated, status.skipped) == (5, {"mtu": 7, "rate": 20})
    assert status.reasons == (
        "mtu: 5 copies were cut, because the path to its sensors carries frames of at most 1464 "
        "bytes",
        "mtu: 7 copies were left out, because the path to its sensors carries frames of at most "
        "1464 bytes",
        "rate: 20 copies were left out, because they exceeded its max_rate",
    )
    clock.now += LATELY_S + 1
    tally.update({CUT: metering(5), SKIPPED: metering(8), CAP: metering(0, 20)}, CAPS)
    (reason,) = with_counts(active, tallies, ONE, name, ()).reasons
    assert reason.startswith("mtu: 8 copies were left out")
    stopped = SessionStatus(State.STOPPED, ("enough",))
    assert with_counts(stopped, tallies, ONE, name, ()).reasons == ("enough",)
    clock.now += LATELY_S + 1
    assert with_counts(active, tallies, ONE, name, ()).state is State.ACTIVE


def test_bridges_that_have_counted_stay_in_a_status_and_all_of_it_is_the_sum_of_theirs() -> None:
    tallies = Tallies()
    for dpid, count in ((1, 10), (2, 20), (3, 40)):
        wanted(tallies.of(Dpid(dpid)), count)
    tallies.of(Dpid(1)).update({CUT: metering(5)}, CAPS)
    tallies.of(Dpid(2)).update({SKIPPED: metering(7), CAP: metering(0, 1)}, CAPS)
    shares = (BridgeShare(Dpid(4), "s4", State.PENDING), BridgeShare(Dpid(1), "s1", State.ACTIVE))
    seen = SessionStatus(State.ACTIVE, bridges=shares)

    status = with_counts(seen, tallies, ONE, name, {Dpid(3), Dpid(4)})

    assert status.bridges == (
        BridgeShare(Dpid(4), "s4", State.PENDING),
        BridgeShare(Dpid(1), "s1", State.ACTIVE, Copies(10, 1000), 5),
        BridgeShare(Dpid(2), "s2", State.INACTIVE, Copies(12, 1200), 0, {"mtu": 7, "rate": 1}),
        BridgeShare(Dpid(3), "s3", State.PENDING, Copies(40, 4000)),
    )
    assert (status.copies, status.truncated) == (Copies(62, 6200), 5)
    assert status.skipped == {"mtu": 7, "rate": 1}
    assert tallies.made(ONE) == status.copies


def test_what_the_cap_of_a_bridge_costs_is_the_bridges_matter() -> None:
    tally, active = Tally(), BridgeStatus(Dpid(1), "s1", State.ACTIVE)
    assert with_shed(active, tally) == active
    tally.update({BRIDGE_METER: metering(50, 9)}, CAPS)
    status = with_shed(active, tally)
    assert (status.state, status.shed) == (State.DEGRADED, 9)
    assert status.reasons == (
        "its sessions want more copies than `bridge_rate` of [bridges] allows: 9 were left out",
    )
    assert tally.losses(ONE) == Losses()


def test_each_session_has_counting_meters_of_its_own() -> None:
    numbers = [long_meter(n, o).number for n in (0, 1, (1 << 20) - 1) for o in Oversize]
    assert len(set(numbers)) == len(numbers)
    assert all(map(is_our_meter, numbers))
    assert counts_long(CUT) == (ONE, Oversize.TRUNCATE)
    assert counts_long(SKIPPED) == (ONE, Oversize.SKIP)
    assert counts_long(CAP) is None
    assert own_meters(ONE, CAPS, None) == [CAP, CUT, SKIPPED]
    assert own_meters(ONE, CAPS, {CUT}) == [CUT]
    assert own_meters(OTHER, CAPS, {CUT, CAP}) == []


def test_a_session_whose_number_is_given_away_leaves_nothing_to_its_successor() -> None:
    tallies = Tallies()
    tally = tallies.of(Dpid(1))
    for number in (ONE, OTHER):
        tally.wanted.update_one(number, {make_cookie(number, 1): Copies(50, 5000)})
    tally.update({CAP: metering(50, dropped=20)}, CAPS)
    tally.restore(ONE, Measure.SKIPPED, Copies(3, 300), Copies(4, 400))
    assert tally.made(ONE).packets < 50 and tally.losses(ONE) != Losses()

    tallies.keep({OTHER})

    assert (tally.made(ONE), tally.losses(ONE), tally.knows(ONE)) == (Copies(), Losses(), False)
    assert tally.lately(ONE) == frozenset()
    assert tally.made(OTHER) == Copies(50, 5000)
    tally.wanted.update_one(ONE, {make_cookie(ONE, 1): Copies(2, 200)})
    assert tally.made(ONE) == Copies(2, 200)
