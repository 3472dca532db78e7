"""Adds counters and losses of copies to a status: packets, and a sentence for each recent loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Set
from dataclasses import replace

from controller.status.session_counters import SessionCounters, SessionCountersByBridge
from controller.status.values import (
    BridgeShare,
    BridgeStatus,
    Losses,
    Measure,
    SessionStatus,
    State,
    Uncounted,
)
from flows.model import Dpid
from flows.openflow import PacketCount

LATELY = "some of them counted within the last minute"
"""When losses are told: see RECENT_S."""
NOT_POSSIBLE = (
    "reports counters that cannot be right (2^62 packets or bytes, or more): what it copies is not "
    "counted; see `ovs-ofctl -O OpenFlow13 meter-stats` there"
)
WORKING = (State.ACTIVE, State.DEGRADED)
"""The states in which a session, or a bridge, may make copies."""


def with_counts(
    status: SessionStatus, counters_by_bridge: SessionCountersByBridge, number: int,
    name_of: Callable[[Dpid], str], holders: Container[Dpid],
    bridges: Collection[Dpid] | None = None,
) -> SessionStatus:  # fmt: skip
    """The status with the counters of the session with this number, in total and by bridge.

    ``bridges`` are those that may have counted it (None: not known). One that has counted and has
    no share gets one: ``pending`` if it is one of ``holders``, which may still be making copies,
    else ``inactive``. Recent losses degrade the session. So does what the cap of a bridge that
    makes its copies has shed lately, of whatever session, and what it could not count.
    what the cap of a bridge that makes its copies has shed lately, of whatever session.
    """
    counted = counters_by_bridge.by_bridge(number, bridges)
    shares = {share.dpid: share for share in status.bridges}
    for dpid in sorted(counted.keys() - shares.keys()):
        state = State.PENDING if dpid in holders else State.INACTIVE
        shares[dpid] = BridgeShare(dpid, name_of(dpid), state)
    for dpid, (copies, lost) in counted.items():
        shares[dpid] = replace(
            shares[dpid], copies=copies, truncated=lost.truncated, skipped=lost.by_reason
        )
    losses = sum((lost for _, lost in counted.values()), Losses())
    status = replace(
        status,
        copies=sum((copies for copies, _ in counted.values()), PacketCount()),
        truncated=losses.truncated,
        skipped=losses.by_reason,
        bridges=tuple(shares.values()),
    )
    said = [
        *_sentences(status, losses, counters_by_bridge.recent_losses(number, bridges)),
        *_sentences_of_bridges(status, counters_by_bridge, number),
        *(
            f"bridge {name_of(dpid)} {NOT_POSSIBLE}"
            for dpid in counters_by_bridge.doubtful(number, {*shares, *(bridges or ())})
        ),
    ]
    if not said or status.state not in WORKING:
        return status
    return replace(status, state=State.DEGRADED, reasons=(*status.reasons, *said))


def with_uncounted(
    status: SessionStatus, uncounted: Mapping[str, Uncounted], *, has_limit: bool
) -> SessionStatus:
    """The status with the bridges, by name, that may count the session and do not tell.

    A session that works is degraded: nobody knows whether its copies are made. ``has_limit`` tells
    that it is to end after a number of them.
    """
    if not uncounted:
        return status
    so = "what it has copied or dropped of this session since then is not counted"
    if has_limit and status.state in (*WORKING, State.PENDING):
        so += (
            " yet, so `max_packets` and `max_bytes` cannot stop it: it goes on until the bridge "
            "tells its counters again"
        )
    said = (f"{uncounted_sentence(name, one)}: {so}" for name, one in sorted(uncounted.items()))
    state = State.DEGRADED if status.state in WORKING else status.state
    return replace(status, state=state, reasons=(*status.reasons, *said))


def with_uncounted_bridge(status: BridgeStatus, uncounted: Uncounted | None) -> BridgeStatus:
    """The status of a bridge that does not tell its counters."""
    if uncounted is None or not status.connected:
        return status
    state = State.DEGRADED if status.state in WORKING else status.state
    said = f"{uncounted_sentence(status.name, uncounted)}: its sessions are not counted"
    return replace(status, state=state, reasons=(*status.reasons, said))


def uncounted_sentence(bridge: str, uncounted: Uncounted) -> str:
    """The sentence that says since when a bridge has not told its counters, and why."""
    return f"counts: bridge {bridge} has not told its counters {uncounted}"


def with_shed(status: BridgeStatus, session_counters: SessionCounters) -> BridgeStatus:
    """The status of a bridge with the copies that its rate cap has shed."""
    status = replace(status, shed=session_counters.bridge_shed)
    if status.state not in WORKING:
        return status
    if session_counters.doubtful:
        reasons = (*status.reasons, f"it {NOT_POSSIBLE}")
        status = replace(status, state=State.DEGRADED, reasons=reasons)
    if Measure.SHED not in session_counters.recent_losses(0):
        return status
    reason = (
        f"its sessions wanted more copies than `bridge_rate` of [bridges] allows: {status.shed} "
        f"were left out, {LATELY}"
    )
    return replace(status, state=State.DEGRADED, reasons=(*status.reasons, reason))


def _sentences(status: SessionStatus, losses: Losses, recent: Set[Measure]) -> Iterator[str]:
    """A sentence for each measure that lost copies lately.

    It tells the total, and the limit of now as such: nobody knows what the limit was at each loss.
    """
    carries = "every frame"
    if status.largest_frame is not None:
        carries = f"frames of at most {status.largest_frame} bytes"
    path = f"because they did not fit the path to its sensors, which now carries {carries}"
    if Measure.TRUNCATED in recent:
        yield f"mtu: {losses.truncated} copies were cut, {LATELY}, {path}"
    if Measure.SKIPPED in recent:
        remedy = ""
        if status.unprepared:
            remedy = (
                "; to have them truncated instead, run `cloudtap bridge prepare` as root on the "
                f"host of bridge {' and '.join(map(repr, status.unprepared))}"
            )
        yield f"mtu: {losses.skipped} copies were left out, {LATELY}, {path}{remedy}"
    if Measure.SHED in recent:
        yield (
            f"rate: {losses.shed} copies were left out, {LATELY}, because they exceeded its "
            "max_rate"
        )
    if Measure.PORT_SHED in recent:
        yield (
            f"port_rate: {losses.port_shed} copies were left out, {LATELY}, because they exceeded "
            "what a port on the way sends: raise the rate of that port, or narrow the session"
        )
    if Measure.LOST in recent:
        why = "because no sensor could get them"
        yield f"path: {losses.lost} copies were left out, {LATELY}, {why}"


def _sentences_of_bridges(
    status: SessionStatus, counters_by_bridge: SessionCountersByBridge, number: int
) -> Iterator[str]:
    """A sentence for each bridge that makes copies and whose cap has shed some lately, or whose
    meters of the session somebody else has altered.
    """
    for share in status.bridges:
        if share.state not in WORKING or not counters_by_bridge.knows(share.dpid):
            continue
        session_counters = counters_by_bridge.of(share.dpid)
        if session_counters.was_altered(number):
            yield (
                f"counts: somebody else has removed or changed meters of bridge {share.bridge} "
                "within the last minute: some of the copies that it made, or left out, before they "
                "were restored are not counted"
            )
        if Measure.SHED in session_counters.recent_losses(0):
            yield (
                f"bridge_rate: bridge {share.bridge} left out {session_counters.bridge_shed} "
                f"copies of its sessions, {LATELY}, because they exceeded `bridge_rate` of "
                "[bridges]: some of its copies may be among them"
            )
