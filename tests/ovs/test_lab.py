"""The lab itself: it detects every frame, extra ones included."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.ovs.lab import Lab, LabError, ofctl, paused_switch
from tests.ovs.packet_sockets import dropped_by_bridges, is_anything_waiting, own_inodes
from tests.ovs.waiting import wait_for


def frame(payload: bytes, tag: bytes = b"") -> bytes:
    return (
        b"\xff" * 6 + bytes.fromhex("020000000001") + tag + b"\x08\x00" + payload.ljust(46, b"\0")
    )


def flood(lab: Lab) -> None:
    for bridge in lab.bridges:
        ofctl("add-flow", bridge, "actions=flood")


def test_every_frame_arrives_once_over_three_linked_bridges(lab: Lab) -> None:
    for name in ("s1", "s2", "s3"):
        lab.add_bridge(name)
        lab.add_ports(name, (1, 2))
    lab.link("s1", 10, "s2", 10)
    lab.link("s2", 11, "s3", 11)
    flood(lab)
    chance = random.Random(7)
    tags = (b"", bytes.fromhex("8100a005"), bytes.fromhex("88a80007"))
    for _ in range(10):
        sent = [
            (chance.choice(lab.endpoints), frame(chance.randbytes(900), chance.choice(tags)))
            for _ in range(40)
        ]
        got = lab.exchange(sent)
        for endpoint in lab.endpoints:
            wanted = sorted(data for sender, data in sent if sender is not endpoint)
            assert sorted(got[endpoint]) == wanted


def test_markers_pass_a_ring_of_bridges(lab: Lab) -> None:
    for name in ("s1", "s2", "s3"):
        lab.add_bridge(name)
        lab.add_port(name, 1)
    lab.link("s1", 10, "s2", 11)
    lab.link("s2", 10, "s3", 11)
    lab.link("s3", 10, "s1", 11)
    ofctl("add-flow", "s1", "in_port=1,actions=output:10")
    ofctl("add-flow", "s2", "in_port=11,actions=output:1,output:10")
    ofctl("add-flow", "s3", "in_port=11,actions=output:1")
    got = lab.exchange([(lab.endpoints[0], frame(b"round"))])
    assert [len(got[endpoint]) for endpoint in lab.endpoints] == [0, 1, 1]


def test_a_copy_that_comes_back_over_the_link_is_seen(lab: Lab) -> None:
    for name in ("s1", "s2"):
        lab.add_bridge(name)
    sender, tap = lab.add_ports("s1", (1, 2))
    receiver = lab.add_port("s2", 1)
    lab.link("s1", 10, "s2", 10)
    ofctl("add-flow", "s1", "in_port=1,actions=output:10")
    ofctl("add-flow", "s1", "in_port=10,actions=output:2")
    ofctl("add-flow", "s2", "in_port=10,actions=output:1,in_port")
    for _ in range(20):
        got = lab.exchange([(sender, frame(b"there and back"))] * 5)
        assert {e: len(got[e]) for e in lab.endpoints} == {sender: 0, tap: 5, receiver: 5}


def test_a_link_that_is_down_is_reported(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ovs.lab.DEADLINE_S", 0.2)
    lab.add_bridge("s1")
    lab.add_ports("s1", (1, 2))
    lab.flush()
    ofctl("mod-port", "s1", "2", "down")
    with pytest.raises(LabError, match=r"did not arrive.*s1-eth2"):
        lab.flush()


def test_the_lab_refuses_to_run_outside_of_tools_isolate() -> None:
    world = {key: value for key, value in os.environ.items() if key != "CLOUDTAP_ISOLATED"}
    command = [sys.executable, "-c", "from tests.ovs.lab import Lab; Lab()"]
    done = subprocess.run(command, env=world, capture_output=True, text=True)
    assert done.returncode and "tools/isolate" in done.stderr


def test_frames_that_wait_for_a_bridge_and_those_that_it_never_gets_are_seen(lab: Lab) -> None:
    """The socket of a port holds some 250 short frames while ovs-vswitchd does not run."""
    lab.add_bridge("s1")
    sender, receiver = lab.add_ports("s1", [1, 2])
    ofctl("add-flow", "s1", "in_port=1,actions=output:2")
    lab.install_markers()
    before = dropped_by_bridges()
    with paused_switch():
        for _ in range(1000):
            sender.send(frame(b"one of many"))
        assert is_anything_waiting(without=own_inodes())
    wait_for(lambda: is_anything_waiting(without=own_inodes()), lambda waits: not waits)
    lab.flush()

    arrived = len(receiver.receive_all())

    assert 0 < arrived < 1000
    assert dropped_by_bridges() - before == 1000 - arrived
