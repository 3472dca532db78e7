"""Who may connect: limits on handshakes that are not finished, and pauses for who was cut off.

A connection is a visit. It is unfinished until its OpenFlow handshake is done, then a guest until
its bridge was found to be ours (see Adoption), and then a bridge. Only the first two kinds are
limited, so that strangers never keep bridges out: where a limit is reached, the visit ends that has
made the controller wait for longest, of the address that has most visits. Only the time counts in
which nothing of the peer was there to read: when a thousand bridges reconnect at once, the
controller is slow, and not they.
"""

from __future__ import annotations

import fcntl
import termios
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

HANDSHAKE_S = 10.0
"""How long a whole handshake may be waited for, from the connection to the description of ports."""
STALE_S = 1.0
"""A handshake that was waited for so long may end when there are too many, in seconds."""
GUEST_S = 30.0
"""A guest older than that ends when there are too many, in seconds."""
PAUSE_FIRST_S, PAUSE_LAST_S = 1.0, 60.0
"""How long who was cut off must stay away: doubled each time, between these, in seconds."""
FORGIVEN_AFTER_S = 600.0
"""Who was not cut off for so long starts anew, in seconds."""
HELD_MAX_S = 0.25
"""The pause where bridges of ours have the same address: a connection is let in, and not read for
so long, because it may be a bridge that has restarted; in seconds."""
TRUSTED_S = 3600.0
"""How long an address at which a bridge of ours was connected is remembered, in seconds."""
REMEMBERED_MAX = 4096
"""Addresses, and bridges at addresses, that are remembered at most."""
BRIDGES_PER_ADDRESS = 3
"""When so many bridges at one address were cut off, the address has to stay away."""


class Stay(Enum):
    """What is known of a connection."""

    UNFINISHED = "unfinished"
    GUEST = "guest"
    BRIDGE = "bridge"


@dataclass(frozen=True)
class VisitLimits:
    """How many connections there may be: unfinished and guests, in total and from one address."""

    unfinished: int = 512
    unfinished_each: int = 256
    guests: int = 2048
    all: int = 60_000


@dataclass(eq=False)
class Visit:
    """One connection."""

    connection: Any
    host: str
    name: str
    """Address and port, for people."""
    since: float
    waited_s: float = 0.0
    """How long nothing of it was there to read, until its last message, in seconds."""
    waiting_since: float | None = None
    """Since when that is so; None while it is not."""
    hold_s: float = 0.0
    """How long it is not read at first, in seconds."""
    stay: Stay = Stay.UNFINISHED
    dpid: int | None = None
    is_ended: bool = False
    """Whether it counts no more."""
    is_cut_off: bool = False
    """Whether it was reported as cut off."""


@dataclass
class _Offences:
    count: int = 0
    last: float = 0.0
    bridges: set[int] = field(default_factory=set)


Key = tuple[str, int | None]
"""An address, and a datapath id at it; None for the address itself."""


def has_unread(connection: Any) -> bool:
    """Whether a socket has received something that was not read yet."""
    try:
        return any(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))
    except (OSError, ValueError):  # it is closed
        return False


