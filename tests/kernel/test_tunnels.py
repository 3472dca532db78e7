"""Copies in every kind of tunnel leave a host whose bridges have the kernel's datapath."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound.ovsdb import MARK, tunnel_name, tunnel_type
from flows.model import TUNNEL_KEYS, Datapath, Delivery, Dpid, TunnelKind
from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import vsctl
from tests.ovs.small_cloud import DB, INVENTORY, WEB
from tests.ovs.waiting import wait_for
from tests.tunnels import unwrap

DPID = Dpid(0x51)
FOUR, SIX = "192.0.2.9", "fd00:9::9"
SENSORS = {4: FOUR, 6: SIX}
SENSOR_MAC = bytes.fromhex("020000009999")
FRAME = frames.ethernet(DB, WEB, 0x88B7, bytes(range(200)))

Copy = tuple[Delivery, str, bytes]
"""A copy at the sensor: its kind of tunnel, the address, and the inner frame."""


class Host:
    """A bridge ``s1`` with two workloads, and a device by which the host reaches sensors."""

    def __init__(self) -> None:
        for scope in ("all", "default"):  # or the kernel sends frames of its own as a workload
            _disable_ipv6(scope, "1")
        _add_veth_pair("under", "under-far")
        _disable_ipv6("under", "0")
        _run("ip address add 192.0.2.1/24 dev under")
        _run("ip -6 address add fd00:9::1/64 dev under nodad")
        for address in SENSORS.values():
            lladdr = SENSOR_MAC.hex(":")
            _run(f"ip neighbour replace {address} lladdr {lladdr} dev under nud permanent")
        self._far = Endpoint("", 0, "under", "under-far")
        vsctl(
            *("add-br", "s1", "--", "set", "Bridge", "s1"),
            *(f"datapath_type={Datapath.KERNEL.value}", "fail_mode=secure", "protocols=OpenFlow13"),
            f"other_config:datapath-id={DPID:016x}",
        )
        self.web, self.db = (_workload(n, name) for n, name in ((1, "red-web"), (2, "red-db")))
        vsctl("set-controller", "s1", TARGET)

    def close(self) -> None:
        for end in (self._far, self.web, self.db):
            end.close()
        vsctl("del-br", "s1")
        for device in ("under", "s1-eth1", "s1-eth2"):
            _run(f"ip link del {device}")

    def copies(self) -> list[Copy]:
        """The copies at the sensor since the last call."""
        found: list[Copy] = []
        while (outer := self._far.receive_raw()) is not None:
            if outer[:6] == SENSOR_MAC and (carried := unwrap(outer)) is not None:
                found.append((carried.delivery, carried.address, carried.frame))
        return found

    def send(self, wanted: Counter[Copy]) -> Counter[Copy]:
        """Send FRAME from web to db, and wait for what should be copied; all that was."""
        self.web.send(FRAME)
        got: Counter[Copy] = Counter()

        def look() -> Counter[Copy]:
            got.update(self.copies())
            return got

        wait_for(look, lambda seen: all(seen[copy] >= n for copy, n in wanted.items()))
        wait_for(self.db.receive_raw, lambda frame: frame == FRAME)
        return look()


def _disable_ipv6(device: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text(value)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True, timeout=60)


def _add_veth_pair(near: str, far: str) -> None:
    _run(f"ip link add {near} mtu 1600 type veth peer name {far} mtu 1600")
    _run(f"ip link set {near} up")
    _run(f"ip link set {far} up")


def _workload(number: int, iface_id: str) -> Endpoint:
    near, far = f"s1-eth{number}", f"s1-far{number}"
    _add_veth_pair(near, far)
    vsctl(
        *("add-port", "s1", near, "--", "set", "Interface", near, f"ofport_request={number}"),
        f"external_ids:iface-id={iface_id}",
    )
    return Endpoint("s1", number, near, far)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


@pytest.fixture
def controller(tmp_path: Path, host: Host) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", bridges__underlay_mtu="1600")
        yield process
        assert "Traceback" not in process.log()


def deliver(controller: ControllerProcess, name: str, delivery: Delivery, *addresses: str) -> None:
    """A collector of this name, and a session of the same name that copies to it."""
    sensors = [{"address": address} for address in addresses]
    body = {"tenant": "red", "name": name, "delivery": delivery.value, "sensors": sensors}
    answer = controller.api.post("/v1/collectors", json=body)
    assert answer.status_code == 201, answer.text
    created = controller.create_session("red", name, ["web"], name)
    assert created["status"]["state"] == "active", created["status"]


def ports() -> dict[str, str]:
    """The type of each tunnel port of ours, by its name."""
    found: dict[str, str] = {}
    for name in vsctl("list-ports", "s1").split():
        # it may be deleted meanwhile
        row = vsctl("--if-exists", "get", "Interface", name, "type", "external_ids")
        if MARK in row:
            found[name] = row.split()[0]
    return found


def named(*kinds: TunnelKind) -> dict[str, str]:
    return {tunnel_name(DPID, kind): tunnel_type(kind) for kind in kinds}


def test_ipv4_and_ipv6_sensors_get_the_same_bytes_by_every_kind_of_tunnel(
    host: Host, controller: ControllerProcess
) -> None:
    wanted: Counter[Copy] = Counter()
    for delivery in TUNNEL_KEYS:
        for family, address in SENSORS.items():
            deliver(controller, f"{delivery.value}-{family}", delivery, address)
            wanted[delivery, address, FRAME] += 1
    assert ports() == named(*TunnelKind)
    assert host.send(wanted) == wanted
    assert host.send(wanted) == wanted, "the second frame is forwarded without an upcall"
    for delivery in TUNNEL_KEYS:
        assert controller.delete_session(f"{delivery.value}-6") == 204
        del wanted[delivery, SIX, FRAME]
    wait_for(ports, named(*(kind for kind in TunnelKind if not kind.is_over_ipv6)).__eq__)
    assert host.send(wanted) == wanted


@pytest.mark.parametrize("delivery", [Delivery.GRE, Delivery.ERSPAN2])
def test_a_pool_of_both_families_copies_to_each_by_its_own_port(
    host: Host, controller: ControllerProcess, delivery: Delivery
) -> None:
    deliver(controller, "pool", delivery, FOUR)
    plain = named(TunnelKind(delivery.value))
    assert ports() == plain
    body = {"add_sensors": [{"address": SIX}]}
    assert controller.api.patch("/v1/collectors/pool", json=body).status_code == 200
    wait_for(ports, lambda seen: len(seen) == 2)
    controller.wait_for_session("pool")
    got: Counter[Copy] = Counter()
    for number in range(64):
        data = frames.udp(1000 + number, 53, bytes(100))
        packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, data)
        host.web.send(frames.ethernet(DB, WEB, 0x0800, packet))

    def look() -> Counter[Copy]:
        got.update(host.copies())
        return got

    wait_for(look, lambda seen: seen.total() >= 64)
    assert set(got.values()) == {1} and got.total() == 64
    assert {(kind, address) for kind, address, _ in got} == {(delivery, FOUR), (delivery, SIX)}


def test_a_sensor_of_the_other_family_says_what_a_host_lacks(
    host: Host, controller: ControllerProcess
) -> None:
    name = tunnel_name(DPID, TunnelKind.GRE_OVER_IPV6)
    _add_veth_pair(name, "somebodys")
    vsctl("add-port", "s1", name)
    body = {"tenant": "red", "name": "soc", "delivery": "gre", "sensors": [{"address": SIX}]}
    assert controller.api.post("/v1/collectors", json=body).status_code == 201
    controller.create_session("red", "soc", ["web"], "soc")
    controller.wait_for_session("soc", "pending", "cannot have its tunnel port for gre over IPv6")
    vsctl("del-port", "s1", name)
    _run(f"ip link del {name}")
    controller.wait_for_session("soc")
    wanted = Counter({(Delivery.GRE, SIX, FRAME): 1})
    assert host.send(wanted) == wanted
