"""Segmenting pairs for tests without a controller: what ``cloudtap bridge prepare`` makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from controller.devices import PairEnd, make_pair, pair_name, remove_pair
from flows.model import Dpid, Ofport, Segmenter
from tests.datapath import segmenters
from tests.ovs.datapath import IS_KERNEL
from tests.ovs.lab import Lab, vsctl


def add_segmenters(lab: Lab, names: Mapping[Dpid, str]) -> Mapping[Dpid, Segmenter]:
    """Give each bridge the pair without which it truncates nothing on the kernel datapath.

    The userspace datapath needs none, and gets none.
    """
    made = segmenters(names)
    for dpid, pair in made.items():
        make_pair(dpid)
        lab.on_close(partial(remove_pair, dpid))
        for end, ofport in ((PairEnd.OUT, pair.out), (PairEnd.BACK, pair.back)):
            _add_port(names[dpid], pair_name(dpid, end), ofport)
    if IS_KERNEL:
        lab.passes += 1
    return made


def _add_port(bridge: str, device: str, ofport: Ofport) -> None:
    request = ("set", "Interface", device, f"ofport_request={ofport}")
    vsctl("add-port", bridge, device, "--", *request)
    given = vsctl("get", "Interface", device, "ofport").strip()
    assert given == str(ofport), f"{device} should be port {ofport}, and is {given}"
