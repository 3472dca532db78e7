"""A failed sensor's share moves, and only that; everybody else keeps what it had."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flows.model import BUCKETS, PortId, assign

POOLS = st.integers(1, 64).map(lambda n: tuple(PortId(f"ids-{i}") for i in range(n)))


@given(POOLS)
def test_every_sensor_has_its_fair_share(sensors: tuple[PortId, ...]) -> None:
    share = Counter(assign(sensors, sensors))
    most = -(-BUCKETS // len(sensors))
    assert sum(share.values()) == BUCKETS
    assert max(share.values()) <= most
    if len(sensors) <= 4:
        assert min(share.values()) >= most - len(sensors)


@given(POOLS, st.data())
def test_losing_sensors_moves_their_buckets_alone(
    sensors: tuple[PortId, ...], data: st.DataObject
) -> None:
    lost = data.draw(st.sets(st.sampled_from(sensors), max_size=len(sensors) - 1))
    left = set(sensors) - lost
    before, after = assign(sensors, sensors), assign(sensors, left)
    for old, new in zip(before, after, strict=True):
        assert sensors[new] in left
        assert new == old or sensors[old] in lost
    assert assign(sensors, sensors) == before, "and back"


@given(POOLS)
def test_no_sensor_at_all_counts_as_all_of_them(sensors: tuple[PortId, ...]) -> None:
    assert assign(sensors, ()) == assign(sensors, sensors)


def test_what_a_lost_sensor_had_is_spread_over_the_others() -> None:
    sensors = tuple(PortId(f"ids-{i}") for i in range(4))
    share = Counter(assign(sensors, sensors[1:]))
    assert set(share) == {1, 2, 3}
    assert max(share.values()) - min(share.values()) <= 2
