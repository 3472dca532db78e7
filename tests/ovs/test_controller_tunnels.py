"""Tunnel ports are added and removed with sessions; production tunnels keep working."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound.ovsdb import MARK, tunnel_name, tunnel_options
from controller.southbound.ovsdb.write_pace import QUICK_WRITES
from flows.model import TUNNEL_KEYS, Delivery, Dpid, TunnelKind
from tests import frames
from tests.ovs.controller_process import ControllerProcess, Document
from tests.ovs.datapath import DATAPATH
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.open_vswitch import kill, start_ovsdb_server, start_vswitchd
from tests.ovs.small_cloud import DB, INVENTORY, WEB, SmallCloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.underlay import BRIDGE, HOST4, SENSORS, Underlay
from tests.ovs.waiting import wait_for

FAR, HOST = SENSORS[0], HOST4.partition("/")[0]
NAME = tunnel_name(Dpid(0x51), TunnelKind.VXLAN)
FRAME = frames.ethernet(DB, WEB, 0x88B7, bytes(range(100)))


@pytest.fixture
def underlay(lab: Lab, cloud: SmallCloud) -> Underlay:
    return Underlay(lab)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process


def make_remote(controller: ControllerProcess, kind: Delivery, **more: object) -> str:
    """A collector with one remote sensor; returns its name."""
    body = {"tenant": "red", "name": f"far-{kind.value}", "delivery": kind.value} | more
    answer = controller.api.post("/v1/collectors", json={"sensors": [{"address": FAR}], **body})
    assert answer.status_code == 201, answer.text
    return str(body["name"])


def our_ports(bridge: str = "s1") -> set[str]:
    names = vsctl("list-ports", bridge).split()
    # a bridge may be deleted meanwhile
    return {
        name
        for name in names
        if MARK in vsctl("--if-exists", "get", "Interface", name, "external_ids")
    }


def identity(name: str) -> tuple[str, str]:
    uuid, ofport = vsctl("get", "Interface", name, "_uuid", "ofport").split()
    return uuid, ofport


def carried(cloud: SmallCloud, underlay: Underlay) -> list[tuple[Delivery, bytes]]:
    """What arrives at the sensor for one frame from web to db, which production delivers too."""
    got = cloud.lab.exchange([(cloud.at["red-web"], FRAME)])
    assert got[cloud.at["red-db"]] == [FRAME]
    return [(each.delivery, each.frame) for each in underlay.arrived()]


def active(answer: Document) -> bool:
    return bool(answer["status"]["state"] == "active")


def test_a_session_is_active_when_it_is_answered_and_its_ports_go_with_it(
    cloud: SmallCloud, underlay: Underlay, controller: ControllerProcess
) -> None:
    controller.start("s1")
    for kind in TUNNEL_KEYS:
        name = make_remote(controller, kind)
        created = controller.create_session("red", f"by-{kind.value}", ["web"], name)
        assert active(created), created["status"]
    assert our_ports() == {tunnel_name(Dpid(0x51), TunnelKind(kind.value)) for kind in TUNNEL_KEYS}

    got = carried(cloud, underlay)

    assert sorted(got, key=str) == sorted([(kind, FRAME) for kind in TUNNEL_KEYS], key=str)
    for kind in TUNNEL_KEYS:
        assert controller.delete_session(f"by-{kind.value}") == 204
        assert not [each for each in carried(cloud, underlay) if each[0] is kind]
    wait_for(our_ports, lambda names: not names)
    assert "192.0.2" not in ofctl("dump-flows", "s1")


def test_copies_go_on_while_the_first_port_of_a_kind_of_tunnel_is_made(
    cloud: SmallCloud, underlay: Underlay, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one")
    with Traffic([cloud.at[name] for name in ("red-web", "red-db", "red-ids")]) as traffic:
        stream, _ = cloud.red_streams(traffic)
        traffic.wait_for(stream, cloud.at["red-ids"], 20)
        for kind in TUNNEL_KEYS:
            for name in (make_remote(controller, kind), "ids"):
                controller.change_session("one", collector=name)
                number = traffic.now(stream) + 10
                traffic.wait_for(stream, cloud.at["red-db"], number)
        traffic.wait_for(stream, cloud.at["red-ids"], traffic.now(stream))
        traffic.stop()
        sent = traffic.now(stream)
    status = controller.session("one")["status"]
    assert status["skipped"] == {}, "the new sensor was there, or the one before"
    assert status["copies"]["packets"] >= sent
    wait_for(our_ports, lambda names: not names)


def encapsulated(vni: int, source: str, inner: bytes) -> bytes:
    """A VXLAN packet to the host."""
    payload = bytes([8, 0, 0, 0]) + (vni << 8).to_bytes(4, "big") + inner
    packet = frames.ipv4(source, HOST, 17, frames.udp(50_000, 4789, payload))
    mac = vsctl("get", "Interface", BRIDGE, "mac_in_use").strip().strip('"')
    return frames.ethernet(int(mac.replace(":", ""), 16), 0x020000009999, 0x0800, packet)


def test_what_arrives_in_a_tunnel_is_production_or_nobodys(
    cloud: SmallCloud, underlay: Underlay, controller: ControllerProcess
) -> None:
    lab = cloud.lab
    lab.add_bridge("prod", 0x77)
    (workload,) = lab.add_ports("prod", [1])
    vsctl(
        *("add-port", "prod", "tun", "--", "set", "Interface", "tun", "type=vxlan"),
        *(f"options:remote_ip={FAR}", "options:key=42", "ofport_request=9"),
    )
    ofctl("add-flow", "prod", "in_port=9,actions=output:1")
    ofctl("add-flow", BRIDGE, "in_port=1,actions=LOCAL")
    controller.start("s1")
    controller.create_session("red", "far", ["web"], make_remote(controller, Delivery.VXLAN))
    lab.install_markers()

    def arriving(vni: int, source: str) -> list[bytes]:
        for end in lab.endpoints:
            end.receive_all()
        underlay.end.send(encapsulated(vni, source, FRAME))
        lab.flush()
        got = {end: end.receive_all() for end in lab.endpoints}
        assert not any(frames_ for end, frames_ in got.items() if end is not workload)
        return got[workload]

    wait_for(lambda: arriving(42, FAR), [FRAME].__eq__)
    assert arriving(42, FAR) == [FRAME], "production goes on"
    for vni in (0, 7001, 43, 0xFFFFFF):
        assert arriving(vni, FAR) == arriving(vni, SENSORS[1]) == []
    assert arriving(42, SENSORS[1]) == [], "of another sender"
    assert arriving(42, FAR) == [FRAME]


def test_a_session_that_is_switched_off_and_on_again_and_again_gets_its_port_each_time(
    cloud: SmallCloud, underlay: Underlay, controller: ControllerProcess
) -> None:
    controller.start("s1")
    controller.create_session("red", "far", ["web"], make_remote(controller, Delivery.VXLAN))
    for number in range(QUICK_WRITES):
        controller.change_session("far", enabled=False)
        wait_for(our_ports, lambda names: not names)
        changed = controller.change_session("far", enabled=True)
        assert active(changed), (number, changed["status"])


def test_nothing_flaps_when_controller_database_or_switch_come_back(
    cloud: SmallCloud, underlay: Underlay, controller: ControllerProcess
) -> None:
    controller.start("s1")
    controller.create_session("red", "far", ["web"], make_remote(controller, Delivery.VXLAN))
    controller.wait_for_session("far")
    before = identity(NAME)

    controller.end(signal.SIGKILL)
    assert carried(cloud, underlay) == [(Delivery.VXLAN, FRAME)]
    cloud.lab.remove_markers()
    controller.start()
    controller.wait_until_connected("s1")
    assert active(controller.wait_for_session("far"))
    assert (controller.bridge("s1")["plans"], identity(NAME)) == (0, before)
    assert carried(cloud, underlay) == [(Delivery.VXLAN, FRAME)]
    cloud.lab.remove_markers()

    kill("ovsdb-server")
    controller.wait_for_problem("db.sock")
    start_ovsdb_server()
    wait_for(lambda: controller.status()["problems"], lambda problems: not problems)
    assert active(controller.wait_for_session("far"))
    assert (controller.bridge("s1")["plans"], identity(NAME)) == (0, before)

    kill("ovs-vswitchd")
    start_vswitchd()
    controller.wait_until_connected("s1")
    controller.wait_for_session("far")
    assert identity(NAME)[0] == before[0]


def test_a_port_of_that_name_that_is_not_ours_is_left_alone_and_named(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    vsctl("add-port", "s1", NAME, "--", "set", "Interface", NAME, "type=internal")
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "near", ["web"], "ids")
    controller.create_session("red", "far", ["web"], make_remote(controller, Delivery.VXLAN))
    controller.wait_for_session("far", "pending", "is there already and is not ours")
    assert active(controller.session("near"))
    vsctl("del-port", "s1", NAME)
    controller.wait_for_session("far", "degraded", f"no route to sensor {FAR}")


def test_an_interface_that_open_vswitch_cannot_open_is_a_reason(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    remote = make_remote(controller, Delivery.VXLAN)
    options = vsctl_options()
    vsctl("add-br", "rival", "--", "set", "Bridge", "rival", f"datapath_type={DATAPATH}")
    vsctl("add-port", "rival", "tun", "--", "set", "Interface", "tun", "type=vxlan", *options)
    controller.create_session("red", "far", ["web"], remote)
    controller.wait_for_session("far", "pending", "could not open the tunnel port")
    vsctl("del-br", "rival")


def vsctl_options() -> list[str]:
    """The options of our tunnel port, for a conflicting one."""
    options = tunnel_options(Dpid(0x51), TunnelKind.VXLAN)
    return [f"options:{key}={value}" for key, value in options.items()]


def test_without_a_database_a_session_says_what_to_do(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    red_web = "{id: red-web, name: web, "
    controller.inventory.write_text(INVENTORY.replace(red_web, f"{red_web}interface: s1-eth1, "))
    controller.start("s1", ovsdb__remotes="")
    controller.create_session("red", "far", ["web"], make_remote(controller, Delivery.VXLAN))
    controller.wait_for_session("far", "pending", "name that of its host in `remotes` of [ovsdb]")
