"""Meters of a bridge as values, and the difference between desired and installed meters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flows.model import (
    BRIDGE_METER,
    COUNT_METERS,
    DROPPED_METERS,
    LONG_METERS,
    LOST_METERS,
    METERS,
    OWN_TAG_METERS,
    PORT_METERS,
    RATES,
    Oversize,
    Rate,
    RateUnit,
)
from flows.openflow import Flow, Metered

BURST_MS = 100
"""The burst size of a meter, in milliseconds of its rate."""
BURSTS_MIN = {RateUnit.KBPS: 256, RateUnit.PPS: 10}
"""The least burst size, in kilobits or packets: one long packet must pass a slow meter."""
METERS_OF_SESSIONS = (PORT_METERS, LOST_METERS, DROPPED_METERS, OWN_TAG_METERS)
"""The ranges that have one meter for each session number."""
UNLIMITED = Rate(RateUnit.PPS, RATES.stop - 1)
"""The rate of meters that only count."""

PORT_BURST_MS = 10
"""The burst size of a meter in PORT_METERS, in milliseconds of its rate. What a burst exceeds waits
for the port and fills the socket of the userspace datapath, so it is shorter than others."""
PORT_BURSTS_MIN = {RateUnit.KBPS: 80, RateUnit.PPS: 4}
"""The least burst size of these, in kilobits or packets: one jumbo frame must pass."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter with one band, which drops packets beyond ``rate``; ``number`` is its OpenFlow id."""

    number: int
    rate: Rate

    @property
    def burst(self) -> int:
        """Burst size of the band, in kilobits or packets."""
        unit = self.rate.unit
        if self.number in PORT_METERS:
            return max(self.rate.value * PORT_BURST_MS // 1000, PORT_BURSTS_MIN[unit])
        return max(self.rate.value * BURST_MS // 1000, BURSTS_MIN[unit])

    def __str__(self) -> str:
        unit = "pktps" if self.rate.unit is RateUnit.PPS else "kbps"
        band = f"type=drop,rate={self.rate.value},burst_size={self.burst}"
        return f"meter={self.number},{unit},burst,stats,bands={band}"


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """The meters of a bridge to add, change and remove; all others are right, or not ours.

    Meters are added and changed before the flows that use them, and removed after their flows,
    because a switch that removes a meter removes the flows that use it.
    """

    add: tuple[Meter, ...] = ()
    change: tuple[Meter, ...] = ()
    remove: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.change or self.remove)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each meter that is added, changed or removed."""
        return (
            *(f"+ {meter}" for meter in self.add),
            *(f"~ {meter}" for meter in self.change),
            *(f"- meter={number}" for number in self.remove),
        )


NO_METERS = MeterPlan()


def is_our_meter(number: int) -> bool:
    """Whether a meter with this number may be one of ours; all others are left alone."""
    ranges = (METERS, LONG_METERS, COUNT_METERS, *METERS_OF_SESSIONS)
    return number == BRIDGE_METER or any(number in one for one in ranges)


def long_meter(session: int, oversize: Oversize) -> Meter:
    """The meter that counts copies that are too long for their path; ``session`` is a number.

    Truncated and skipped copies have different meters, so that counts keep their meaning when
    ``oversize`` of the session changes.
    """
    return Meter(LONG_METERS.start + 2 * session + (oversize is Oversize.SKIP), UNLIMITED)


def count_meter(session: int, *, is_tagged: bool) -> Meter:
    """The meter that counts the copies of a session that were made; ``session`` is a number.

    Copies that wear a tag of ours have a meter of their own: it counts the bytes of the tag, which
    are no bytes of the original frame.
    """
    return Meter(COUNT_METERS.start + 2 * session + is_tagged, UNLIMITED)


def count_meters(session: int) -> range:
    """The numbers of the two meters that count the copies of a session; ``session`` is a number."""
    first = COUNT_METERS.start + 2 * session
    return range(first, first + 2)


def own_tag_meter(session: int) -> Meter:
    """The meter that counts the copies of a session whose frames have a tag of their own, and none
    of ours, where meters do not count that tag.
    """
    return Meter(OWN_TAG_METERS.start + session, UNLIMITED)


def counts_made(number: int) -> tuple[int, bool] | None:
    """The session number of the copies that a meter counts, and whether they wear a tag of ours;
    None for other meters.
    """
    if number not in COUNT_METERS:
        return None
    session, is_tagged = divmod(number - COUNT_METERS.start, 2)
    return session, bool(is_tagged)


def port_meter(session: int, rate: Rate) -> Meter:
    """The meter that keeps a session's copies below what its tap ports send."""
    return Meter(PORT_METERS.start + session, rate)


def lost_meter(session: int) -> Meter:
    """The meter that counts the copies of a session that no sensor can get."""
    return Meter(LOST_METERS.start + session, UNLIMITED)


def dropped_meter(session: int) -> Meter:
    """The meter that counts the copies of a session that come from other bridges and are dropped.

    It sees them with their link tag.
    """
    return Meter(DROPPED_METERS.start + session, UNLIMITED)


def session_of_meter(number: int, meters: range) -> int | None:
    """The session number of a meter in one of METERS_OF_SESSIONS; None for other meters."""
    return number - meters.start if number in meters else None


def owner_of_meter(number: int) -> int | None:
    """The session number that a meter counts for; None for the meters of rate caps and others."""
    if (counted := counts_long(number) or counts_made(number)) is not None:
        return counted[0]
    found = (session_of_meter(number, meters) for meters in METERS_OF_SESSIONS)
    return next((session for session in found if session is not None), None)


def counts_long(number: int) -> tuple[int, Oversize] | None:
    """The session number and kind of the long copies that a meter counts; None for other meters."""
    if number not in LONG_METERS:
        return None
    session, is_skipped = divmod(number - LONG_METERS.start, 2)
    return session, Oversize.SKIP if is_skipped else Oversize.TRUNCATE


def metered_by(flow: Flow) -> int | None:
    """The number of the meter that a flow uses; None when it uses none."""
    first = flow.actions[0] if flow.actions else None
    return first.meter if isinstance(first, Metered) else None


def need_meters(flows: Iterable[Flow]) -> bool:
    """Whether any of the flows uses a meter."""
    return any(form.startswith(Metered.form) for form in {flow.steps.form for flow in flows})


def plan_meters(
    desired: Mapping[int, Meter],
    actual: Mapping[int, Meter | None],
    is_kept: Callable[[int], bool] = lambda number: False,
) -> MeterPlan:
    """The plan that turns ``actual`` into ``desired``; None stands for a meter with other bands.

    A meter that no flow needs now stays if ``is_kept`` says so: its counts are still wanted.
    """
    return MeterPlan(
        tuple(meter for number, meter in desired.items() if number not in actual),
        tuple(m for number, m in desired.items() if number in actual and actual[number] != m),
        tuple(
            number
            for number in sorted(actual)
            if number not in desired and is_our_meter(number) and not is_kept(number)
        ),
    )


def meters_after(
    actual: Mapping[int, Meter | None], todo: MeterPlan, refused: Iterable[Meter]
) -> dict[int, Meter | None]:
    """The meters of a bridge after it applied ``todo`` except what it ``refused``."""
    failed = {meter.number for meter in refused}
    there = {number: meter for number, meter in actual.items() if number not in todo.remove}
    new = (*todo.add, *todo.change)
    return there | {meter.number: meter for meter in new if meter.number not in failed}
