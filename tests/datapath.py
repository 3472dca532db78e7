"""What databases report of the datapath of the bridges in tests (see tests/ovs/datapath.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.model import Datapath, Dpid, Ofport, Segmenter, TunnelKind
from tests.ovs.datapath import DATAPATH

TUNNEL_KINDS = tuple(
    kind for kind in TunnelKind if Datapath(DATAPATH) is Datapath.KERNEL or not kind.is_over_ipv6
)
"""The kinds of tunnel ports that bridges in tests have."""
PAIR = Segmenter(Ofport(41), Ofport(42))
"""The ports of the segmenting pair of each bridge that has one."""


def datapaths(dpids: Iterable[Dpid]) -> Mapping[Dpid, Datapath]:
    """The datapath of each of these bridges."""
    return dict.fromkeys(dpids, Datapath(DATAPATH))


def segmenters(dpids: Iterable[Dpid]) -> Mapping[Dpid, Segmenter]:
    """The segmenting pair of each of these bridges, where their datapath needs one to truncate."""
    return dict.fromkeys(dpids, PAIR) if Datapath(DATAPATH) is Datapath.KERNEL else {}
