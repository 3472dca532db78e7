"""What limits in packets mean where the kernel datapath counts super-frames as packets."""

from __future__ import annotations

from collections.abc import Iterator

from controller.store import Limits
from flows.model import NOTHING_KNOWN, Datapath, RateUnit, World
from flows.resolve import ResolvedSession

BRIDGES_NAMED_MAX = 3
"""Bridges that a sentence names."""


def packet_limit_notes(
    resolved_session: ResolvedSession, limits: Limits | None, world: World
) -> Iterator[str]:
    """What the limits in packets of a session count on the bridges that make its copies.

    Nothing is wrong there: it is how this datapath counts.
    """
    session = resolved_session.session
    named = ["max_packets"] if limits is not None and limits.max_packets is not None else []
    if session.max_rate is not None and session.max_rate.unit is RateUnit.PPS:
        named.append("max_rate in pps")
    if not named:
        return
    places = {world.placements[port.id].dpid: port.id for port in resolved_session.watched}
    hops = (
        world.hop_of(port) or NOTHING_KNOWN
        for dpid, port in places.items()
        if world.datapaths.get(dpid) is Datapath.KERNEL
    )
    bridges = list(dict.fromkeys(repr(hop.bridge) for hop in hops))
    if bridges:
        more = len(bridges) - BRIDGES_NAMED_MAX
        shown = ", ".join(bridges[:BRIDGES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        yield (
            f"{' and '.join(named)} may let more frames pass: the kernel datapath (of bridge "
            f"{shown}) counts a super-frame of TCP as one packet, and the sensor gets it as up to "
            "45 frames"
        )
