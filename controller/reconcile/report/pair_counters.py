"""What segmenting pairs lose, by the counters that bridges report of their two ports.

Linux queues frames behind a veth device (netdev_max_backlog), and drops what exceeds that. It
counts each in ``tx_dropped`` of the sending end, and what arrives at the other end in
``rx_packets``. Which session a frame was of is not known any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controller.reconcile.bridge import BridgeWriter
from controller.southbound import PortCount
from controller.status import LATELY, RECENT_S
from flows.model import Dpid, Segmenter

LONGEST_FRAME = 9216
"""Bytes of the longest frames that networks are built for: what is longer is a super-frame."""


@dataclass(slots=True)
class _Pair:
    """What was counted of one pair since it was seen first, and when something was wrong last.

    ``out`` and ``back`` are what its ports have told last. What left since ``left_from`` arrived
    after ``arrived_from``, which was told before. ``lost`` are frames that Linux dropped;
    ``astray`` those that left at one end and did not arrive at the other; ``mean`` is the mean
    length of frames on the way, in bytes, when it was too long.
    """

    ends: Segmenter
    out: PortCount
    back: PortCount
    arrived_from: int
    left_from: int | None = None
    lost: int = 0
    lost_at: float | None = None
    astray: int = 0
    astray_at: float | None = None
    mean: int = 0
    long_at: float | None = None


class PairCounters:
    """The counters of the segmenting pairs of all bridges; ``now`` is a clock in seconds.

    What was lost before a pair is seen first is not told: nobody knows when that was.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pairs: dict[Dpid, _Pair] = {}

    def read(self, writer: BridgeWriter) -> None:
        """Ask a bridge for the counters of its pair, if it has one.

        Raises:
            SouthboundError: the switch does not answer.
        """
        resolved = writer.confirmed.resolved
        ends = None if resolved is None else resolved.world.segmenters.get(writer.dpid)
        if ends is None:
            self._pairs.pop(writer.dpid, None)
            return
        out = writer.switch.counts_of_port(ends.out)
        back = writer.switch.counts_of_port(ends.back)  # later: what has left has arrived by now
        if out is not None and back is not None:
            self.take(writer.dpid, ends, out, back)

    def take(self, dpid: Dpid, ends: Segmenter, out: PortCount, back: PortCount) -> None:
        """The counters of both ends of a pair, those of ``out`` read before those of ``back``."""
        pair = self._pairs.get(dpid)
        if pair is None or _numbers(pair.ends) != _numbers(ends) or _began_anew(pair, out, back):
            before = pair.lost if pair is not None else 0
            self._pairs[dpid] = _Pair(ends, out, back, back.received.packets, lost=before)
            return
        now, sent = self._now(), out.sent - pair.out.sent
        lost = (out.lost or 0) - (pair.out.lost or 0)
        if lost > 0:
            pair.lost, pair.lost_at = pair.lost + lost, now
        if pair.left_from is None:
            pair.left_from = out.sent.packets
        else:  # what had left before the last look has arrived by now
            arrived = back.received.packets - pair.arrived_from
            astray = pair.out.sent.packets - pair.left_from - arrived
            if astray > pair.astray:
                pair.astray, pair.astray_at = astray, now
        if sent.packets > 0 and sent.bytes // sent.packets > LONGEST_FRAME:
            pair.mean, pair.long_at = sent.bytes // sent.packets, now
        pair.out, pair.back = out, back

    def forget(self, dpid: Dpid) -> None:
        """Forget a bridge that is gone."""
        self._pairs.pop(dpid, None)

    def lately(self, dpid: Dpid, name: str) -> Iterator[str]:
        """What the pair of a bridge has lost lately, a sentence each."""
        pair = self._pairs.get(dpid)
        if pair is None:
            return
        of_pair = f"segmenting pair: that of bridge {name!r}"
        if self._is_recent(pair.lost_at):
            yield (
                f"{of_pair} lost {pair.lost} frames of copies, {LATELY}, because more waited there "
                "than Linux queues; of which sessions is not known: raise "
                "`net.core.netdev_max_backlog` on its host (`sysctl`)"
            )
        prepare = f"run `cloudtap bridge prepare {name}` as root on its host"
        if self._is_recent(pair.astray_at):
            yield (
                f"{of_pair} does not lead back to it: at least {pair.astray} frames of copies did "
                f"not arrive at its other end, {LATELY}: {prepare}"
            )
        if self._is_recent(pair.long_at):
            yield (
                f"{of_pair} handed on packets of {pair.mean} bytes on average within the last "
                f"minute: these are super-frames, of which truncation loses the rest: {prepare}"
            )

    def _is_recent(self, at: float | None) -> bool:
        return at is not None and self._now() - at < RECENT_S


def _numbers(ends: Segmenter) -> tuple[int, int]:
    return ends.out, ends.back


def _began_anew(pair: _Pair, out: PortCount, back: PortCount) -> bool:
    """Whether the devices are others than before: their counters have begun at 0."""
    has_fewer = out.sent.packets < pair.out.sent.packets or (out.lost or 0) < (pair.out.lost or 0)
    return has_fewer or back.received.packets < pair.back.received.packets
