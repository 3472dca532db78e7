"""Bridges that get another datapath id, share a name with others, or prove who they are by TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess, on_both_runtimes
from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.hypervisor import CONTROLLER_IP, Hypervisor
from tests.ovs.lab import Lab, vsctl
from tests.ovs.runtime_process import Authority
from tests.ovs.small_cloud import DB, WEB
from tests.ovs.test_controller_claims import LOCAL_DB, PATIENCE_S, SETTINGS, bridges
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

PORTS = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", bridge: %s, interface: %s}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", bridge: %s, interface: %s}
  - {id: red-ids, name: ids, tenant: red, kind: tap, bridge: %s, interface: %s}
links:
  - {from: {bridge: %s, interface: %s}, to: {bridge: %s, interface: %s}}
"""  # noqa: E501
TWO_BRIDGES = PORTS % (
    *("s1", "s1-eth1", "s2", "s2-eth2", "s1", "s1-eth5"),
    *("s1", "s1-eth9", "s2", "s2-eth9"),
)


def dpid_of(bridge: str) -> str:
    return vsctl("get", "Bridge", bridge, "datapath_id").strip().strip('"')


def new_id(bridge: str, card: str) -> str:
    """Give a bridge without a fixed datapath id another network card; the id that it gets."""
    before = dpid_of(bridge)
    vsctl("set", "Bridge", bridge, f'other_config:hwaddr="{card}"')
    return wait_for(lambda: dpid_of(bridge), lambda now: now not in (before, "[]"))


def check_delivered(traffic: Traffic, stream: Stream, *ends: Endpoint) -> None:
    """Wait until 30 more frames of a stream have arrived once at each end."""
    wait_for(
        lambda: [max(traffic.arrived(stream, end), default=0) for end in ends],
        lambda seen: min(seen) >= traffic.now(stream) - 5,
        PATIENCE_S,
    )
    first = traffic.now(stream) + 1
    for end in ends:
        traffic.wait_until_past(stream, end, first + 30)
        assert not traffic.faults(stream, end, first, first + 30)


def two_bridges(lab: Lab) -> tuple[Endpoint, Endpoint, Endpoint]:
    """Two linked bridges without fixed datapath ids: the ends of web, db and ids."""
    for bridge in ("s1", "s2"):
        lab.add_bridge(bridge, controller="tcp:127.0.0.1:6653")
    lab.link("s1", 9, "s2", 9)
    return (*lab.add_ports("s1", [1]), *lab.add_ports("s2", [2]), *lab.add_ports("s1", [5]))


