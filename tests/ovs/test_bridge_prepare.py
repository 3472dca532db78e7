"""Segmenting pairs: what `cloudtap bridge prepare` makes of a bridge, and how it is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner

from controller.cli import main
from controller.databases import TAPS
from controller.devices import (
    DeviceName,
    PairDevices,
    PairEnd,
    PairFailed,
    find_pair,
    is_pair_ready,
    make_pair,
    mend_pairs,
    pair_name,
    read_offloads,
    read_pair_states,
    remove_pair,
)
from controller.southbound.ovsdb import InterfaceRow, segmenter_of
from flows.model import Dpid, Ofport, PairState, Segmenter
from tests.ovs.lab import vsctl

DPID = Dpid(0x51)
OUT, BACK = (pair_name(DPID, end) for end in PairEnd)


def ip(*words: str) -> str:
    command = ["ip", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tidy() -> Iterator[None]:
    yield
    for name in (OUT, BACK):
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


@pytest.mark.usefixtures("tidy")
def test_a_pair_has_no_offloads_and_is_made_once() -> None:
    assert not is_pair_ready(DPID)
    make_pair(DPID)
    assert is_pair_ready(DPID)
    before = ip("-json", "link", "show", OUT)
    make_pair(DPID)
    assert ip("-json", "link", "show", OUT) == before
    assert '"UP"' in before
    indexes = {name: int(ip("-o", "link", "show", name).split(":")[0]) for name in (OUT, BACK)}
    found = read_offloads([DeviceName(name, index) for name, index in indexes.items()])
    assert [each.is_on for each in found.values()] == [False, False]
    assert remove_pair(DPID) and not remove_pair(DPID)
    assert not is_pair_ready(DPID)


@pytest.mark.usefixtures("tidy")
def test_offloads_that_somebody_switched_on_again_make_a_pair_unready() -> None:
    make_pair(DPID)
    subprocess.run(["ethtool", "-K", OUT, "tx", "on"], check=True, capture_output=True)
    assert not is_pair_ready(DPID)
    make_pair(DPID)
    assert is_pair_ready(DPID)


DAMAGES = {
    PairState.OFFLOADED: ("ethtool", "-K", BACK, "tx", "on"),
    PairState.SHORT: ("ip", "link", "set", OUT, "mtu", "9000"),
    PairState.DOWN: ("ip", "link", "set", BACK, "down"),
}


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("state", DAMAGES)
def test_a_pair_that_somebody_changes_is_seen_and_set_right(state: PairState) -> None:
    pair = make_pair(DPID)
    assert find_pair(DPID) == pair
    assert read_pair_states([pair]) == {pair: PairState.SOUND}
    subprocess.run(DAMAGES[state], check=True, capture_output=True)
    assert read_pair_states([pair]) == {pair: state}
    assert not is_pair_ready(DPID)
    assert mend_pairs([pair]) == {}
    assert read_pair_states([pair]) == {pair: PairState.SOUND}
    assert is_pair_ready(DPID)


@pytest.mark.usefixtures("tidy")
def test_what_is_no_pair_any_more_is_seen_and_left_alone() -> None:
    pair = make_pair(DPID)
    other = PairDevices(pair.out, pair.back._replace(ifindex=pair.back.ifindex + 999))
    assert read_pair_states([other]) == {other: PairState.UNSEEN}
    assert mend_pairs([other]) == {other: "its devices cannot be seen"}
    assert remove_pair(DPID)
    assert read_pair_states([pair]) == {pair: PairState.UNSEEN}
    for name in (OUT, BACK):
        ip("link", "add", name, "mtu", "1500", "type", "veth", "peer", "name", f"{name}x")
    indexes = (int(ip("-o", "link", "show", name).split(":")[0]) for name in (OUT, BACK))
    apart = PairDevices(*map(DeviceName, (OUT, BACK), indexes))
    assert read_pair_states([apart]) == {apart: PairState.APART}
    assert "not the ends of one veth device" in mend_pairs([apart])[apart]
    assert "mtu 1500" in ip("link", "show", OUT)


@pytest.mark.usefixtures("tidy")
def test_without_the_right_to_change_devices_nothing_is_set_right() -> None:
    pair = make_pair(DPID)
    subprocess.run(DAMAGES[PairState.SHORT], check=True, capture_output=True)
    program = (
        "from controller.devices import *\n"
        f"pair = PairDevices(DeviceName{tuple(pair.out)}, DeviceName{tuple(pair.back)})\n"
        "print(read_pair_states([pair])[pair].value, mend_pairs([pair])[pair])"
    )
    without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = subprocess.run(
        [*without, sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("short ") and "Operation not permitted" in done.stdout
    assert read_pair_states([pair]) == {pair: PairState.SHORT}


@pytest.mark.usefixtures("tidy")
def test_a_device_that_is_not_ours_is_left_alone() -> None:
    ip("link", "add", OUT, "type", "veth", "peer", "name", "other")
    for change in (make_pair, remove_pair, is_pair_ready):
        with pytest.raises(PairFailed, match="not ours"):
            change(DPID)
    assert OUT in ip("link", "show", OUT)


def test_a_bridge_of_the_userspace_datapath_needs_none() -> None:
    vsctl("add-br", "plain", "--", "set", "Bridge", "plain", "datapath_type=netdev")
    try:
        done = CliRunner().invoke(main, ["bridge", "prepare", "plain"])
        assert done.exit_code == 0 and "nothing to do" in done.stdout
        unknown = CliRunner().invoke(main, ["bridge", "prepare", "plane"])
        assert unknown.exit_code == 1 and "plane" in unknown.output
        undone = CliRunner().invoke(main, ["bridge", "prepare", "plain", "--undo"])
        assert undone.exit_code == 0 and "no segmenting pair" in undone.stdout
    finally:
        vsctl("del-br", "plain")


def test_the_bridge_of_somebody_else_gets_no_pair() -> None:
    """Both ends on a bridge that switches by itself are a loop."""
    vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=system")
    try:
        vsctl("set-fail-mode", "theirs", "standalone")
        refused = CliRunner().invoke(main, ["bridge", "prepare", "theirs"])
        assert refused.exit_code == 1 and "fail_mode=secure" in refused.output
        vsctl("set-fail-mode", "theirs", "secure")
        vsctl(
            "add-br", "ct-theirs", "--", "set", "Bridge", "ct-theirs", f"external_ids:{TAPS}=theirs"
        )
        for more in ([], ["--dry-run"]):
            refused = CliRunner().invoke(main, ["bridge", "prepare", "theirs", *more])
            assert refused.exit_code == 1 and "prepare ct-theirs" in refused.output
        assert not vsctl("list-ports", "theirs").split()
    finally:
        vsctl("--if-exists", "del-br", "ct-theirs", "--", "--if-exists", "del-br", "theirs")


def test_only_ports_with_both_name_and_mark_that_are_up_are_a_pair() -> None:
    ends = [
        InterfaceRow(DPID, "s1", pair_name(DPID, end), ofport=Ofport(n), is_up=True, pair_end=end)
        for n, end in enumerate(PairEnd, 41)
    ]
    other = InterfaceRow(DPID, "s1", "vnet0", ofport=Ofport(1), is_up=True)
    assert segmenter_of([other, *ends]) == Segmenter(Ofport(41), Ofport(42), PairState.FAR)
    assert segmenter_of([other, ends[0]]) is None
    for broken in (
        replace(ends[1], is_up=False),
        replace(ends[1], ofport=None),
        replace(ends[1], pair_end=None),
        replace(ends[1], ofport=ends[0].ofport),
    ):
        assert segmenter_of([ends[0], broken]) is None
