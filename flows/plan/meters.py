"""A meter of a bridge as a value: what it lets pass, and what it drops; and what changes meters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.openflow.flow import Flow, Metered
from flows.model.session import RATES, Oversize, Rate, RateUnit
from flows.pipeline.tables import BRIDGE_METER
from flows.model.world import LONG_METERS, METERS

BURST_MS = 100
"""A meter lets so much pass at once, in milliseconds of its rate."""
BURSTS_MIN = {RateUnit.KBPS: 256, RateUnit.PPS: 10}
"""And never less than this: one long packet must pass a slow meter."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Packets beyond ``rate`` are dropped; ``number`` is what flows name it by."""

    number: int
    rate: Rate

    @property
    def burst(self) -> int:
        """Kilobits or packets that may pass at once after a silence."""
        return max(self.rate.value * BURST_MS // 1000, BURSTS_MIN[self.rate.unit])

    def __str__(self) -> str:
        unit = "pktps" if self.rate.unit is RateUnit.PPS else "kbps"
        band = f"type=drop,rate={self.rate.value},burst_size={self.burst}"
        return f"meter={self.number},{unit},burst,stats,bands={band}"


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """What to do with the meters of a bridge; the others are right, or not ours.

    New and changed ones are there before flows use them; those that are not needed go after their
    flows, because a switch removes the flows of a meter that goes.
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
    return number in METERS or number == BRIDGE_METER or number in LONG_METERS


def long_meter(session: int, oversize: Oversize) -> Meter:
    """The meter that counts copies of a session, by its number, that are too long for their path.

    It has another number for those that are left out than for those that are cut, so that what was
    counted keeps its meaning when the session changes its mind.
    """
    number = LONG_METERS.start + 2 * session + (oversize is Oversize.SKIP)
    return Meter(number, Rate(RateUnit.PPS, RATES.stop - 1))


def counts_long(number: int) -> tuple[int, Oversize] | None:
    """Whose long copies a meter counts: the number of the session; None for all other meters."""
    if number not in LONG_METERS:
        return None
    session, is_skipped = divmod(number - LONG_METERS.start, 2)
    return session, Oversize.SKIP if is_skipped else Oversize.TRUNCATE


def metered_by(flow: Flow) -> int | None:
    """The number of the meter that a flow uses; None when it uses none."""
    first = flow.actions[0] if flow.actions else None
    return first.meter if isinstance(first, Metered) else None


def need_meters(flows: Iterable[Flow]) -> bool:
    """Whether one of many flows uses a meter."""
    return any(form.startswith(Metered.form) for form in {flow.steps.form for flow in flows})


def plan_meters(desired: Mapping[int, Meter], actual: Mapping[int, Meter | None]) -> MeterPlan:
    """What turns ``actual`` into ``desired``; None stands for a meter that does something else."""
    return MeterPlan(
        tuple(meter for number, meter in desired.items() if number not in actual),
        tuple(m for number, m in desired.items() if number in actual and actual[number] != m),
        tuple(n for n in sorted(actual) if n not in desired and is_our_meter(n)),
    )


def meters_after(
    actual: Mapping[int, Meter | None], todo: MeterPlan, refused: Iterable[Meter]
) -> dict[int, Meter | None]:
    """What a bridge has after a plan but for what it refused, without asking it."""
    left_out = {meter.number for meter in refused}
    there = {number: meter for number, meter in actual.items() if number not in todo.remove}
    new = (*todo.add, *todo.change)
    return there | {meter.number: meter for meter in new if meter.number not in left_out}
