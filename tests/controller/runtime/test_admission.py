"""Who may connect: strangers never keep bridges out, and who was cut off stays away for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.runtime.admission import (
    BRIDGES_PER_ADDRESS,
    FORGIVEN_AFTER_S,
    GUEST_S,
    HANDSHAKE_S,
    HELD_MAX_S,
    PAUSE_LAST_S,
    REMEMBERED_MAX,
    STALE_S,
    Stay,
    Visit,
    VisitLimits,
)
from controller.runtime.admission import (
    ConnectionAdmission as Admission,
)

HOSTILE, HEALTHY = "192.0.2.66", "192.0.2.1"

UNREAD: set[object] = set()
"""The connections that have sent something which was not read yet."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Iterator[Admission]:
    """Small limits: 4 unfinished visits, 3 from one address, 5 guests."""
    limits = VisitLimits(unfinished=4, unfinished_each=3, guests=5, all=20)
    yield Admission(limits, clock, UNREAD.__contains__)


@pytest.fixture(autouse=True)
def nothing_unread() -> None:
    UNREAD.clear()


def enter(admission: Admission, host: str) -> Visit:
    """Enter, and be silent from then on."""
    visit, _ = admission.enter(object(), host, host)
    assert visit is not None
    visit.waiting_since = visit.since
    return visit


def is_refused(admission: Admission, host: str) -> bool:
    visit, _ = admission.enter(object(), host, host)
    return visit is None


def cut_off(admission: Admission, host: str, dpid: int | None = None) -> None:
    """Enter, tell a datapath id, and be cut off."""
    visit = enter(admission, host)
    if dpid is not None:
        admission.greeted(visit, dpid)
    admission.offend(visit)
    admission.leave(visit)


def test_the_oldest_of_an_address_gives_way_when_it_has_too_many(
    admission: Admission, clock: Clock
) -> None:
    first, *_ = [enter(admission, HOSTILE) for _ in range(3)]
    clock.now += STALE_S
    _, ended = admission.enter(object(), HOSTILE, "the fourth")
    assert ended == [first] and first.is_ended


def test_the_address_with_most_visits_makes_room_for_another_one(
    admission: Admission, clock: Clock
) -> None:
    first, *_ = [enter(admission, HOSTILE) for _ in range(3)]
    other = enter(admission, "192.0.2.67")
    clock.now += STALE_S
    visit, ended = admission.enter(object(), HEALTHY, "healthy")
    assert visit is not None and ended == [first] and not other.is_ended
    assert admission.count(Stay.UNFINISHED) == 4


def test_nobody_gives_way_who_was_not_waited_for(admission: Admission, clock: Clock) -> None:
    """A thousand bridges that reconnect at once wait for the controller, and not it for them."""
    visits = [enter(admission, HEALTHY) for _ in range(4)]
    for visit in visits:
        visit.waiting_since = None
    clock.now += 100.0
    assert admission.overdue() == [] and admission.is_crowded
    _, ended = admission.enter(object(), HEALTHY, "the fifth")
    assert ended == []
    with admission.waiting(visits[2]):
        clock.now += STALE_S
    assert not admission.is_crowded
    _, ended = admission.enter(object(), HEALTHY, "the sixth")
    assert ended == [visits[2]]


def test_nobody_gives_way_whose_message_is_there_and_was_not_read_yet(
    admission: Admission, clock: Clock
) -> None:
    """Its thread has not been told yet: a thousand other threads wait for the interpreter."""
    visits = [enter(admission, HEALTHY) for _ in range(4)]
    UNREAD.update(visit.connection for visit in visits)
    clock.now += HANDSHAKE_S
    assert admission.overdue() == [] and admission.is_crowded
    _, ended = admission.enter(object(), HEALTHY, "the fifth")
    assert ended == []
    UNREAD.discard(visits[1].connection)
    assert admission.overdue() == [visits[1]] and not admission.is_crowded
    _, ended = admission.enter(object(), HEALTHY, "the sixth")
    assert ended == [visits[1]]


def test_a_peer_that_sends_a_little_again_and_again_has_no_more_time(
    admission: Admission, clock: Clock
) -> None:
    visit = enter(admission, HOSTILE)
    while visit not in admission.overdue():
        assert clock.now < 1000.0 + HANDSHAKE_S + 5
        with admission.waiting(visit):
            clock.now += 3.0


def test_a_visit_that_was_ended_counts_once(admission: Admission) -> None:
    visit = enter(admission, HOSTILE)
    admission.leave(visit)
    admission.leave(visit)
    admission.greeted(visit, 1)
    admission.adopted(visit)
    assert [admission.count(stay) for stay in Stay] == [0, 0, 0]


