"""What databases report of the datapath of the bridges in tests (see tests/ovs/datapath.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.model import Datapath, Dpid
from tests.ovs.datapath import DATAPATH


def datapaths(dpids: Iterable[Dpid]) -> Mapping[Dpid, Datapath]:
    """The datapath of each of these bridges."""
    return dict.fromkeys(dpids, Datapath(DATAPATH))
