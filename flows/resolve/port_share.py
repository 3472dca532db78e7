"""Shares of ports that send little: how many copies of each session such a port may get.

A port that is offered more than it sends harms the production of a whole host: the userspace
datapath of Open vSwitch 3.1 sends to all ports through one socket, whose buffer the packets that
wait for a slow port fill (measured: 247 to 378 of 3,000 frames of other tenants arrived).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.model import Placement, Rate, RateUnit, SessionId
from flows.openflow import ETH_HEADER, VLAN_HEADER
from flows.resolve.session import ResolvedSession

LONGEST_BITS = 8 * (1500 + ETH_HEADER + VLAN_HEADER)
"""Bits of the longest usual frame: what a cap in packets a second may come to."""


def share_ports(served: Iterable[ResolvedSession]) -> Mapping[SessionId, Rate]:
    """The rate caps that keep all copies that pass a slow port below what they may use of it.

    A session that runs on several bridges has a cap on each, so these share what the port sends. A
    session that may use less by its own cap leaves the rest to the others. Sessions without an
    entry need no cap but their own.
    """
    users: dict[Placement | str, dict[SessionId, tuple[int, int | None]]] = {}
    rates: dict[Placement | str, int] = {}
    sessions = {one.session.id: one for one in served if one.slow_ports}
    for session, one in sessions.items():
        for port in one.slow_ports:
            rates[port.key] = port.kbps
            users.setdefault(port.key, {})[session] = port.makers, _own_kbps(one.session.max_rate)
    found: dict[SessionId, int] = {}
    for key, wanted in users.items():
        for session, share in _shares(rates[key], wanted).items():
            found[session] = min(share, found.get(session, share))
    return {
        session: cap
        for session, kbps in found.items()
        if (cap := _cap(kbps, sessions[session].session.max_rate)) is not None
    }


def _shares(
    kbps: int, wanted: Mapping[SessionId, tuple[int, int | None]]
) -> Mapping[SessionId, int]:
    """What each session may send from each of its bridges, so that all together fit."""
    left, open_ones = kbps, dict(wanted)
    found: dict[SessionId, int] = {}
    while open_ones:
        even = left // sum(makers for makers, _ in open_ones.values())
        modest = {s: own for s, (_, own) in open_ones.items() if own is not None and own <= even}
        if not modest:
            return found | dict.fromkeys(open_ones, max(1, even))
        for session, own in modest.items():
            found[session] = own
            left -= own * open_ones.pop(session)[0]
    return found


def _own_kbps(own: Rate | None) -> int | None:
    """What a session's own cap comes to in kilobits a second, at most."""
    if own is None or own.unit is RateUnit.KBPS:
        return None if own is None else own.value
    return own.value * LONGEST_BITS // 1000 + 1


def _cap(kbps: int, own: Rate | None) -> Rate | None:
    """The cap that keeps both to a share and to the session's own cap; None: its own suffices."""
    most = _own_kbps(own)
    if own is None or most is None:
        return Rate(RateUnit.KBPS, kbps)
    if most <= kbps:
        return None
    if own.unit is RateUnit.KBPS:
        return Rate(RateUnit.KBPS, kbps)
    return Rate(RateUnit.PPS, max(1, kbps * 1000 // LONGEST_BITS))
