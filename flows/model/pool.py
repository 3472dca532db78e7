"""Which sensor of a pool each virtual bucket belongs to: losing one moves only its own share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from hashlib import blake2b

from flows.model.session import Sensor

BUCKETS = 64
"""Buckets of a pool; a packet's bucket depends on its flow alone, never on the sensors."""


def assign(sensors: Sequence[Sensor], available: Collection[Sensor]) -> tuple[int, ...]:
    """The sensor of each bucket, as its position in ``sensors``, if only some are available.

    Every bridge comes to the same answer. Buckets of available sensors stay where they are, and
    the others are spread evenly over these; with all sensors available each has its fair share.
    Nothing available counts as everything.
    """
    if not available:
        available = sensors
    names = tuple(str(sensor) for sensor in sensors)
    able = frozenset(n for n, sensor in enumerate(sensors) if sensor in available)
    return _assigned(names, able)


@lru_cache(maxsize=1024)
def _assigned(names: tuple[str, ...], able: frozenset[int]) -> tuple[int, ...]:
    home = _fill([None] * BUCKETS, names, range(len(names)))
    if len(able) == len(names):
        return home
    return _fill([n if n in able else None for n in home], names, able)


def _fill(
    begun: Sequence[int | None], names: tuple[str, ...], able: Collection[int]
) -> tuple[int, ...]:
    """Give each bucket without a sensor to the one it likes best that has room."""
    room = -(-BUCKETS // len(able))
    taken = Counter(n for n in begun if n is not None)
    found: list[int] = []
    for bucket, owner in enumerate(begun):
        if owner is None:
            liked = sorted(able, key=lambda n: _liking(names[n], bucket))
            owner = next((n for n in liked if taken[n] < room), liked[0])
            taken[owner] += 1
        found.append(owner)
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def _liking(name: str, bucket: int) -> bytes:
    return blake2b(f"{bucket}/{name}".encode(), digest_size=8).digest()