def test_a_handshake_has_a_deadline_until_it_is_done(admission: Admission, clock: Clock) -> None:
    slow, done = enter(admission, HOSTILE), enter(admission, HEALTHY)
    admission.greeted(done, 1)
    assert admission.overdue() == []
    clock.now += HANDSHAKE_S
    assert admission.overdue() == [slow]


def test_the_oldest_guest_leaves_for_a_new_one_but_not_at_once(
    admission: Admission, clock: Clock
) -> None:
    guests = [enter(admission, HOSTILE) for _ in range(2)]
    for number, guest in enumerate(guests):
        admission.greeted(guest, number)
    for number in range(3):
        admission.greeted(enter(admission, HOSTILE), 10 + number)
    _, ended = admission.enter(object(), HEALTHY, "healthy")
    assert ended == [], "they may be bridges that are being adopted"
    clock.now += GUEST_S + 1
    _, ended = admission.enter(object(), HEALTHY, "healthy")
    assert ended == [guests[0]]


def test_bridges_of_ours_are_never_ended_for_others(admission: Admission, clock: Clock) -> None:
    for number in range(20):
        bridge = enter(admission, HEALTHY)
        admission.greeted(bridge, number)
        admission.adopted(bridge)
    clock.now += GUEST_S + 1
    assert admission.is_full
    _, ended = admission.enter(object(), HOSTILE, "a stranger")
    assert ended == [] and admission.count(Stay.BRIDGE) == 20


def test_who_was_cut_off_stays_away_ever_longer_up_to_a_bound(
    admission: Admission, clock: Clock
) -> None:
    pauses = []
    for _ in range(9):
        cut_off(admission, HOSTILE)
        began = clock.now
        while is_refused(admission, HOSTILE):
            clock.now += 1.0
        pauses.append(clock.now - began)
        admission.leave(enter(admission, HOSTILE))
    assert pauses == [1, 2, 4, 8, 16, 32, PAUSE_LAST_S, PAUSE_LAST_S, PAUSE_LAST_S]


def test_an_offence_is_forgiven_in_time(admission: Admission, clock: Clock) -> None:
    for _ in range(5):
        cut_off(admission, HOSTILE)
        clock.now += PAUSE_LAST_S
    clock.now += FORGIVEN_AFTER_S
    cut_off(admission, HOSTILE)
    clock.now += 1.0
    assert not is_refused(admission, HOSTILE)


def test_a_switch_that_restarts_again_and_again_is_not_punished(
    admission: Admission,
) -> None:
    for _ in range(100):
        visit = enter(admission, HEALTHY)
        admission.greeted(visit, 1)
        admission.leave(visit)
    again = enter(admission, HEALTHY)
    assert again.hold_s == 0 and admission.pause_of_bridge(again, 1) == 0


def test_a_bridge_pays_for_itself_and_not_for_others_at_its_address(
    admission: Admission,
) -> None:
    cut_off(admission, HEALTHY, dpid=1)
    again = enter(admission, HEALTHY)
    assert admission.pause_of_bridge(again, 1) == 1.0
    assert admission.pause_of_bridge(again, 2) == 0.0


def test_who_claims_the_name_of_a_bridge_elsewhere_does_not_keep_it_out(
    admission: Admission,
) -> None:
    cut_off(admission, HOSTILE, dpid=1)
    assert admission.pause_of_bridge(enter(admission, HEALTHY), 1) == 0.0


def test_an_address_pays_when_several_bridges_there_were_cut_off(
    admission: Admission,
) -> None:
    for dpid in range(BRIDGES_PER_ADDRESS):
        assert not is_refused(admission, HOSTILE)
        cut_off(admission, HOSTILE, dpid)
    assert is_refused(admission, HOSTILE)


def test_where_a_bridge_of_ours_lives_a_newcomer_is_held_for_a_moment_only(
    admission: Admission,
) -> None:
    """A stranger at the same address, for example behind the same NAT, cannot keep it out."""
    bridge = enter(admission, HEALTHY)
    admission.greeted(bridge, 1)
    admission.adopted(bridge)
    for _ in range(5):
        cut_off(admission, HEALTHY)
    assert enter(admission, HEALTHY).hold_s == HELD_MAX_S
    admission.leave(bridge)
    assert enter(admission, HEALTHY).hold_s == HELD_MAX_S, "also after it has gone"


def test_thousands_of_addresses_are_not_remembered_for_ever(
    admission: Admission, clock: Clock
) -> None:
    for number in range(REMEMBERED_MAX + 100):
        cut_off(admission, f"2001:db8::{number:x}")
    assert len(admission._offences) == REMEMBERED_MAX
    assert not is_refused(admission, "2001:db8::0")
    assert is_refused(admission, f"2001:db8::{REMEMBERED_MAX + 99:x}")
