"""The datapath of the bridges in tests: that of CLOUDTAP_DATAPATH, ``netdev`` unless it is set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from flows.model import Datapath, Dpid, TunnelKind

DATAPATH = Datapath(os.environ.get("CLOUDTAP_DATAPATH", Datapath.USERSPACE.value))
TUNNEL_KINDS = tuple(
    kind for kind in TunnelKind if DATAPATH is Datapath.KERNEL or not kind.is_over_ipv6
)
"""The kinds of tunnel ports that bridges in tests have."""


def datapaths(dpids: Iterable[Dpid]) -> Mapping[Dpid, Datapath]:
    """What databases report of these bridges."""
    return dict.fromkeys(dpids, DATAPATH)
