"""What databases report of the datapath of the bridges in tests (see tests/ovs/datapath.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.model import Datapath, Dpid, TunnelKind
from tests.ovs.datapath import DATAPATH

TUNNEL_KINDS = tuple(
    kind for kind in TunnelKind if Datapath(DATAPATH) is Datapath.KERNEL or not kind.is_over_ipv6
)
"""The kinds of tunnel ports that bridges in tests have."""


def datapaths(dpids: Iterable[Dpid]) -> Mapping[Dpid, Datapath]:
    """The datapath of each of these bridges."""
    return dict.fromkeys(dpids, Datapath(DATAPATH))
