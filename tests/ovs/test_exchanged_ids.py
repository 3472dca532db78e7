"""Two bridges exchange their datapath ids: no tenant gets a frame or copy of another one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.hypervisor import Hypervisor
from tests.ovs.lab import Lab, vsctl
from tests.ovs.relay import Relay
from tests.ovs.test_controller_claims import LOCAL_DB, PATIENCE_S, SETTINGS
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

ANY = 0xFFFFFFFFFFFF
FIRST, SECOND = 0x51, 0x52
INVENTORY = """\
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: red-a, tenant: red, network: lan, interface: s1-eth1}
  - {id: red-b, tenant: red, network: lan, interface: s1-eth2}
  - {id: red-ids, tenant: red, kind: tap, interface: s1-eth5}
  - {id: blue-c, tenant: blue, network: lan, interface: s1-eth3}
  - {id: blue-a, tenant: blue, network: lan, interface: s2-eth1}
  - {id: blue-b, tenant: blue, network: lan, interface: s2-eth3}
  - {id: blue-ids, tenant: blue, kind: tap, interface: s2-eth5}
  - {id: red-c, tenant: red, network: lan, interface: s2-eth2}
"""
PORTS = {
    "s1": {1: "red-a", 2: "red-b", 3: "blue-c", 5: "red-ids"},
    "s2": {1: "blue-a", 2: "red-c", 3: "blue-b", 5: "blue-ids"},
}


PLACED_BY_ID = re.sub(", interface: [^}]*", "", INVENTORY)
"""The same; the databases say which interface each port is."""
ENDS = {"red-a": ("red-b", "red-ids"), "blue-a": ("blue-b", "blue-ids")}
"""Where the broadcasts of some ports arrive, as frames and as copies."""


class Hosts:
    """Bridges s1 and s2 on two hosts; the path to the database of the second can be cut."""

    def __init__(self, lab: Lab, folder: Path, *, names_are_alike: bool) -> None:
        other = Hypervisor(lab, folder, "hv2", 2)
        lab.add_bridge("s1", FIRST, "tcp:127.0.0.1:6653")
        other.add_bridge("s2", SECOND)
        ends = lab.add_ports("s1", PORTS["s1"])
        self.at = dict(zip(PORTS["s1"].values(), ends, strict=True))
        for number, name in PORTS["s2"].items():
            interface = f"s{1 if names_are_alike else 2}-eth{number}"
            self.at[name] = other.add_port("s2", number, interface, name)
        for number, name in PORTS["s1"].items():
            vsctl("set", "Interface", f"s1-eth{number}", f"external_ids:iface-id={name}")
        self.relay = Relay(folder / "relay.sock", other.database)
        self.remotes = f"{LOCAL_DB},{self.relay.address}"
        self._vsctl: dict[str, Callable[..., str]] = {"s1": vsctl, "s2": other.vsctl}

    def exchange(self) -> None:
        """Let each bridge take the datapath id of the other one, the first one first."""
        for bridge, dpid in (("s1", SECOND), ("s2", FIRST)):
            setting = f"other_config:datapath-id={dpid:016x}"
            self._vsctl[bridge]("set", "Bridge", bridge, setting)
        wait_for(self._ids, [f"{SECOND:016x}", f"{FIRST:016x}"].__eq__)

    def _ids(self) -> list[str]:
        ids = [self._vsctl[b]("get", "Bridge", b, "datapath_id") for b in ("s1", "s2")]
        return [each.strip().strip('"') for each in ids]


class Streams:
    """Broadcasts of both tenants at both bridges."""

    def __init__(self, traffic: Traffic, at: Mapping[str, Endpoint]) -> None:
        self._traffic, self._at = traffic, at
        self._of = {
            name: traffic.add(at[name], 0x020000000010 + number, ANY)
            for number, name in enumerate(("red-a", "red-c", "blue-a", "blue-c"))
        }

    def check(self) -> None:
        """Wait until 100 more frames have arrived everywhere, once, and at no other tenant."""
        first = {name: self._traffic.now(stream) + 1 for name, stream in self._of.items()}
        for sender, ends in ENDS.items():
            for end in ends:
                stream = self._of[sender]
                self._traffic.wait_until_past(stream, self._at[end], first[sender] + 100)
                numbers = range(first[sender], first[sender] + 100)
                seen = self._traffic.arrived(stream, self._at[end])
                assert [n for n in numbers if seen[n] != 1] == [], (sender, end)
        assert self.crossed() == {}

    def crossed(self) -> dict[str, int]:
        """How many frames have arrived at ends of another tenant, by sender and end."""
        return {
            f"{sender} at {end}": sum(self._traffic.arrived(stream, self._at[end]).values())
            for sender, stream in self._of.items()
            for end in self._at
            if end.split("-")[0] != sender.split("-")[0]
            and self._traffic.arrived(stream, self._at[end])
        }


@contextmanager
def cloud(
    hosts: Hosts, folder: Path, inventory: str
) -> Iterator[tuple[ControllerProcess, Streams]]:
    """A controller with a session of each tenant, and traffic that flows."""
    with (
        hosts.relay,
        ControllerProcess(folder, inventory) as controller,
        Traffic(hosts.at.values()) as traffic,
    ):
        controller.start("s1", **SETTINGS, ovsdb__remotes=hosts.remotes)
        for tenant in ("red", "blue"):
            controller.create_collector(tenant, f"{tenant}-soc", f"{tenant}-ids")
            controller.create_session(tenant, f"{tenant}-all", [f"{tenant}-a"], f"{tenant}-soc")
            controller.wait_for_session(f"{tenant}-all")
        streams = Streams(traffic, hosts.at)
        streams.check()
        yield controller, streams


def check_settled(controller: ControllerProcess, streams: Streams) -> None:
    """Wait until nothing is contradictory any more, and all goes on as before."""
    wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
    for tenant in ("red", "blue"):
        controller.wait_for_session(f"{tenant}-all", seconds=PATIENCE_S)
    assert [controller.place(port) for port in ("red-a", "blue-a")] == [("s1", 1), ("s2", 1)]
    streams.check()


def test_bridges_of_two_databases_may_exchange_their_datapath_ids(lab: Lab, tmp_path: Path) -> None:
    hosts = Hosts(lab, tmp_path, names_are_alike=False)
    with cloud(hosts, tmp_path, INVENTORY) as (controller, streams):
        hosts.exchange()
        check_settled(controller, streams)


@pytest.mark.parametrize("inventory", [INVENTORY, PLACED_BY_ID], ids=["by name", "by id"])
def test_bridges_that_may_have_exchanged_their_datapath_ids_keep_their_flows_until_it_is_known(
    lab: Lab, tmp_path: Path, inventory: str
) -> None:
    """One of the two databases cannot be reached, so it is not known which bridge is which."""
    hosts = Hosts(lab, tmp_path, names_are_alike=inventory is PLACED_BY_ID)
    with cloud(hosts, tmp_path, inventory) as (controller, streams):
        hosts.relay.cut()
        hosts.exchange()
        for dpid in (FIRST, SECOND):
            reasons = wait_for(
                lambda ref=f"0x{dpid:016x}": controller.bridge(ref).get("reasons", []),  # type: ignore[misc]
                lambda found: any("keeps the flows that it has" in reason for reason in found),
                PATIENCE_S,
            )
            assert any(LOCAL_DB in each and hosts.relay.address in each for each in reasons)
        streams.check()
        hosts.relay.mend()
        check_settled(controller, streams)
