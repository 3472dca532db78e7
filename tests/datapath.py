"""The datapath of the bridges in tests: that of CLOUDTAP_DATAPATH, ``netdev`` unless it is set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from flows.model import Datapath, Dpid

DATAPATH = Datapath(os.environ.get("CLOUDTAP_DATAPATH", Datapath.USERSPACE.value))


def datapaths(dpids: Iterable[Dpid]) -> Mapping[Dpid, Datapath]:
    """What databases report of these bridges."""
    return dict.fromkeys(dpids, DATAPATH)