class ConnectionAdmission:
    """All visits, and what is remembered of addresses; any thread may call it."""

    def __init__(
        self,
        limits: VisitLimits | None = None,
        now: Callable[[], float] = time.monotonic,
        has_unread: Callable[[Any], bool] = has_unread,
    ) -> None:
        self._limits, self._now = limits or VisitLimits(), now
        self._has_unread = has_unread
        self._lock = threading.Lock()
        self._visits: dict[Stay, OrderedDict[Visit, None]] = {s: OrderedDict() for s in Stay}
        self._per_host: dict[Stay, Counter[str]] = {stay: Counter() for stay in Stay}
        self._offences: OrderedDict[Key, _Offences] = OrderedDict()
        self._trusted: OrderedDict[str, float] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as the process may have."""
        return sum(map(len, self._visits.values())) >= self._limits.all

    def count(self, stay: Stay) -> int:
        """How many visits of this kind there are."""
        return len(self._visits[stay])

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many handshakes, none of which may end yet."""
        with self._lock:
            unfinished = self._visits[Stay.UNFINISHED]
            if len(unfinished) < self._limits.unfinished:
                return False
            return all(self._waited(visit) < STALE_S for visit in unfinished)

    def enter(self, connection: Any, host: str, name: str) -> tuple[Visit | None, list[Visit]]:
        """A new connection: its visit, None if it has to stay away; and the visits to end."""
        with self._lock:
            now = self._now()
            left = self._pause_left((host, None), now)
            is_trusted = self._is_trusted(host, now)
            if left > 0 and not is_trusted:
                return None, []
            visit = Visit(connection, host, name, now, hold_s=min(left, HELD_MAX_S))
            ended = list(self._make_room(host, now))
            self._put(visit)
            return visit, ended

    @contextmanager
    def waiting(self, visit: Visit) -> Iterator[None]:
        """Inside, nothing of it is there to read."""
        visit.waiting_since = began = self._now()
        try:
            yield
        finally:
            visit.waited_s += self._now() - began
            visit.waiting_since = None

    def greeted(self, visit: Visit, dpid: int) -> None:
        """Its handshake is done."""
        with self._lock:
            visit.dpid = dpid
            if not visit.is_ended and visit.stay is Stay.UNFINISHED:
                self._move(visit, Stay.GUEST)

    def adopted(self, visit: Visit) -> None:
        """Its bridge is one of ours."""
        with self._lock:
            self._trusted[visit.host] = self._now()
            self._trusted.move_to_end(visit.host)
            _shorten(self._trusted)
            if not visit.is_ended and visit.stay is not Stay.BRIDGE:
                self._move(visit, Stay.BRIDGE)

    def knows(self, host: str) -> bool:
        """Whether bridges of ours are, or were lately, at an address."""
        with self._lock:
            return self._is_trusted(host, self._now())

    def leave(self, visit: Visit) -> None:
        """The connection is over; any number of times."""
        with self._lock:
            if not visit.is_ended:
                self._take(visit)
                if visit.stay is Stay.BRIDGE:
                    self._trusted[visit.host] = self._now()

    def overdue(self) -> list[Visit]:
        """The visits that have not finished their handshake in time."""
        with self._lock:
            visits = self._visits[Stay.UNFINISHED]
            return [visit for visit in visits if self._waited(visit) >= HANDSHAKE_S]

    def offend(self, visit: Visit, *, by_address: bool = False) -> None:
        """It was cut off because of what it did: it has to stay away for a while.

        A bridge that is known pays for itself, unless ``by_address``; its address pays when several
        of them do it.
        """
        with self._lock:
            now = self._now()
            dpid = None if by_address else visit.dpid
            address = self._offences_of((visit.host, None), now)
            if dpid is not None:
                bridge = self._offences_of((visit.host, dpid), now)
                bridge.count += 1
                address.bridges.add(dpid)
            if dpid is None or len(address.bridges) >= BRIDGES_PER_ADDRESS:
                address.count += 1
                address.bridges.clear()

    def pause_of_bridge(self, visit: Visit, dpid: int) -> float:
        """How long this bridge at this address still has to stay away, in seconds."""
        with self._lock:
            return self._pause_left((visit.host, dpid), self._now())

    def _offences_of(self, key: Key, now: float) -> _Offences:
        """What is remembered of one more offence, without older ones that are forgiven."""
        known = self._offences.setdefault(key, _Offences())
        if now - known.last > FORGIVEN_AFTER_S:
            known.count = 0
            known.bridges.clear()
        known.last = now
        self._offences.move_to_end(key)
        _shorten(self._offences)
        return known

    def _pause_left(self, key: Key, now: float) -> float:
        known = self._offences.get(key)
        if known is None or known.count == 0:
            return 0.0
        pause = min(PAUSE_LAST_S, PAUSE_FIRST_S * (1 << min(known.count - 1, 10)))
        return max(0.0, known.last + pause - now)

    def _is_trusted(self, host: str, now: float) -> bool:
        if self._per_host[Stay.BRIDGE][host]:
            return True
        return host in self._trusted and now - self._trusted[host] < TRUSTED_S

    def _make_room(self, host: str, now: float) -> Iterable[Visit]:
        """End visits until one more of this host may enter."""
        unfinished, guests = self._per_host[Stay.UNFINISHED], self._visits[Stay.GUEST]
        if unfinished[host] >= self._limits.unfinished_each:
            yield from self._end_stalest(host)
        elif len(self._visits[Stay.UNFINISHED]) >= self._limits.unfinished:
            yield from self._end_stalest(unfinished.most_common(1)[0][0])
        if guests and (len(guests) >= self._limits.guests or self.is_full):
            crowd = self._per_host[Stay.GUEST].most_common(1)[0][0]
            oldest = next(visit for visit in guests if visit.host == crowd)
            if now - oldest.since > GUEST_S:
                self._take(oldest)
                yield oldest

    def _end_stalest(self, host: str) -> Iterable[Visit]:
        """End the handshake that was waited for longest, if it was for long enough."""
        own = [visit for visit in self._visits[Stay.UNFINISHED] if visit.host == host]
        stalest = max(own, key=self._waited)
        if self._waited(stalest) >= STALE_S:
            self._take(stalest)
            yield stalest

    def _waited(self, visit: Visit) -> float:
        """How long nothing of it was there to read, in seconds.

        Its thread may not know yet that something is there now.
        """
        since = visit.waiting_since
        waiting_s = 0.0 if since is None else self._now() - since
        is_suspect = waiting_s >= STALE_S and not self._has_unread(visit.connection)
        return visit.waited_s + (waiting_s if is_suspect or waiting_s < STALE_S else 0.0)

    def _put(self, visit: Visit) -> None:
        self._visits[visit.stay][visit] = None
        self._per_host[visit.stay][visit.host] += 1

    def _take(self, visit: Visit) -> None:
        self._remove(visit)
        visit.is_ended = True

    def _move(self, visit: Visit, stay: Stay) -> None:
        self._remove(visit)
        visit.stay = stay
        self._put(visit)

    def _remove(self, visit: Visit) -> None:
        del self._visits[visit.stay][visit]
        counts = self._per_host[visit.stay]
        counts[visit.host] -= 1
        if not counts[visit.host]:
            del counts[visit.host]


def _shorten(remembered: OrderedDict[Any, Any]) -> None:
    while len(remembered) > REMEMBERED_MAX:
        remembered.popitem(last=False)
