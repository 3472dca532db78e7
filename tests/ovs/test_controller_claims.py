"""Peers that claim to be a bridge of ours, or to have its ports: nothing is moved for them."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fake_switches import FakeSwitch
from tests.ovs.controller_process import RUNTIME, ControllerProcess, on_both_runtimes
from tests.ovs.datapath import DATAPATH
from tests.ovs.hypervisor import Hypervisor
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.small_cloud import DB, INVENTORY, WEB, SmallCloud, build_cloud, make_collectors
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

DPID = 0x51
LOCAL_DB = "unix:/run/openvswitch/db.sock"
SETTINGS = {"openflow__listen": "0.0.0.0:6653", "openflow__insecure": "true"}
PATIENCE_S = 60.0
WEB_AT = "s1-eth1"
"""The interface of port red-web."""


@pytest.fixture
def other(lab: Lab, tmp_path: Path) -> Hypervisor:
    """A second host."""
    return Hypervisor(lab, tmp_path, "hv2", 2)


@contextmanager
def controller_for(
    folder: Path, runtime: str = RUNTIME, inventory: str = INVENTORY, **settings: str
) -> Iterator[ControllerProcess]:
    with ControllerProcess(folder, inventory, runtime) as process:
        process.start("s1", **SETTINGS, **settings)
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def check_flowing(traffic: Traffic, stream: Stream, cloud: SmallCloud) -> None:
    """Wait until 30 more frames of a red stream have arrived once at both ends."""
    first = traffic.now(stream) + 1
    for name in ("red-db", "red-ids"):
        traffic.wait_until_past(stream, cloud.at[name], first + 30)
        assert not traffic.faults(stream, cloud.at[name], first, first + 30)


def claims_refused(controller: ControllerProcess) -> float:
    """How many claims /metrics has counted."""
    lines = controller.api.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("cloudtap_claims_refused_total")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


class Claimant:
    """A peer that says that it has the datapath id of a bridge, and keeps what it is asked.

    It answers everything, as a bridge does, until it is cut off.
    """

    def __init__(self, dpid: int) -> None:
        switch = FakeSwitch(dpid, "claimant")
        self.kinds: list[int] = []
        with socket.create_connection(("127.0.0.1", 6653), PATIENCE_S) as connection:
            self.address = "{}:{}".format(*connection.getsockname())
            with suppress(ConnectionError), connection.makefile("rb") as requests:
                connection.sendall(switch.hello())
                while len(head := requests.read(8)) == 8:
                    request = head + requests.read(int.from_bytes(head[2:4], "big") - 8)
                    self.kinds.append(request[1])
                    connection.sendall(b"".join(switch.answer(request)))


HANDSHAKE = {0, 2, 5, 9, 18}
"""Hello, echo request, features request, set-config, and the request of ports."""


@on_both_runtimes
def test_who_claims_the_id_of_a_live_bridge_is_refused_and_sees_nothing(
    cloud: SmallCloud, tmp_path: Path, runtime: str
) -> None:
    with controller_for(tmp_path, runtime) as controller, Traffic(cloud.at.values()) as traffic:
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        check_flowing(traffic, red, cloud)
        plans = controller.bridge("s1")["plans"]
        for _ in range(3):
            claimant = Claimant(DPID)  # returns when it was hung up on
            assert set(claimant.kinds) <= HANDSHAKE, "it has seen more than a handshake"
        problem = controller.wait_for_problem("claims its datapath id")
        assert claimant.address in problem and "'s1' is connected from 127.0.0.1:" in problem
        bridge = controller.bridge("s1")
        assert bridge["connected"] and bridge["plans"] == plans
        assert problem in bridge["reasons"]
        session = controller.wait_for_session("one", "degraded", claimant.address)
        assert session["status"]["bridges"][0]["state"] == "active"
        assert claims_refused(controller) == 3
        assert controller.log().count("claim refused") == 1, "one line for all"
        # the real bridge follows each change at once
        assert controller.delete_session("one") == 204
        assert "table=0" in ofctl("dump-flows", "s1")
        controller.create_session("red", "two", ["web"], "ids")
        check_flowing(traffic, red, cloud)
        wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
        controller.wait_for_session("two")


def test_a_bridge_of_another_host_with_the_id_of_a_live_one_gets_no_flow(
    cloud: SmallCloud, tmp_path: Path, other: Hypervisor
) -> None:
    with controller_for(tmp_path) as controller, Traffic(cloud.at.values()) as traffic:
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        other.add_bridge("s1", DPID)
        problem = controller.wait_for_problem("claims its datapath id")
        assert other.address in problem
        check_flowing(traffic, red, cloud)
        assert controller.delete_session("one") == 204
        copies = traffic.arrived(red, cloud.at["red-ids"])
        controller.create_session("red", "two", ["db"], "soc")
        last = traffic.now(red)
        traffic.wait_until_past(red, cloud.at["red-soc"], last + 20)
        assert max(traffic.arrived(red, cloud.at["red-ids"])) <= last, "it went on copying"
        assert copies
        assert "cookie" not in other.flows("s1"), "the other bridge has flows of ours"
        other.vsctl("del-br", "s1")
        wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
        controller.wait_for_session("two")


@on_both_runtimes
def test_a_connection_that_is_dead_gives_way(
    lab: Lab, cloud: SmallCloud, tmp_path: Path, other: Hypervisor, runtime: str
) -> None:
    """The old connection hangs, as one does whose host has lost its power."""
    inventory = INVENTORY + "bridges: [{datapath_id: '0x77', name: s7}]\n"
    with controller_for(tmp_path, runtime, inventory, openflow__echo_seconds="3600") as controller:
        other.add_bridge("s7", 0x77)
        wait_for(lambda: controller.bridge("s7").get("connected"), bool, PATIENCE_S)
        other.pause()
        lab.add_bridge("s7", 0x77, "tcp:127.0.0.1:6653")
        wait_for(lambda: controller.log(), lambda log: "connection replaced" in log, PATIENCE_S)
        wait_for(lambda: controller.bridge("s7").get("state"), lambda s: s == "active", PATIENCE_S)
        assert "cookie" in ofctl("dump-flows", "s7")
        other.resume()
        controller.wait_for_problem("claims its datapath id")
        assert controller.bridge("s7")["connected"]


def test_a_second_database_that_claims_a_bridge_moves_and_renames_nothing(
    cloud: SmallCloud, tmp_path: Path, other: Hypervisor
) -> None:
    databases = f"{LOCAL_DB},{other.database}"
    with (
        controller_for(tmp_path, ovsdb__remotes=databases) as controller,
        Traffic(cloud.at.values()) as traffic,
    ):
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        check_flowing(traffic, red, cloud)
        before = {port: controller.place(port) for port in cloud.at}
        # the same id under another name, and the tenants' ports exchanged
        other.add_bridge("evil", DPID, target=None)
        exchanged = {1: "blue-web", 2: "blue-db", 3: "red-web", 4: "red-db", 5: "blue-ids"}
        for number, port in exchanged.items():
            other.add_port("evil", number, f"s1-eth{number}", port)
        problem = controller.wait_for_problem("is not believed")
        assert LOCAL_DB in problem and other.database in problem
        assert {port: controller.place(port) for port in cloud.at} == before
        assert problem in controller.bridge("s1")["reasons"]
        controller.wait_for_session("one", "degraded", other.database)
        check_flowing(traffic, red, cloud)
        controller.end()
        controller.launch(**SETTINGS, ovsdb__remotes=f"{other.database},{LOCAL_DB}")
        wait_for(controller.is_answering, bool, PATIENCE_S)
        controller.wait_until_connected("s1")
        controller.wait_for_problem("is not believed")
        controller.wait_for_session("one", "degraded", other.database)
        assert {port: controller.place(port) for port in cloud.at} == before
        check_flowing(traffic, red, cloud)
        other.vsctl("del-br", "evil")
        wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
        controller.wait_for_session("one")


def uuid_of(table: str, name: str) -> str:
    return vsctl("get", table, name, "_uuid").strip()


def test_an_interface_of_two_ports_of_a_bridge_goes_on_as_the_switch_has_it(
    cloud: SmallCloud, tmp_path: Path
) -> None:
    with controller_for(tmp_path) as controller, Traffic(cloud.at.values()) as traffic:
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        check_flowing(traffic, red, cloud)
        first = traffic.now(red)
        rival = (
            "--id=@p",
            "create",
            "Port",
            "name=zz",
            f"interfaces={uuid_of('Interface', WEB_AT)}",
        )
        vsctl("--", *rival, "--", "add", "Bridge", "s1", "ports", "@p")
        problem = controller.wait_for_problem(f"interface '{WEB_AT}'")
        assert (
            f"port '{WEB_AT}' of bridge 's1'" in problem and "port 'zz' of bridge 's1'" in problem
        )
        assert controller.place("red-web") == ("s1", 1)
        controller.wait_for_session("one")
        check_flowing(traffic, red, cloud)
        vsctl("remove", "Bridge", "s1", "ports", uuid_of("Port", "zz"))
        wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
        last = traffic.now(red)
        traffic.wait_until_past(red, cloud.at["red-ids"], last)
        for name in ("red-db", "red-ids"):
            assert not traffic.faults(red, cloud.at[name], first, last), "production was hurt"


def test_a_port_of_two_bridges_is_said_and_hurts_no_other(
    cloud: SmallCloud, tmp_path: Path
) -> None:
    """Open vSwitch itself takes the port off both."""
    with controller_for(tmp_path) as controller, Traffic(cloud.at.values()) as traffic:
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        blue, _ = cloud.blue_streams(traffic)
        check_flowing(traffic, red, cloud)
        first = traffic.now(blue)
        ports = f"ports={uuid_of('Port', WEB_AT)}"
        rival = ("--id=@b", "create", "Bridge", "name=s9", f"datapath_type={DATAPATH}", ports)
        vsctl("--", *rival, "--", "add", "Open_vSwitch", ".", "bridges", "@b")
        problem = controller.wait_for_problem(f"interface '{WEB_AT}'")
        assert "of bridge 's1'" in problem and "of bridge 's9'" in problem
        wait_for(
            lambda: controller.place("red-web"), lambda at: at in (None, ("s1", 1)), PATIENCE_S
        )
        vsctl("remove", "Open_vSwitch", ".", "bridges", uuid_of("Bridge", "s9"))
        wait_for(lambda: controller.status()["problems"], lambda found: not found, PATIENCE_S)
        controller.wait_for_session("one")
        check_flowing(traffic, red, cloud)
        last = traffic.now(blue)
        traffic.wait_until_past(blue, cloud.at["blue-db"], last)
        assert not traffic.faults(blue, cloud.at["blue-db"], first, last), "another one was hurt"


def test_an_interface_id_at_another_host_cuts_nobody_off(
    cloud: SmallCloud, tmp_path: Path, other: Hypervisor
) -> None:
    databases = f"{LOCAL_DB},{other.database}"
    with (
        controller_for(tmp_path, ovsdb__remotes=databases) as controller,
        Traffic(cloud.at.values()) as traffic,
    ):
        controller.create_session("red", "one", ["web"], "ids")
        red, _ = cloud.red_streams(traffic)
        check_flowing(traffic, red, cloud)
        first = traffic.now(red)
        other.add_bridge("s9", 0x99)
        end = other.add_port("s9", 1, "tap1", "red-web")
        controller.wait_for_problem("port 'red-web' is at 's1-eth1' of bridge 's1'")
        controller.wait_for_session("one", "degraded", "'tap1' of bridge 's9'")
        assert controller.place("red-web") == ("s1", 1)
        check_flowing(traffic, red, cloud)
        other.delete_port("s9", "tap1")
        controller.wait_for_session("one")
        last = traffic.now(red)
        traffic.wait_until_past(red, cloud.at["red-ids"], last)
        for name in ("red-db", "red-ids"):
            assert not traffic.faults(red, cloud.at[name], first, last), "production was hurt"
        end.close()


@on_both_runtimes
def test_a_workload_is_followed_to_where_it_is_heard(
    cloud: SmallCloud, tmp_path: Path, runtime: str
) -> None:
    """As in a live migration: the iface-id is at the target first, and the source goes last."""
    lab, inventory = cloud.lab, INVENTORY + LINK
    with controller_for(tmp_path, runtime, inventory) as controller:
        lab.add_bridge("s2", 0x52, "tcp:127.0.0.1:6653")
        lab.link("s1", 9, "s2", 9)
        controller.wait_until_connected("s2")
        controller.create_session("red", "one", ["web"], "ids")
        with Traffic(cloud.at.values()) as traffic:
            red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
            check_flowing(traffic, red[0], cloud)
            first = traffic.now(red[0])
            source, target = cloud.at["red-web"], lab.add_port("s2", 1, "red-web")
            controller.wait_for_problem("port 'red-web' is at 's1-eth1' of bridge 's1'")
            check_flowing(traffic, red[0], cloud)
            last = traffic.now(red[0])
            for name in ("red-db", "red-ids"):
                traffic.wait_until_past(red[0], cloud.at[name], last)
                assert not traffic.faults(red[0], cloud.at[name], first, last), "it was prepared"
            # both send: the first one stays, and nothing of the other is forwarded or copied
            double = traffic.add(target, WEB, DB)
            controller.wait_for_session("one", "degraded", "'s2-eth1' of bridge 's2'")
            traffic.wait_until_past(red[0], cloud.at["red-ids"], traffic.now(red[0]) + 400)
            assert controller.place("red-web") == ("s1", 1)
            for end in cloud.at.values():
                assert not traffic.arrived(double, end)
            # only the second one sends: it has moved there
            traffic.replug(source, target)
            cloud.at["red-web"] = target
            wait_for(lambda: controller.place("red-web"), lambda at: at == ("s2", 1), PATIENCE_S)
            last = traffic.now(red[0])
            for name in ("red-db", "red-ids"):
                traffic.wait_until_past(red[0], cloud.at[name], last)
            check_flowing(traffic, red[0], cloud)
            vsctl("del-port", "s1", "s1-eth1")
            wait_for(lambda: controller.status()["problems"], lambda found: not found)
            controller.wait_for_session("one")
            check_flowing(traffic, red[0], cloud)
            mine = {*red, double}
            for name, end in cloud.at.items():
                assert not traffic.strangers(end, mine if name.startswith("red") else blue)


LINK = """\
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
"""
HINTED = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", bridge: s1, interface: s1-eth2}
  - {id: red-ids, name: ids, tenant: red, kind: tap, interface: s1-eth5}
"""  # noqa: E501


