"""What the world and the status show of a bridge of somebody else that is tapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder
from controller.southbound.ovsdb import Device, InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.database import OvsdbDatabase
from controller.southbound.ovsdb.rows import DatabaseContent
from controller.status import State
from controller.store import Store
from controller.topology import Placements, PlacementTracker, SensorHealth
from controller.topology.reused_numbers import ReusedNumber, ReusedNumbers
from flows.model import Datapath, Dpid, PortId, World
from tests.controller.rig import Rig
from tests.controller.topology.test_attachments import (
    BR_INT,
    CT,
    LOCAL,
    MADE,
    OTHER_OWNER,
    OWNER,
    OWNER_END,
    TAP,
    TAP_END,
    VM1,
    VM2,
    WEB,
    bridge,
    database,
    declared,
    host,
    interface,
    tapped,
)
from tests.controller.topology.test_identity import HOST1, HOST2, said, together
from tests.controller.topology.test_placements import at, switch_ports
from tests.ovs.waiting import wait_for

LIMITED = Device(mtu=1500, takes_any_length=False)
COPIED = replace(BR_INT, mirrors=(MADE,))


class Part:
    """Everything between the reports of databases and the world, on a store that stays."""

    def __init__(self, folder: Path) -> None:
        self.store, self.changes = Store(folder / "state"), ChangeSignal()
        self.places = Placements()
        self.places.remember(self.store.placements.bridges(), self.store.placements.places())
        inventory = declared("web", "db")
        self.health = SensorHealth(lambda: inventory, self.places.snapshot, self.changes)
        self.tracker = PlacementTracker(
            placements=self.places,
            changes=self.changes,
            store=self.store.placements,
            links=self.health,
        )
        self.snapshots = SnapshotBuilder(
            self.store,
            lambda: inventory,
            self.places.snapshot,
            changes=self.changes,
            sensors=self.health,
        )
        self.tracker.declare(inventory)

    def report(self, snapshot: OvsdbSnapshot) -> None:
        """The databases report, and everybody has heard of it."""
        self.tracker.interfaces_changed(snapshot)
        wait_for(lambda: self.tracker.waiting, lambda waiting: waiting == 0)

    @property
    def world(self) -> World:
        return self.snapshots.snapshot().resolved.world

    def close(self) -> None:
        self.tracker.stop()
        self.health.stop()
        self.store.close()


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    made = Part(tmp_path)
    yield made
    made.close()


def test_the_world_has_attachments_and_a_mirror_alone_makes_another_world(part: Part) -> None:
    part.report(host(VM1))
    first = part.world
    assert first.attachments[TAP].owner == OWNER and not first.attachments[TAP].mirrors
    before = part.changes.version
    part.report(host(VM1, OWNER_END, TAP_END, owner=COPIED))
    wait_for(lambda: part.changes.version, lambda version: version > before)
    second = part.world
    assert second.attachments[TAP].mirrors == {WEB: 3}
    assert second.placements is first.placements
    before = part.changes.version
    part.report(host(VM1, OWNER_END, TAP_END, owner=replace(COPIED)))
    assert part.changes.version == before, "nothing has changed"
    part.report(host(VM1, tap=None))
    wait_for(lambda: part.changes.version, lambda version: version > before)
    assert not part.world.attachments and "web" not in part.world.placements


def test_the_ports_of_attachments_are_those_of_the_placements_of_one_moment(part: Part) -> None:
    part.report(host(VM1))
    world = part.world
    part.places.report_interfaces(host(replace(VM2, ofport=VM1.ofport)))
    seen = part.places.snapshot()
    assert world.placements["web"] == seen.placements["db"] == tapped(5)
    assert world.attachments[TAP].ports[VM1.ofport].row == "port row of vm1"
    assert seen.attachments[TAP].ports[VM1.ofport].row == "port row of vm2"


def test_what_is_known_of_a_tapped_port_is_found_at_its_place(part: Part) -> None:
    part.report(host(replace(VM1, device=LIMITED, is_up=False), replace(VM2, is_up=True)))
    hop = part.world.hops[tapped(5)]
    assert (hop.bridge, hop.interface, hop.mtu) == ("br-int", "vm1", 1500)
    assert part.world.hop_of(PortId("web")) == hop
    assert at(OWNER, 5) not in part.world.hops
    assert part.world.datapaths[TAP] is Datapath.USERSPACE
    assert part.snapshots.links_down() == {tapped(5)}
    before = part.changes.version
    part.report(host(replace(VM1, device=replace(LIMITED, mtu=9000), is_up=True), VM2))
    wait_for(lambda: part.changes.version, lambda version: version > before)
    assert part.world.hops[tapped(5)].mtu == 9000 and not part.snapshots.links_down()


def test_a_claim_on_a_tapped_bridge_is_no_claim_of_a_port_of_the_tap_bridge(part: Part) -> None:
    there = said(Dpid(9), "s9", HOST2, {"e1": (1, "web")})
    part.places.report_ports(Dpid(9), switch_ports("s9", e1=1))
    part.report(together(host(), there))
    assert part.world.placements["web"] == at(Dpid(9), 1)
    part.report(together(host(VM1), there))
    wait_for(lambda: part.world.contests.get(PortId("web")), lambda at: at == (tapped(5),))
    assert not part.world.claims_by_dpid


def test_hops_follow_a_bridge_that_is_tapped_and_tapped_no_more(part: Part) -> None:
    part.report(host(VM1, tap=None))
    assert not part.world.hops
    part.report(host(VM1))
    assert tapped(5) in part.world.hops
    part.report(host(VM1, tap=None))
    assert not part.world.hops


def test_a_restart_finds_both_bridges_and_the_places(tmp_path: Path) -> None:
    before = Part(tmp_path)
    before.report(host(VM1))
    wait_for(before.store.placements.places, lambda places: "port web" in places)
    before.close()
    after = Part(tmp_path)
    stored = {record.dpid: record for record in after.store.placements.bridges()}
    assert stored.keys() == {OWNER, TAP}
    assert "web" not in after.world.placements
    assert after.places.bridge_names() == {TAP: "ct-br-int"}
    after.report(host(VM1))
    wait_for(lambda: after.world.placements.get(PortId("web")), lambda at: at == tapped(5))
    after.close()


def test_who_forgets_a_tap_bridge_forgets_the_bridge_that_it_taps(part: Part) -> None:
    part.places.report_ports(TAP, switch_ports("ct-br-int", ids0=1))
    part.report(host(VM1))
    wait_for(part.store.placements.places, lambda places: "port web" in places)
    part.tracker.forget(TAP, "tester", {})
    assert part.store.placements.bridges() == ()
    wait_for(part.store.placements.places, lambda places: places == {})
    assert not part.world.attachments and not part.world.placements


def test_a_number_that_passes_to_another_port_is_noticed_when_the_owner_gets_another_id() -> None:
    numbers, web, db = ReusedNumbers(lambda: 0.0), PortId("web"), PortId("db")
    numbers.follow({web: tapped(5)})
    numbers.move({OWNER: OTHER_OWNER})
    there = tapped(5, owner=OTHER_OWNER)
    assert numbers.follow({web: there}) == []
    assert numbers.follow({db: there}) == [ReusedNumber(there, web, db)]


def test_the_fail_mode_of_an_owners_bridge_is_left_alone() -> None:
    rows = [replace(row, fail_mode="") for row in (BR_INT, CT)]
    watched = OvsdbDatabase(HOST1, lambda: database(*rows))
    watched.take({"state": "synced", "reason": ""})
    for dpid in (OWNER, TAP):
        watched.secure(dpid)
    watched.content = DatabaseContent(tuple(rows))
    assert [request["bridge"] for request in watched.requests()] == [CT.row]
    watched.content = DatabaseContent((rows[0],))
    assert not list(watched.requests()), "nor later: what was asked for is forgotten"
    watched.secure(OWNER)
    assert [request["bridge"] for request in watched.requests()] == [BR_INT.row]


class TestStatus:
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        built = Rig(tmp_path)
        for dpid in (1, 2, 3):
            built.connect(dpid)
        wait_for(lambda: built.reconciler.sync(10), bool)
        yield built
        built.close()

    def attach(self, rig: Rig, *rows: InterfaceRow) -> None:
        """Have s1 tap br-int."""
        tap = bridge(Dpid(1), "s1", "br-int")
        own = [interface(tap, f"s1-eth{n}", n) for n in (1, 2, 7, 9, 10)]
        rig.tracker.interfaces_changed(database(BR_INT, tap, rows=(LOCAL, *rows, *own)))
        wait_for(lambda: rig.world.snapshot().resolved.world.attachments, bool)

    def test_a_tap_bridge_says_what_it_taps_and_the_owners_bridge_is_not_listed(
        self, rig: Rig
    ) -> None:
        self.attach(rig, replace(VM1, iface_id="c"))
        shown = {status.name: status for status in rig.inspector.bridges()}
        assert shown.keys() == {"s1", "s2", "s3"}
        assert "taps bridge 'br-int' (owned by somebody else)" in shown["s1"].reasons
        assert shown["s1"].connected and shown["s1"].state is not State.INACTIVE
        assert not any("taps" in reason for reason in shown["s2"].reasons)

    def test_a_workload_and_what_is_undeclared_are_shown_on_the_owners_bridge(
        self, rig: Rig
    ) -> None:
        hints = {port: hint for port, hint in rig.inventory.hints.items() if port != "c"}
        rig.declare(replace(rig.inventory, hints=hints))
        self.attach(rig, replace(VM1, iface_id="c"), VM2)
        place = wait_for(
            lambda: rig.inspector.places_of(["c"]).get("c"),
            lambda found: found is not None and found.bridge == "br-int",
        )
        assert place is not None and (place.dpid, place.ofport) == (OWNER, 5)
        left = rig.inspector.left_out(10)
        shown = {(one.bridge, one.interface) for one in left.undeclared}
        assert ("br-int", "vm2") in shown and ("br-int", "vm1") not in shown
