"""Segmenting pairs of bridges in tests, without which the kernel datapath truncates no copy.

Bridges of the userspace datapath need none, and get none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from click.testing import CliRunner

from controller.cli import main
from controller.devices import PairEnd, make_pair, pair_name, remove_pair
from flows.model import Dpid, Ofport, Segmenter
from tests.datapath import segmenters
from tests.ovs.datapath import IS_KERNEL
from tests.ovs.lab import Lab, vsctl


def add_segmenters(lab: Lab, names: Mapping[Dpid, str]) -> Mapping[Dpid, Segmenter]:
    """Give each bridge a pair at known ports, for worlds that no controller knows."""
    made = segmenters(names)
    for dpid, pair in made.items():
        make_pair(dpid)
        lab.on_close(partial(remove_pair, dpid))
        for end, ofport in ((PairEnd.OUT, pair.out), (PairEnd.BACK, pair.back)):
            _add_port(names[dpid], pair_name(dpid, end), ofport)
    lab.passes += bool(made)
    return made


def prepare(lab: Lab, bridge: str) -> None:
    """Prepare a bridge as an operator does, so that the controller finds its pair."""
    done = CliRunner().invoke(main, ["bridge", "prepare", bridge])
    assert done.exit_code == 0, done.output
    if IS_KERNEL:
        lab.on_close(partial(remove_pair, Dpid(lab.dpid(bridge))))
        lab.passes += 1


def _add_port(bridge: str, device: str, ofport: Ofport) -> None:
    request = ("set", "Interface", device, f"ofport_request={ofport}")
    vsctl("add-port", bridge, device, "--", *request)
    given = vsctl("get", "Interface", device, "ofport").strip()
    assert given == str(ofport), f"{device} should be port {ofport}, and is {given}"