def test_a_strangers_bridge_unplaces_nothing_and_leaves_no_trace(
    lab: Lab, tmp_path: Path, other: Hypervisor
) -> None:
    lab.add_bridge("s1", DPID, "tcp:127.0.0.1:6653")
    ends = lab.add_ports("s1", [1, 2, 5])
    with ControllerProcess(tmp_path, HINTED) as controller:
        controller.start("s1", **SETTINGS)
        controller.create_collector("red", "ids", "red-ids")
        controller.create_session("red", "one", ["web"], "ids")
        controller.wait_for_session("one")
        with Traffic(ends) as traffic:
            red = traffic.add(ends[0], WEB, DB)
            traffic.wait_until_past(red, ends[1], 10)
            first = traffic.now(red)
            other.add_bridge("s1", 0x99)
            for number in (1, 2, 5):
                other.add_port("s1", number, f"s1-eth{number}").close()
            wait_for(lambda: len(bridges(controller)), (2).__eq__, PATIENCE_S)
            controller.wait_for_problem("where it was")
            for port, number in (("red-web", 1), ("red-db", 2), ("red-ids", 5)):
                assert controller.place(port) == ("s1", number)
            other.vsctl("del-br", "s1")
            wait_for(lambda: bridges(controller), [f"{DPID:016x}"].__eq__, PATIENCE_S)
            wait_for(lambda: controller.status()["problems"], lambda found: not found)
            other.add_bridge("s1", 0x99)
            for number in (1, 2, 5):
                other.attach("s1", number, f"s1-eth{number}")
            controller.end(signal.SIGKILL)
            controller.launch(**SETTINGS)
            wait_for(controller.is_answering, bool, PATIENCE_S)
            wait_for(lambda: len(bridges(controller)), (2).__eq__, PATIENCE_S)
            controller.wait_for_session("one", "degraded", "where it was", PATIENCE_S)
            last = traffic.now(red)
            for end in ends[1:]:
                traffic.wait_until_past(red, end, last)
                assert not traffic.faults(red, end, first, last), "production was hurt"


def bridges(controller: ControllerProcess) -> list[str]:
    """The datapath ids of the bridges that are listed."""
    return [bridge["id"] for bridge in controller.status()["bridges"]]


def test_a_bridge_that_is_not_ours_is_not_listed(lab: Lab, tmp_path: Path) -> None:
    build_cloud(lab)
    lab.add_bridge("br-ex", 0xEE)
    with controller_for(tmp_path) as controller:
        controller.create_session("red", "one", ["web"], "ids")
        controller.wait_for_session("one")
        assert bridges(controller) == [f"{DPID:016x}"]
        assert "br-ex" not in controller.api.get("/metrics").text
        assert controller.delete_session("one") == 204
        vsctl("del-br", "br-ex")
