"""Ports that change without end cost the world nothing, unless something declared is meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.inventory import Inventory
from controller.inventory.values import PortHint
from controller.process import ChangeSignal
from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.store import Store
from controller.topology import Placements, PlacementTracker, SensorHealth
from controller.topology import hops as hops_module
from controller.topology import placements as placements_module
from flows.model import Dpid, Ofport, Placement, Port, PortId, PortKind, Setting, TenantName
from tests.ovs.waiting import wait_for

OURS, STRANGER = Dpid(1), Dpid(99)
MESSAGES, PORTS = 2000, 500
FEW = 3
"""Merges and versions of the world that so many messages may cause, whatever is in them."""
TAP = Port(PortId("ids"), "ids", TenantName("red"), None, PortKind.TAP)
DECLARED = Inventory(ports=(TAP,), hints={TAP.id: PortHint("s1", "tap0")})
CLOSED = frozenset([Setting.NO_FORWARD])


class FakeBridge:
    """A switch that has these ports, and reports changes while it is asked for them."""

    certificate = None

    def __init__(self, dpid: Dpid, name: str, *ports: SwitchPort) -> None:
        self.dpid, self._ports = dpid, [SwitchPort(LOCAL_PORT, name, True), *ports]
        self.asked = 0
        self.while_asked = lambda: None

    def ports(self) -> list[SwitchPort]:
        """Its ports as they were before it reports more."""
        self.asked += 1
        before = list(self._ports)
        self.while_asked()
        return before


class World:
    """The tracker with all that listens to it, and what it costs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.changes = Store(folder / "state"), ChangeSignal()
        self.placements = Placements()
        self.health = SensorHealth(lambda: DECLARED, self.placements.snapshot, self.changes)
        self.tracker = PlacementTracker(
            placements=self.placements, changes=self.changes, store=self.store.placements,
            links=self.health,
        )  # fmt: skip
        self.merges = self.computed = 0
        merge, hop = placements_module.merge_reports, hops_module._hop

        def counted_merge(*args: object) -> object:
            self.merges += 1
            return merge(*args)  # type: ignore[arg-type]

        def counted_hop(*args: object) -> object:
            self.computed += 1
            return hop(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(placements_module, "merge_reports", counted_merge)
        monkeypatch.setattr(hops_module, "_hop", counted_hop)
        self.tracker.declare(DECLARED)
        self.connect(FakeBridge(OURS, "s1", SwitchPort(4, "tap0", True)))
        self.connect(FakeBridge(STRANGER, "s99", *(port(n) for n in range(1, PORTS + 1))))
        self.build()

    def connect(self, bridge: FakeBridge) -> None:
        """A bridge has connected."""
        self.tracker.bridge_connected(bridge)  # type: ignore[arg-type]

    def build(self) -> None:
        """Read what is known, as a new version of the world does."""
        self.health.down({})
        self.health.hops()

    def place(self) -> Placement | None:
        """Where the declared port is."""
        return self.placements.snapshot().placements.get(TAP.id)

    def settle(self) -> None:
        """Wait until all that was reported is looked at: the declared port moves, last of all."""
        place = self.place()
        assert place is not None
        number = int(place.ofport) + 1
        for change in (
            (PortReason.DELETED, SwitchPort(int(place.ofport), "tap0", True)),
            (
                PortReason.ADDED,
                SwitchPort(number, "tap0", True),
            ),
        ):
            self.tracker.port_changed(OURS, PortChange(*change))
        wait_for(self.place, lambda found: found == Placement(OURS, Ofport(number)))
        wait_for(lambda: self.tracker.waiting, lambda count: count == 0)
        self.build()

    def cost(self) -> tuple[int, int, int]:
        """Versions of the world, merges and computed hops until now."""
        return self.changes.version, self.merges, self.computed

    def stop(self) -> None:
        """End all threads."""
        self.tracker.stop()
        self.health.stop()
        self.store.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    built = World(tmp_path, monkeypatch)
    yield built
    built.stop()


def port(number: int, name: str = "", settings: frozenset[Setting] = frozenset()) -> SwitchPort:
    return SwitchPort(number, name or f"e{number}", True, settings)


def noise(world: World, dpid: Dpid, names: tuple[str, str]) -> tuple[int, int, int]:
    """Have ports of a bridge change many times, names and settings; what that cost."""
    world.settle()
    before = world.cost()
    for n in range(MESSAGES):
        changed = port(10 + n % 50, names[n // 50 % 2], CLOSED if n // 50 % 2 else frozenset())
        world.tracker.port_changed(dpid, PortChange(PortReason.MODIFIED, changed))
        if n % 100 == 0:  # as the writers do when they are woken
            world.build()
    world.settle()
    versions, merges, hops = (now - was for now, was in zip(world.cost(), before, strict=True))
    return versions, merges, hops


def test_ports_of_a_bridge_that_is_nobodys_make_no_world(world: World) -> None:
    versions, merges, hops = noise(world, STRANGER, ("x", "y"))
    assert versions <= FEW and merges <= FEW, "the declared port has moved, and no more"
    assert hops <= MESSAGES + 2 * FEW, "one for each message, however many ports there are"


def test_a_bridge_that_is_nobodys_and_uses_a_declared_name_is_looked_at_seldom(
    world: World,
) -> None:
    versions, merges, _ = noise(world, STRANGER, ("tap0", "y"))
    assert versions <= FEW and merges <= 2 * FEW
    assert world.place() is not None


def test_ports_of_our_bridges_that_are_not_declared_make_no_world(world: World) -> None:
    versions, merges, hops = noise(world, OURS, ("x", "y"))
    assert versions <= FEW and merges < MESSAGES / 10
    assert hops <= MESSAGES + 2 * FEW


def test_what_is_held_back_of_a_bridge_counts_once_it_matters(world: World) -> None:
    """It was nobody's, and the port that it had is declared later."""
    change = PortChange(PortReason.ADDED, port(7, "tap9", CLOSED))
    world.tracker.port_changed(STRANGER, change)
    world.build()
    assert Placement(STRANGER, Ofport(7)) not in world.health.hops()
    declared = Inventory(ports=(TAP,), hints={TAP.id: PortHint("s99", "tap9")})
    world.tracker.declare(declared)
    assert world.place() == Placement(STRANGER, Ofport(7))
    world.build()
    assert world.health.hops()[Placement(STRANGER, Ofport(7))].settings == CLOSED
    before = world.changes.version
    change = PortChange(PortReason.MODIFIED, port(7, "tap9"))
    world.tracker.port_changed(STRANGER, change)
    wait_for(lambda: world.changes.version, lambda version: version > before)


def test_a_bridge_that_changes_while_it_is_greeted_is_asked_for_its_ports_once(
    world: World,
) -> None:
    changed = PortChange(PortReason.ADDED, port(8, "new"))
    bridge = FakeBridge(Dpid(5), "s5", port(8, "old"))
    bridge.while_asked = lambda: world.tracker.port_changed(Dpid(5), changed)
    world.connect(bridge)
    assert bridge.asked == 1
    records = {record.dpid: record for record in world.placements.snapshot().records}
    assert [row.interface for row in records[Dpid(5)].rows] == ["new"], "the list is older"