@pytest.mark.parametrize("how", ["another card", "del-br and add-br"])
def test_a_bridge_that_gets_another_datapath_id_is_the_same_bridge(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    web, db, ids = two_bridges(lab)
    changing: dict[str, Callable[[], None]] = {
        "another card": lambda: print(new_id("s1", "02:00:00:00:51:01")),
        "del-br and add-br": lambda: replace_bridge("s1"),
    }
    with ControllerProcess(tmp_path, TWO_BRIDGES) as controller:
        controller.start("s1", "s2", **SETTINGS)
        controller.create_collector("red", "ids", "red-ids")
        controller.create_session("red", "one", ["web"], "ids")
        controller.wait_for_session("one")
        with Traffic([web, db, ids]) as traffic:
            red = traffic.add(web, WEB, DB)
            check_delivered(traffic, red, db, ids)
            old = dpid_of("s1")
            changing[how]()
            new = dpid_of("s1")
            assert new != old
            check_delivered(traffic, red, db, ids)
            wait_for(lambda: set(bridges(controller)), {new, dpid_of("s2")}.__eq__, PATIENCE_S)
            controller.wait_for_session("one", seconds=PATIENCE_S)
            assert controller.status()["problems"] == []
            # nothing waits for the old id, and nothing is counted twice
            traffic.stop()
            last = traffic.now(red)
            traffic.wait_for(red, ids, last)
            arrived = sum(traffic.arrived(red, ids).values())
            counted = controller.session("one")["status"]["copies"]["packets"]
            assert counted <= arrived
            if how == "another card":
                wait_for(lambda: copies(controller), arrived.__eq__, PATIENCE_S)
            assert controller.delete_session("one") == 204
            controller.end()
            controller.start("s1", "s2", **SETTINGS)
            assert set(bridges(controller)) == {new, dpid_of("s2")}
            assert controller.place("red-web") == ("s1", 1)


@pytest.mark.parametrize("how", ["chain", "exchange"])
def test_a_bridge_may_take_the_datapath_id_that_another_gives_up(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    web, db, ids = two_bridges(lab)
    with ControllerProcess(tmp_path, TWO_BRIDGES) as controller:
        controller.start("s1", "s2", **SETTINGS)
        controller.create_collector("red", "ids", "red-ids")
        controller.create_session("red", "one", ["web"], "ids")
        controller.wait_for_session("one")
        with Traffic([web, db, ids]) as traffic:
            red = traffic.add(web, WEB, DB)
            check_delivered(traffic, red, db, ids)
            new = {"s1": dpid_of("s2"), "s2": "00000000000000b3"}
            if how == "exchange":
                new["s2"] = dpid_of("s1")
            words = [("set", "Bridge", b, f"other_config:datapath-id={new[b]}") for b in new]
            vsctl(*words[0], "--", *words[1])
            wait_for(lambda: {b: dpid_of(b) for b in new}, new.__eq__)
            check_delivered(traffic, red, db, ids)
            controller.wait_for_session("one", seconds=PATIENCE_S)
            wait_for(lambda: set(bridges(controller)), set(new.values()).__eq__, PATIENCE_S)
            assert controller.status()["problems"] == []
            assert [controller.place(f"red-{p}") for p in ("web", "db")] == [("s1", 1), ("s2", 2)]
            traffic.stop()
            traffic.wait_for(red, ids, traffic.now(red))
            arrived = sum(traffic.arrived(red, ids).values())
            wait_for(lambda: copies(controller), arrived.__eq__, PATIENCE_S)
            assert controller.delete_session("one") == 204
            controller.end()
            controller.start("s1", "s2", **SETTINGS)
            assert set(bridges(controller)) == set(new.values())
            assert [controller.place(f"red-{p}") for p in ("web", "db")] == [("s1", 1), ("s2", 2)]


TWO_TENANTS = """\
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids, name: ids, tenant: red, kind: tap}
  - {id: blue-web, name: web, tenant: blue, network: lan, mac: "02:00:00:00:00:01"}
  - {id: blue-db, name: db, tenant: blue, network: lan, mac: "02:00:00:00:00:02"}
  - {id: blue-ids, name: ids, tenant: blue, kind: tap}
"""
IDS_OF = {"there": {"s1": 0x52, "s2": 0x51}, "back": {"s1": 0x51, "s2": 0x52}}


class TwoTenants:
    """Two bridges, a tenant on each, one session for each of them, and traffic on both."""

    def __init__(self, lab: Lab, controller: ControllerProcess) -> None:
        self.controller = controller
        for bridge, dpid in IDS_OF["back"].items():
            lab.add_bridge(bridge, dpid, "tcp:127.0.0.1:6653")
        self.ends: dict[str, Endpoint] = {}
        for bridge, tenant in (("s1", "red"), ("s2", "blue")):
            names = [f"{tenant}-{who}" for who in ("web", "db", "ids")]
            ports = dict(enumerate(names, 1))
            self.ends |= zip(names, lab.add_ports(bridge, [*ports], ports), strict=True)
        controller.start("s1", "s2", **SETTINGS)

    def watch(self, **settings: int) -> None:
        """A session for each tenant."""
        for tenant in ("red", "blue"):
            self.controller.create_collector(tenant, "ids", f"{tenant}-ids")
            self.controller.create_session(tenant, tenant, ["web"], "ids", **settings)
            self.controller.wait_for_session(tenant)

    def set_ids(self, ids: Mapping[str, int]) -> None:
        """Have both bridges get these ids at once."""
        words = [("set", "Bridge", b, f"other_config:datapath-id={d:016x}") for b, d in ids.items()]
        vsctl(*words[0], "--", *words[1])

    def wait_for_ids(self, ids: Mapping[str, int]) -> None:
        """Wait until both bridges are at work under these ids."""
        for bridge, dpid in ids.items():
            wait_for(
                lambda b=bridge: self.controller.bridge(b),  # type: ignore[misc]
                lambda now, d=dpid: now.get("id") == f"{d:016x}" and now["state"] == "active",  # type: ignore[misc]
                PATIENCE_S,
            )

    def told(self, tenant: str) -> dict[str, int]:
        """How many copies of a tenant's session each bridge has made, as far as is told."""
        status = self.controller.session(tenant)["status"]
        parts = {share["bridge"]: share["copies"]["packets"] for share in status["bridges"]}
        assert status["copies"]["packets"] == sum(parts.values())
        return parts


@on_both_runtimes
@pytest.mark.parametrize("controller_is", ["running", "restarted", "down"])
def test_bridges_that_exchange_their_ids_keep_their_own_counts(
    lab: Lab, tmp_path: Path, runtime: str, controller_is: str
) -> None:
    with ControllerProcess(tmp_path, TWO_TENANTS, runtime) as controller:
        cloud = TwoTenants(lab, controller)
        cloud.watch()
        with Traffic(cloud.ends.values()) as traffic:
            streams = {t: traffic.add(cloud.ends[f"{t}-web"], WEB, DB) for t in ("red", "blue")}
            for ids in IDS_OF.values():
                for tenant, stream in streams.items():
                    sensor = cloud.ends[f"{tenant}-ids"]
                    check_delivered(traffic, stream, cloud.ends[f"{tenant}-db"], sensor)
                    wait_for(lambda t=tenant: sum(cloud.told(t).values()), bool)  # type: ignore[misc]
                if controller_is == "down":
                    controller.end()
                cloud.set_ids(ids)
                if controller_is == "down":
                    controller.start(**SETTINGS)
                cloud.wait_for_ids(ids)
                if controller_is == "restarted":
                    controller.end()
                    controller.start("s1", "s2", **SETTINGS)
            for tenant, stream in streams.items():
                sensor = cloud.ends[f"{tenant}-ids"]
                check_delivered(traffic, stream, cloud.ends[f"{tenant}-db"], sensor)
            traffic.stop()
            for (tenant, stream), bridge in zip(streams.items(), ("s1", "s2"), strict=True):
                sensor = cloud.ends[f"{tenant}-ids"]
                traffic.wait_for(stream, sensor, traffic.now(stream))
                made = sum(traffic.arrived(stream, sensor).values())
                wait_for(lambda t=tenant: cloud.told(t), {bridge: made}.__eq__)  # type: ignore[misc]


def test_an_exchange_of_ids_stops_no_session_before_its_limit(lab: Lab, tmp_path: Path) -> None:
    limit = 1500
    with ControllerProcess(tmp_path, TWO_TENANTS) as controller:
        cloud = TwoTenants(lab, controller)
        cloud.watch(max_packets=limit)
        with Traffic(cloud.ends.values()) as traffic:
            streams = {t: traffic.add(cloud.ends[f"{t}-web"], WEB, DB) for t in ("red", "blue")}
            for number, ids in enumerate(IDS_OF.values(), 1):
                for tenant, stream in streams.items():
                    sensor = cloud.ends[f"{tenant}-ids"]
                    traffic.wait_until_past(stream, sensor, number * limit // 4)
                cloud.set_ids(ids)
                cloud.wait_for_ids(ids)
            for tenant, stream in streams.items():
                wait_for(
                    lambda t=tenant: controller.session(t)["status"],  # type: ignore[misc]
                    lambda status: status["state"] == "stopped",
                    PATIENCE_S,
                )
                sensor = cloud.ends[f"{tenant}-ids"]
                made, told = wait_for(
                    lambda s=stream, e=sensor, t=tenant: (  # type: ignore[misc]
                        sum(traffic.arrived(s, e).values()),
                        sum(cloud.told(t).values()),
                    ),
                    lambda both: both[0] == both[1],
                )
                assert made == told >= limit


def copies(controller: ControllerProcess) -> int:
    return int(controller.session("one")["status"]["copies"]["packets"])


def replace_bridge(bridge: str) -> None:
    """Delete a bridge and make it anew with the same ports, in two transactions."""
    vsctl("del-br", bridge)
    words = ["add-br", bridge, "--", "set", "Bridge", bridge, f"datapath_type={DATAPATH}"]
    words += ["fail_mode=secure", "protocols=OpenFlow13", 'other_config:hwaddr="02:00:00:00:51:02"']
    words += ["--", "set-controller", bridge, "tcp:127.0.0.1:6653"]
    for number in (1, 5, 9):
        interface = f"{bridge}-eth{number}"
        words += ["--", "add-port", bridge, interface]
        words += ["--", "set", "Interface", interface, f"ofport_request={number}"]
    vsctl(*words)


def test_ids_that_change_again_and_again_leave_no_ghosts(lab: Lab, tmp_path: Path) -> None:
    two_bridges(lab)
    with ControllerProcess(tmp_path, TWO_BRIDGES) as controller:
        controller.start("s1", "s2", **SETTINGS)
        for number in range(3):
            new = new_id("s1", f"02:00:00:00:51:{number:02x}")
            wait_for(lambda: set(bridges(controller)), {new, dpid_of("s2")}.__eq__, PATIENCE_S)
            wait_for(lambda: controller.place("red-web"), ("s1", 1).__eq__, PATIENCE_S)
            controller.wait_for_bridge("s1")


QUALIFIED = {
    "hosts": ("vmbr0@isolated", "vmbr0@hv2"),
    "datapath ids": ("0x51", "0x0000000000000052"),
}


@pytest.mark.parametrize("how", QUALIFIED)
def test_bridges_and_interfaces_of_two_hosts_may_share_their_names(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    other = Hypervisor(lab, tmp_path, "hv2", 2)
    here, there = QUALIFIED[how]
    vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=isolated")
    lab.add_bridge("vmbr0", 0x51, "tcp:127.0.0.1:6653")
    other.add_bridge("vmbr0", 0x52)
    web, ids = lab.add_ports("vmbr0", [1, 5])
    db = other.add_port("vmbr0", 1, "vmbr0-eth1")
    other.link("vmbr0", 9, "vmbr0-eth9", "vmbr0-eth9")
    vsctl(
        *("add-port", "vmbr0", "vmbr0-eth9", "--", "set", "Interface", "vmbr0-eth9"),
        "ofport_request=9",
    )
    inventory = PORTS % (
        *(f'"{here}"', "vmbr0-eth1", f'"{there}"', "vmbr0-eth1", f'"{here}"', "vmbr0-eth5"),
        *(f'"{here}"', "vmbr0-eth9", f'"{there}"', "vmbr0-eth9"),
    )
    with ControllerProcess(tmp_path, inventory) as controller:
        controller.start(**SETTINGS, ovsdb__remotes=f"{LOCAL_DB},{other.database}")
        for reference in (here, there):
            wait_for_state(controller, reference, "active")
        assert controller.status()["problems"] == []
        controller.create_collector("red", "ids", "red-ids")
        controller.create_session("red", "one", ["db"], "ids")
        with Traffic([web, db, ids]) as traffic:
            red = traffic.add(web, WEB, DB)
            check_delivered(traffic, red, db, ids)
        assert controller.api.get("/v1/bridges/vmbr0").status_code == 409
    db.close()


ONE_BRIDGE = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, interface: s1-eth1}
  - {id: red-ids, name: ids, tenant: red, kind: tap, interface: s1-eth5}
"""


def issue_certificates(folder: Path) -> tuple[dict[str, str], dict[str, tuple[str, str, str]]]:
    """Settings of a controller with TLS, and the words of set-ssl for each host."""
    first, second = Authority(folder, "ca"), Authority(folder, "ca2")
    certificate, key = first.issue("controller")
    both = folder / "both.pem"
    both.write_bytes(first.certificate.read_bytes() + second.certificate.read_bytes())
    settings = {
        "openflow__listen": "0.0.0.0:6653",
        "openflow__certificate": certificate,
        "openflow__private_key": key,
        "openflow__ca": str(both),
    }
    words: dict[str, tuple[str, str, str]] = {}
    for who, authority in (("hv1", first), ("hv2", first), ("hv1 renewed", second)):
        mine, my_key = authority.issue(who.split()[0])
        if who == "hv1":  # the second certificate of this name gets files of its own
            mine = str(Path(mine).rename(folder / "first-cert.pem"))
            my_key = str(Path(my_key).rename(folder / "first-key.pem"))
        words[who] = (my_key, mine, str(first.certificate))
    return settings, words


def test_a_certificate_is_bound_to_the_bridge_of_its_host(lab: Lab, tmp_path: Path) -> None:
    other, settings, of = Hypervisor(lab, tmp_path, "hv2", 2), *issue_certificates(tmp_path)
    vsctl("set-ssl", *of["hv1"])
    lab.add_bridge("s1", 0x51, "ssl:127.0.0.1:6653")
    lab.add_ports("s1", [1, 5])
    inventory = ONE_BRIDGE

    def connect() -> None:
        """Let the real bridge connect; while another one claims its id, it is degraded."""
        vsctl("set-controller", "s1", "ssl:127.0.0.1:6653")
        wait_for_state(controller, "s1", "active", "degraded")
        assert controller.bridge("s1")["connected"]

    with ControllerProcess(tmp_path, inventory) as controller:
        controller.start(**settings)
        connect()
        other.vsctl("set-ssl", *of["hv2"])
        other.add_bridge("s1", 0x51, f"ssl:{CONTROLLER_IP}:6653")
        problem = controller.wait_for_problem("certificate of 'hv2'")
        assert other.address in problem and "that of 'hv1'" in problem
        assert "is connected from 127.0.0.1:" in problem
        assert controller.bridge("s1")["connected"]
        # also when the real one is away, and after a restart
        vsctl("set-controller", "s1", "tcp:127.0.0.1:6699")
        wait_for(lambda: controller.bridge("s1")["connected"], lambda seen: not seen)
        controller.end()
        controller.launch(**settings)
        wait_for(controller.is_answering, bool, PATIENCE_S)
        controller.wait_for_problem("certificate of 'hv2'")
        assert not controller.bridge("s1")["connected"]
        assert "cookie" not in other.flows("s1")
        # a renewed certificate with the same name is that of the same host
        vsctl("set-ssl", *of["hv1 renewed"])
        connect()
        # the operator may name another one
        named = inventory + "bridges: [{datapath_id: '0x51', certificate: hv2}]\n"
        controller.inventory.write_text(named)
        vsctl("set-controller", "s1", "tcp:127.0.0.1:6699")
        wait_for(lambda: "cookie" in other.flows("s1"), bool, PATIENCE_S)


def wait_for_state(controller: ControllerProcess, reference: str, *states: str) -> None:
    wait_for(
        lambda: controller.bridge(reference).get("state"), lambda seen: seen in states, PATIENCE_S
    )
