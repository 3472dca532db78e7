"""Assigns the buckets of a pool to sensors, by rendezvous hashing with bounded load.

When a sensor fails, only its own buckets move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import blake2b

from flows.model.collector import Sensor

BUCKETS = 64
"""Buckets of a pool; the bucket of a packet depends on its flow alone, never on the sensors."""


def assign(sensors: Sequence[Sensor], available: Collection[Sensor]) -> tuple[int, ...]:
    """The sensor of each bucket, as its position in ``sensors``, when some are ``available``.

    Every bridge computes the same result. Buckets of available sensors do not move, the others are
    spread evenly over them; with all sensors available each has an equal share. When none is
    available, all count as available.
    """
    if not available:
        available = sensors
    names = tuple(str(sensor) for sensor in sensors)
    up = frozenset(n for n, sensor in enumerate(sensors) if sensor in available)
    return _assigned(names, up)


@lru_cache(maxsize=1024)
def _assigned(names: tuple[str, ...], up: frozenset[int]) -> tuple[int, ...]:
    usual = _fill([None] * BUCKETS, names, range(len(names)))
    if len(up) == len(names):
        return usual
    return _fill([n if n in up else None for n in usual], names, up)


def _fill(
    assigned: Sequence[int | None], names: tuple[str, ...], up: Collection[int]
) -> tuple[int, ...]:
    """Assign each bucket without a sensor to the one of the lowest score that is not full."""
    room = -(-BUCKETS // len(up))
    load = Counter(n for n in assigned if n is not None)
    found: list[int] = []
    for bucket, sensor in enumerate(assigned):
        if sensor is None:
            ranked = sorted(up, key=lambda n: _score(names[n], bucket))
            sensor = next((n for n in ranked if load[n] < room), ranked[0])
            load[sensor] += 1
        found.append(sensor)
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def _score(name: str, bucket: int) -> bytes:
    return blake2b(f"{bucket}/{name}".encode(), digest_size=8).digest()
