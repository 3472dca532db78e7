"""After every change of the inventory a session watches the ports that match its source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from controller.api import make_app
from controller.inventory import Inventory
from controller.inventory.file import parse
from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder, Writers
from controller.reconcile.protocols import NoTunnels
from controller.reconcile.report import CounterPoller, Inspector
from controller.status import SessionCountersByBridge
from controller.store import BridgeRecord, InterfaceRecord, Store
from controller.topology import Placements, PlacementTracker
from flows.model import Dpid
from tests.controller.api.test_sessions import IDS, WEB
from tests.controller.fakes import FakeReconciler, open_store

BEFORE = """
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: dmz, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: t, name: ids-1, tenant: red, kind: tap, interface: t}
  - {id: a, tenant: red, network: lan, labels: {tier: web}, interface: a}
  - {id: x, tenant: blue, network: lan, labels: {tier: web}, interface: x}
"""
AFTER = f"""{BEFORE}
  - {{id: b, tenant: red, network: lan, interface: b}}
  - {{id: c, tenant: red, network: dmz, labels: {{tier: web, zone: z}}, interface: c}}
"""


class Lab:
    """An inventory, one bridge that has all of it, and the API over the real reconciler."""

    def __init__(self, store: Store) -> None:
        self.inventory = parse(BEFORE.encode())
        self.places = Placements()
        rows = tuple(InterfaceRecord(name, None, n) for n, name in enumerate("tabcx", 1))
        self.places.remember([BridgeRecord(Dpid(1), "s1", rows)])
        self.changes = ChangeSignal()
        self.world = SnapshotBuilder(
            store, lambda: self.inventory, self.places.snapshot, changes=self.changes
        )
        fake = FakeReconciler(store)
        fake.world, fake.changes = self.world, self.changes
        counters = SessionCountersByBridge()
        writers = Writers()
        inspector = Inspector(
            changes=self.changes,
            snapshots=self.world,
            writers=writers,
            counters=CounterPoller(counters, writers.writing),
            installed_sessions=store.installed_sessions,
            bridges=PlacementTracker(
                placements=self.places, changes=self.changes, store=store.placements
            ),
            tunnels=NoTunnels(),
            is_ready=lambda: False,
        )
        self.client = make_app(store, lambda: self.inventory, fake, inspector).test_client()
        self.declare(self.inventory)

    def declare(self, inventory: Inventory) -> None:
        """The inventory file was changed."""
        self.inventory = inventory
        self.places.declare(inventory)
        self.changes.changed()

    def with_port(self, declaration: str) -> Inventory:
        """The first inventory and one port more."""
        return parse(f"{BEFORE}  - {declaration}\n".encode())

    def watched(self, session: str) -> list[str]:
        """The ids of the ports that a session watches now."""
        [found] = [
            resolved_session
            for resolved_session in self.world.snapshot().resolved.sessions.values()
            if resolved_session.session.name == session
        ]
        return sorted(port.id for port in found.watched)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    store = open_store(tmp_path)
    yield Lab(store)
    store.close()


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        ({"kind": "port", "ports": ["a"]}, ["a"], ["a"]),
        ({"kind": "network", "networks": ["lan"]}, ["a"], ["a", "b"]),
        ({"kind": "tenant"}, ["a"], ["a", "b", "c"]),
        ({"kind": "label", "labels": {"tier": "web"}}, ["a"], ["a", "c"]),
        ({"kind": "label", "labels": {"tier": "web", "zone": "z"}}, [], ["c"]),
    ],
)
def test_ports_that_are_added_later_are_watched_if_they_match_the_source(
    lab: Lab, source: dict[str, Any], before: list[str], after: list[str]
) -> None:
    client: FlaskClient = lab.client
    assert client.post("/v1/collectors", json=IDS).status_code == 201
    made = client.post("/v1/sessions", json=WEB | {"source": source})
    assert made.status_code == 201, made.get_data(as_text=True)
    assert lab.watched("web") == before

    lab.declare(parse(AFTER.encode()))
    assert lab.watched("web") == after
    lab.declare(parse(BEFORE.encode()))
    assert lab.watched("web") == before


def test_a_network_shows_a_tag_once_a_collector_may_need_it(lab: Lab) -> None:
    url = "/v1/networks/dmz"
    assert lab.client.get(url).get_json()["tag"] is None
    lab.client.post("/v1/collectors", json=IDS | {"tenant_tag": None})
    assert lab.client.get(url).get_json()["tag"] is None
    lab.client.patch("/v1/collectors/ids", json={"tenant_tag": "auto"})

    assert lab.client.get(url).get_json()["tag"] in range(1, 4095)
