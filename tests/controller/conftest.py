"""A store, a fake reconciler and an API client, over an inventory that a module may replace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from netaddr import IPNetwork

from controller.api import make_app
from controller.inventory import Inventory
from controller.store import Store
from tests.controller.fakes import TWO_TENANTS, FakeReconciler, fill, open_store


@pytest.fixture
def inventory() -> Inventory:
    return TWO_TENANTS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def fake(store: Store, inventory: Inventory) -> FakeReconciler:
    return fill(store, inventory)


@pytest.fixture
def client(store: Store, inventory: Inventory, fake: FakeReconciler) -> FlaskClient:
    everywhere = (IPNetwork("0.0.0.0/0"), IPNetwork("::/0"))
    app = make_app(store, lambda: inventory, fake, fake, sensor_networks=everywhere)
    return app.test_client()
