"""One ovs-vswitchd with bridges of the userspace and of the kernel datapath."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controller.southbound import CommandFailed, Revalidation, ask_vswitchd
from controller.southbound.openflow.management import ManagedSwitch, open_management
from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot
from flows.model import Dpid
from tests.ovs.lab import ofctl, vsctl
from tests.ovs.waiting import wait_for

TYPE_BY_BRIDGE = {"k0": "system", "u0": "netdev"}
FLOWS = 100
"""Megaflows that are in use on each bridge while its flow tables change."""
PATIENCE_S = 60.0


class Hosts:
    """What Revalidation is told of this host, and the switches of both bridges."""

    def __init__(self) -> None:
        self.switches: dict[str, ManagedSwitch] = {}
        self._senders: dict[str, socket.socket] = {}
        for name, kind in TYPE_BY_BRIDGE.items():
            vsctl(
                *("add-br", name, "--", "set", "Bridge", name, f"datapath_type={kind}"),
                *("fail_mode=secure", "protocols=OpenFlow13"),
            )
            for port in (1, 2):
                near, far = f"{name}-eth{port}", f"{name}-far{port}"
                _run(f"ip link add {near} type veth peer name {far}")
                _run(f"ip link set {near} up")
                _run(f"ip link set {far} up")
                vsctl(
                    *("add-port", name, near, "--", "set", "Interface", near),
                    f"ofport_request={port}",
                )
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sender.bind((f"{name}-far1", 0))
            self._senders[name] = sender
            self.switches[name] = open_management(name)
        rows = [
            BridgeRow(self.switches[name].dpid, name, datapath_type=kind, database="unix:here")
            for name, kind in TYPE_BY_BRIDGE.items()
        ]
        found = OvsdbSnapshot(tuple(rows))
        self.waiting = Revalidation(_Reports(found), lambda: found)

    def close(self) -> None:
        for name in TYPE_BY_BRIDGE:
            self.switches[name].close()
            self._senders[name].close()
            vsctl("del-br", name)
            for port in (1, 2):
                _run(f"ip link del {name}-eth{port}")

    def forward(self, *outputs: str) -> None:
        """Send what port 1 sends there, by a megaflow for each source address."""
        # moving a field to itself has the megaflow match it, and changes nothing
        actions = ",".join(("move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_SRC[]", *outputs))
        for name in TYPE_BY_BRIDGE:
            ofctl("add-flow", name, f"in_port=1,actions={actions}")

    def send(self) -> None:
        """Send one frame of each source address into each bridge."""
        for sender in self._senders.values():
            for number in range(FLOWS):
                source = bytes((2, 0, 0, 0)) + number.to_bytes(2, "big")
                sender.send((bytes(5) + b"\2" + source + b"\x88\xb5").ljust(60, b"\0"))

    def outputs(self) -> dict[str, int]:
        """How many megaflows of each bridge send something out of port 2."""
        return {name: _outputs(name, kind) for name, kind in TYPE_BY_BRIDGE.items()}

    def wait_copying(self) -> None:
        """Send until each bridge has a megaflow for each source address."""

        def look() -> dict[str, int]:
            self.send()
            return self.outputs()

        wait_for(look, lambda seen: seen == dict.fromkeys(TYPE_BY_BRIDGE, FLOWS))

    def is_settled(self, *names: str, seconds: float = PATIENCE_S) -> bool:
        """What Revalidation says of some bridges."""
        bridges = [_Bridge(self.switches[name]) for name in names]
        return self.waiting.wait_settled(bridges, seconds)


class _Reports:
    def __init__(self, found: OvsdbSnapshot) -> None:
        self._found = found

    def snapshot(self) -> OvsdbSnapshot:
        return self._found


class _Bridge:
    def __init__(self, switch: ManagedSwitch) -> None:
        self._switch = switch

    @property
    def dpid(self) -> Dpid:
        return self._switch.dpid

    def nudge(self, most_s: float) -> None:
        self._switch.nudge(most_s)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, timeout=60)


def _outputs(name: str, kind: str) -> int:
    dump = ask_vswitchd("dpctl/dump-flows", "-m", f"{kind}@ovs-{kind}", timeout_s=PATIENCE_S)
    ours = (f"in_port({name}-eth1)", "eth(src=02:00:00:00:")  # the kernel sends some of its own
    lines = [line for line in dump.splitlines() if all(part in line for part in ours)]
    return sum(f"{name}-eth2" in line.partition("actions:")[2] for line in lines)


@contextmanager
def paused_revalidators() -> Iterator[None]:
    """Inside, no round begins. Without a pause ``revalidator/resume`` blocks ovs-vswitchd."""
    ask_vswitchd("revalidator/pause", timeout_s=PATIENCE_S)
    try:
        yield
    finally:
        ask_vswitchd("revalidator/resume", timeout_s=PATIENCE_S)


@pytest.fixture
def host() -> Iterator[Hosts]:
    made = Hosts()
    yield made
    made.close()


def test_open_vswitch_refuses_to_wait_for_both(host: Hosts) -> None:
    """If it does some day, counting rounds is no longer needed."""
    with pytest.raises(CommandFailed, match="multiple udpifs"):
        ask_vswitchd("revalidator/wait", timeout_s=PATIENCE_S)


def test_no_megaflow_of_either_datapath_outlives_its_flow(host: Hosts) -> None:
    took: list[float] = []
    for _ in range(3):
        host.forward("output:2")
        assert host.is_settled(*TYPE_BY_BRIDGE)
        host.wait_copying()
        host.forward()
        began = time.monotonic()
        assert host.is_settled(*TYPE_BY_BRIDGE)
        took.append(time.monotonic() - began)
        assert host.outputs() == {"k0": 0, "u0": 0}
    print(f"settled after {', '.join(f'{each:.3f}' for each in took)} s")


def test_what_the_datapaths_still_do_is_never_said_to_be_over(host: Hosts) -> None:
    host.forward("output:2")
    host.wait_copying()
    with paused_revalidators():
        host.forward()
        for names in (("k0",), ("u0",), ("k0", "u0")):
            began = time.monotonic()
            assert not host.is_settled(*names, seconds=1.5)
            assert time.monotonic() - began < 10.0
        host.send()
        assert host.outputs() == {"k0": FLOWS, "u0": FLOWS}, "the frames are still forwarded"
    assert host.is_settled(*TYPE_BY_BRIDGE)
    assert host.outputs() == {"k0": 0, "u0": 0}


def test_nothing_of_ours_stays_in_the_datapaths(host: Hosts) -> None:
    assert host.is_settled(*TYPE_BY_BRIDGE)

    def left() -> list[str]:
        dumps = [
            ask_vswitchd("dpctl/dump-flows", f"{kind}@ovs-{kind}", timeout_s=PATIENCE_S)
            for kind in TYPE_BY_BRIDGE.values()
        ]
        return [line for dump in dumps for line in dump.splitlines() if "in_port(0)" in line]

    wait_for(left, [].__eq__)
