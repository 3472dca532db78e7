"""Offloads of tap ports' devices: which are looked at, switched off, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pytest
import structlog
from netaddr import EUI

from controller.devices import DeviceName, TransmitOffload
from controller.inventory import Inventory
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.device import read_device
from controller.topology.hops import Hops
from controller.topology.offloads import Devices, OffloadWatch, TapOffloads
from controller.topology.placements import PlacementsSnapshot
from flows.model import (
    Dpid,
    Network,
    NetworkId,
    Offloads,
    Ofport,
    Placement,
    Port,
    PortId,
    PortKind,
    TenantName,
)
from tests.ovs.waiting import wait_for

RED, LAN = TenantName("red"), NetworkId("lan")
HERE, FAR = "unix:/run/openvswitch/db.sock", "ssl:192.0.2.7:6640"
S1 = Dpid(1)
WEB_AT, IDS_AT = Placement(S1, Ofport(1)), Placement(S1, Ofport(9))
WEB = Port(PortId("web"), "web", RED, LAN, mac=EUI("02-00-00-00-00-01"))
IDS = Port(PortId("ids"), "ids", RED, None, PortKind.TAP)
INVENTORY = Inventory((RED,), (Network(LAN, "lan", RED),), (WEB, IDS))
PLACES = {WEB.id: WEB_AT, IDS.id: IDS_AT}
ON, OFF = TransmitOffload("veth", is_on=True), TransmitOffload("veth", is_on=False)
IDS_DEVICE, WEB_DEVICE = DeviceName("ids0", 19), DeviceName("web0", 11)


def row(name: str, number: int, **record: object) -> InterfaceRow:
    """An interface of s1; by default a veth device whose index is its port number and 10."""
    said = {"driver": "veth", "ifindex": number + 10, **record}
    return InterfaceRow(
        S1, "s1", name, ofport=Ofport(number), database=HERE, bridge_row="u1",
        device=read_device({key: value for key, value in said.items() if value is not None}),
    )  # fmt: skip


def snapshot(*rows: InterfaceRow, database: str = HERE, datapath: str = "system") -> OvsdbSnapshot:
    bridge = BridgeRow(S1, "s1", "secure", datapath, database, "u1")
    rows = rows or (row("web0", 1), row("ids0", 9))
    return OvsdbSnapshot((bridge,), tuple(replace(each, database=database) for each in rows))


class Host(Devices):
    """Some devices; what was read and switched off is noted. ``refusal`` is why they are not."""

    def __init__(self) -> None:
        self.devices: dict[DeviceName, TransmitOffload] = {IDS_DEVICE: ON, WEB_DEVICE: ON}
        self.refusal: str | None = None
        self.read_names: set[str] = set()
        self.switched: list[DeviceName] = []
        self.looks = 0

    def read(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, TransmitOffload]:
        wanted = list(devices)
        self.looks += 1
        self.read_names |= {device.name for device in wanted}
        return {device: self.devices[device] for device in wanted if device in self.devices}

    def switch_off(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, str]:
        if self.refusal is not None:
            return dict.fromkeys(devices, self.refusal)
        for device in devices:
            self.switched.append(device)
            self.devices[device] = replace(self.devices[device], is_on=False)
        return {}


class Scene:
    """A watch of a host, with everything that may change."""

    def __init__(self, taps: TapOffloads = TapOffloads.OFF) -> None:
        self.host, self.snapshot, self.changes = Host(), snapshot(), 0
        self.inventory, self.places = INVENTORY, PLACES
        self.watch = OffloadWatch(
            inventory=lambda: self.inventory,
            placements=lambda: PlacementsSnapshot(placements=self.places),
            databases=lambda: self.snapshot,
            changed=self.changed,
            devices=self.host,
            taps=taps,
            every_s=0.01,
        )

    def changed(self) -> None:
        self.changes += 1

    def known(self) -> Offloads | None:
        return self.watch.known().get(IDS_AT)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.watch.stop()


@pytest.fixture
def keeping() -> Iterator[Scene]:
    made = Scene(TapOffloads.KEEP)
    yield made
    made.watch.stop()


def test_the_device_of_a_tap_port_is_switched_off_and_that_of_a_workload_not_looked_at(
    scene: Scene,
) -> None:
    assert scene.watch.known() == {IDS_AT: Offloads.FINISHED}
    assert scene.host.switched == [IDS_DEVICE]
    assert scene.host.read_names == {"ids0"}


def test_what_is_to_stay_stays_and_is_known(keeping: Scene) -> None:
    assert keeping.known() is Offloads.LEFT
    assert keeping.host.switched == []


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [("Operation not permitted", Offloads.LEFT), ("", Offloads.ALWAYS_LEFT)],
)
def test_what_cannot_be_switched_off_is_known(
    scene: Scene, refusal: str, expected: Offloads
) -> None:
    scene.host.refusal = refusal
    assert scene.known() is expected


def test_a_device_that_cannot_be_seen_is_known_as_such(scene: Scene) -> None:
    scene.host.devices.clear()
    assert scene.known() is Offloads.UNSEEN


@pytest.mark.parametrize(
    "content",
    [
        snapshot(datapath="netdev"),
        snapshot(database=FAR),
        snapshot(row("ids0", 9, driver="mlx5_core")),
        snapshot(row("ids0", 9, type="internal")),
        snapshot(row("ids0", 9, type="patch")),
        snapshot(row("ids0", 9, ifindex=None)),
    ],
    ids=["userspace", "far", "network card", "internal", "patch", "without a device"],
)
def test_other_ports_are_not_looked_at(scene: Scene, content: OvsdbSnapshot) -> None:
    scene.snapshot = content
    assert scene.watch.known() == {}
    assert scene.host.read_names == set()


def test_a_network_card_is_not_switched_off_although_its_database_does_not_say_what_it_is(
    scene: Scene,
) -> None:
    scene.snapshot = snapshot(row("ids0", 9, driver=None))
    scene.host.devices[IDS_DEVICE] = TransmitOffload("mlx5_core", is_on=True)
    assert scene.known() is Offloads.FINISHED
    assert scene.host.switched == []


def test_a_port_that_is_no_tap_port_any_more_is_left_alone(scene: Scene) -> None:
    scene.inventory = replace(INVENTORY, ports=(WEB,))
    assert scene.watch.known() == {}
    assert scene.host.switched == []


def test_a_device_that_is_made_anew_is_switched_off_before_it_is_asked_for(scene: Scene) -> None:
    assert scene.known() is Offloads.FINISHED
    anew = DeviceName("ids0", 20)
    scene.host.devices = {anew: ON}
    scene.snapshot = snapshot(row("ids0", 9, ifindex=20))
    assert scene.known() is Offloads.FINISHED
    assert scene.host.switched == [IDS_DEVICE, anew]


def test_a_device_that_is_switched_on_again_is_found(scene: Scene) -> None:
    assert scene.known() is Offloads.FINISHED
    scene.watch.start()
    scene.host.devices[IDS_DEVICE] = ON
    wait_for(lambda: len(scene.host.switched), lambda seen: seen == 2)
    assert scene.changes == 0, "nothing else is known than before"


def test_what_happens_to_a_device_is_logged_once(scene: Scene) -> None:
    with structlog.testing.capture_logs() as logged:
        scene.host.refusal = "Operation not permitted"
        assert scene.known() is Offloads.LEFT
        scene.watch.start()
        looks = scene.host.looks
        wait_for(lambda: scene.host.looks, lambda seen: seen > looks + 3)
        scene.host.refusal = None
        wait_for(lambda: scene.host.switched, bool)
        scene.host.devices[IDS_DEVICE] = ON
        wait_for(lambda: len(scene.host.switched), lambda seen: seen == 2)
        scene.watch.stop()
    events = [(each["event"], each.get("reason")) for each in logged]
    assert events == [
        ("offloads of tap port not switched off", "Operation not permitted"),
        ("offloads of tap port switched off", None),
    ]


def test_what_is_new_is_signalled(keeping: Scene) -> None:
    before = keeping.watch.known()
    assert keeping.watch.known() is before
    keeping.watch.start()
    keeping.host.devices[IDS_DEVICE] = OFF
    wait_for(lambda: keeping.changes, lambda seen: seen == 1)
    assert keeping.known() is Offloads.FINISHED


# --- what hops say -------------------------------------------------------------------------------


def offloads(content: OvsdbSnapshot, seen: Offloads | None = None) -> Offloads:
    hops = Hops()
    hops.report_interfaces(content)
    if seen is not None:
        hops.report_offloads({IDS_AT: seen})
        assert not hops.report_offloads({IDS_AT: seen}), "nothing else is known"
    return hops.known()[IDS_AT].offloads


@pytest.mark.parametrize(
    ("record", "here", "far"),
    [
        ({}, Offloads.UNSEEN, Offloads.FAR),
        ({"driver": None}, Offloads.UNSEEN, Offloads.FAR),
        ({"driver": "ixgbe"}, Offloads.FINISHED, Offloads.FINISHED),
        ({"driver": "openvswitch", "type": "internal"}, *[Offloads.ALWAYS_LEFT] * 2),
        ({"type": "internal", "offloads": "off"}, *[Offloads.ALWAYS_LEFT] * 2),
        ({"type": "patch", "ifindex": None}, *[Offloads.UNSEEN] * 2),
        ({"type": "patch", "ifindex": None, "offloads": "off"}, *[Offloads.FINISHED] * 2),
        ({"offloads": "off@19"}, *[Offloads.FINISHED] * 2),
        ({"offloads": "off"}, *[Offloads.FINISHED] * 2),
        ({"offloads": "off@18"}, *[Offloads.OUTDATED] * 2),
        ({"offloads": "off@None", "ifindex": None}, *[Offloads.OUTDATED] * 2),
        ({"offloads": "on"}, Offloads.UNSEEN, Offloads.FAR),
    ],
)
def test_what_a_database_alone_tells(
    record: dict[str, object], here: Offloads, far: Offloads
) -> None:
    rows = row("web0", 1), row("ids0", 9, **record)
    assert offloads(snapshot(*rows)) is here
    assert offloads(snapshot(*rows, database=FAR)) is far
    assert offloads(snapshot(*rows, datapath="netdev")) is Offloads.FINISHED


def test_what_was_seen_counts_and_not_what_is_recorded() -> None:
    recorded = snapshot(row("ids0", 9, offloads="off@19"))
    assert offloads(recorded, Offloads.LEFT) is Offloads.LEFT
    assert offloads(recorded, Offloads.UNSEEN) is Offloads.FINISHED
    assert offloads(snapshot(), Offloads.FINISHED) is Offloads.FINISHED
