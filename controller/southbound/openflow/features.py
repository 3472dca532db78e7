"""Probes of required switch features: one harmless flow for each, in a discarded bundle."""

from __future__ import annotations

from netaddr import IPAddress

from flows.openflow import (
    ETH_IPV4,
    ETH_TYPE,
    ETH_VLAN,
    IN_PORT,
    LEARNED_OBJECT,
    PRODUCTION,
    VLAN_PRESENT,
    VLAN_VID,
    Action,
    CheckLarger,
    Clone,
    Flow,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Match,
    MoveToVlan,
    Multipath,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    RegField,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    Term,
    make_cookie,
)

PROBE_TABLE = 200
"""No flow of ours is ever in this table, so a probe cannot replace one."""

_LOW = RegField("probe low", 15, 0, 15)
_HIGH = RegField("probe high", 14, 0, 19)
_TAG = RegField("probe tag", 13, 4, 15)
_BIT = RegField("probe bit", 12, 0, 0)
_SPREAD = [Multipath(hash_of, 64, _LOW) for hash_of in HashOf]
_REMOTES = [SetTunnelRemote(IPAddress(address)) for address in ("192.0.2.1", "2001:db8::1")]
_TAGGED = VLAN_VID.masked(VLAN_PRESENT, VLAN_PRESENT)
_LEARN = Learn(
    table=PROBE_TABLE + 1, priority=1, idle_s=1, limit=1, cookie=make_cookie(LEARNED_OBJECT, 0),
    network=_HIGH, out=_LOW,
)  # fmt: skip


def _probe(feature: str, terms: tuple[Term, ...], *actions: Action) -> tuple[str, Flow]:
    flow = Flow(PROBE_TABLE, 1, Match.of(*terms), actions, PRODUCTION, f"probe of {feature}")
    return feature, flow


PROBES: tuple[tuple[str, Flow], ...] = (
    _probe("matches on Nicira registers", (_LOW.eq(1), _HIGH.eq(1))),
    _probe("loading of Nicira registers", (IN_PORT.eq(1),), Load(_LOW, 1)),
    _probe("resubmit to another table", (IN_PORT.eq(2),), Resubmit(PROBE_TABLE + 1)),
    _probe("the clone action", (IN_PORT.eq(3),), Clone((Load(_LOW, 1),))),
    _probe("sending back where a packet came from", (IN_PORT.eq(5),), ForgetInPort()),
    _probe("learn with a limit", (IN_PORT.eq(4),), _LEARN),
    _probe("pushing of 802.1Q tags", (ETH_TYPE.eq(ETH_IPV4),), PushVlan(), SetVlan(1)),
    _probe("moves into 802.1Q tags", (_TAGGED,), MoveToVlan(_TAG), PopVlan()),
    _probe("reading a packet again", (ETH_TYPE.eq(ETH_VLAN),), PushMpls(), PopMpls(ETH_VLAN)),
    _probe("check_pkt_larger", (IN_PORT.eq(6),), CheckLarger(1500, _BIT)),
    _probe("multipath over a symmetric hash", (IN_PORT.eq(7),), *_SPREAD),
    _probe("cutting of packets", (IN_PORT.eq(8),), Output(1, 64)),
    _probe("marks beside packets", (IN_PORT.eq(10),), SetMark(1)),
    _probe("tunnels chosen by flows", (IN_PORT.eq(9),), SetTunnelKey(1), *_REMOTES),
)
