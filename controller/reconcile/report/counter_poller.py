"""Reads the counters of copies from bridges, for people who do not want to wait for them."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from controller.reconcile.bridge.writer import BridgeWriter
from controller.status.values import Copies, Losses
from controller.status.session_counters import own_meters
from flows.errors import CloudtapError
from flows.model.session import Dpid
from flows.pipeline.tables import DELIVER

FRESH_S = 1.0
"""Counters that were read so lately are not read again for a status."""
PATIENCE_S = 0.25
"""A status waits so long for counters; then it shows what was counted before."""
SINGLES_MAX = 8
"""Counters of single sessions that are read within FRESH_S; then all are read at once."""
AGAIN_S, AGAIN_MAX_S = 0.5, 4.0
"""A bridge that did not tell its counters is asked again after so long; after each further failure
in a row it is left in peace for twice as long, but no longer than the second of these. Limits wait
for counters, so one failure must not cost them more than a second."""

FAILURES_MAX = 8
"""Failures in a row that are told apart."""

log = structlog.get_logger(__name__)


class CountReader:
    """Asks bridges for counters, each by one thread at a time, and never waits long for any.

    Whoever asks for one session gets its counters alone, by a small request; only who asks for
    many in a row makes the switch tell all.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._not_before: dict[Dpid, float] = {}
        self._failures: Counter[Dpid] = Counter()
        self._busy: dict[Dpid, threading.Lock] = {}
        self._read_at: dict[Dpid, float] = {}
        self._singles: dict[Dpid, tuple[float, int]] = {}

    def read(
        self, writer: BridgeWriter, session: int | None = None, fresh_s: float = FRESH_S
    ) -> None:
        """Have the counters of a bridge, or of one session on it, be at most ``fresh_s`` old.

        They may be older when the bridge does not answer soon.
        """
        if writer.verified.failure is not None:
            return
        if session is not None and session not in writer.verified.served:
            return
        busy = self._busy.setdefault(writer.dpid, threading.Lock())
        if not busy.acquire(timeout=PATIENCE_S):
            return
        now = self._now()
        is_fresh = now - self._read_at.get(writer.dpid, -math.inf) < fresh_s
        if is_fresh or now < self._not_before.get(writer.dpid, -math.inf):
            busy.release()
            return
        if session is not None and not self._is_single(writer.dpid, now):
            session = None
        asking = threading.Thread(
            target=self._ask, args=(writer, session, busy), name="counters", daemon=True
        )
        asking.start()
        asking.join(PATIENCE_S)

    @contextmanager
    def hold(self, dpid: Dpid) -> Iterator[None]:
        """Nobody reads the counters of a bridge meanwhile but whoever holds them."""
        with self._busy.setdefault(dpid, threading.Lock()):
            yield

    def _ask(self, writer: BridgeWriter, session: int | None, busy: threading.Lock) -> None:
        try:
            if session is not None:
                count_one(writer, session)
            else:
                self._read_at[writer.dpid] = self._now()
                count_all(writer)
            del self._failures[writer.dpid]
        except CloudtapError as problem:
            pause = min(AGAIN_S * 2 ** self._failures[writer.dpid], AGAIN_MAX_S)
            self._not_before[writer.dpid] = self._now() + pause
            self._failures[writer.dpid] = min(self._failures[writer.dpid] + 1, FAILURES_MAX)
            log.warning("copies not counted", bridge=writer.switch.name, reason=str(problem))
        except Exception as problem:  # the edge of a thread: a defect must be seen
            log.error("counting failed", bridge=writer.switch.name, exc_info=problem)
        finally:
            busy.release()

    def _is_single(self, dpid: Dpid, now: float) -> bool:
        """Whether few sessions of this bridge were asked for lately."""
        began, asked = self._singles.get(dpid, (now, 0))
        if now - began >= FRESH_S:
            began, asked = now, 0
        self._singles[dpid] = (began, asked + 1)
        return asked < SINGLES_MAX


def count_all(writer: BridgeWriter) -> None:
    """Read how many copies a bridge has made of each session.

    Raises:
        SouthboundError: the switch does not answer.
    """
    writer.counters.update(writer.switch.flow_copies(DELIVER.number))
    if writer.meters != {}:
        writer.tally.update(writer.switch.metered(), writer.verified.session_by_meter)


def count_one(writer: BridgeWriter, session: int) -> None:
    """Read how many copies a bridge has made of one session.

    Raises:
        SouthboundError: the switch does not answer.
    """
    if session in writer.verified.served:
        count_flows(writer, DELIVER.number, session)
        caps = writer.verified.session_by_meter
        own = own_meters(session, caps, writer.meters)
        if own or writer.tally.losses(session) != Losses():
            writer.tally.update_one(session, writer.switch.metered(own), caps)


def count_flows(
    writer: BridgeWriter, table: int, session: int, beacons: Copies | None = None
) -> Mapping[int, Copies]:
    """The same by flow, of one table; ``beacons`` were sent since the last time.

    Raises:
        SouthboundError: the switch does not answer.
    """
    counted = writer.switch.flow_copies(table, session)
    if table == DELIVER.number:
        writer.counters.update_one(session, counted, beacons)
    return counted
