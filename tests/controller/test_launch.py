"""The services put together, without switches and without serving."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from controller.config import Config
from controller.config.settings import (
    ApiConfig,
    BridgesConfig,
    InventoryConfig,
    OvsdbConfig,
    StateConfig,
)
from controller.launch import INVENTORY_KEPT, Services
from controller.process import renewed_files
from controller.reconcile.bridge import Adoption
from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.store import Store, StoreError
from flows.model import Dpid, Network, Port, declared_names
from tests.ovs.waiting import wait_for

OLD, NEW = SwitchPort(3, "s1-eth3", True), SwitchPort(4, "s1-eth4", True)
BRIDGE = SwitchPort(LOCAL_PORT, "s1", True)
OLD_TOKEN, NEW_TOKEN = "old-" + 20 * "t", "new-" + 20 * "t"


class Nobody:
    """No connections at all."""

    def send(self, datapath: Any, data: bytes) -> bool:
        return False

    def disconnect(self, datapath: Any, why: str) -> None:
        raise AssertionError("there is nobody")

    def close(self, datapath: Any) -> None:
        raise AssertionError("there is nobody")

    def adopted(self, datapath: Any) -> None:
        raise AssertionError("there is nobody")

    def queued(self, datapath: Any) -> int:
        return 0

    def is_behind(self, datapath: Any) -> bool:
        return False

    def address_of(self, datapath: Any) -> str:
        raise AssertionError("there is nobody")

    def certificate_end_of(self, datapath: Any) -> float | None:
        return None

    def refusals(self) -> dict[str, str]:
        return {}

    def certificate_of(self, datapath: Any) -> str | None:
        raise AssertionError("there is nobody")

    def problems(self) -> tuple[str, ...]:
        return ()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    config = Config(ovsdb=OvsdbConfig(remotes=()), state=StateConfig(directory=tmp_path))
    made = Services(config, Nobody())
    yield made
    made.reports.tracker.stop()
    made.store.close()


def test_a_token_that_is_replaced_is_asked_for_and_one_that_cannot_be_used_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_files, "LOOK_AT_FILES_S", 0.0)
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(OLD_TOKEN)
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("tenants: [red]\n")
    config = Config(
        ovsdb=OvsdbConfig(remotes=()),
        inventory=InventoryConfig(file=inventory),
        state=StateConfig(directory=tmp_path / "state"),
        api=ApiConfig(listen="127.0.0.1:0", token_file=file),
    )
    services = Services(config, Nobody())
    services.start()
    try:
        assert services._api is not None
        url = f"http://127.0.0.1:{services._api.address[1]}/v1/status"

        def ask(token: str) -> tuple[int, list[str]]:
            """The status, and the problems of the whole system."""
            answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            return answer.status_code, answer.json().get("problems", [])

        assert ask(OLD_TOKEN) == (200, [])
        for content, mode, words in (
            ("", 0o600, "needs one word of at least 16 letters"),
            ("short", 0o600, "needs one word of at least 16 letters"),
            (NEW_TOKEN, 0o644, f"type `chmod go= {file}`"),
        ):
            new = tmp_path / "token.new"
            new.touch(mode=mode)
            new.write_text(content)
            new.replace(file)
            _, (problem,) = wait_for(
                lambda: ask(OLD_TOKEN), lambda seen, words=words: words in "".join(seen[1])
            )
            assert problem.startswith("the old token is still used: [api] token_file: ")
            assert ask(NEW_TOKEN)[0] == 401
        file.unlink()
        wait_for(lambda: ask(OLD_TOKEN), lambda seen: "No such file" in "".join(seen[1]))

        file.touch(mode=0o600)
        file.write_text(NEW_TOKEN)
        wait_for(lambda: ask(NEW_TOKEN), lambda seen: seen == (200, []))
        assert ask(OLD_TOKEN)[0] == 401
    finally:
        services.stop()


class Changing:
    """A bridge on which port 3 gives way to port 4 while it reports its ports."""

    dpid, name, certificate = Dpid(1), "s1", None

    def __init__(self, services: Services) -> None:
        self.services, self.told = services, 0

    def rename(self, name: str) -> None:
        self.name = name

    def adopt(self) -> None:
        """What it reports counts from now on, as it did before."""

    def ports(self) -> tuple[SwitchPort, ...]:
        self.told += 1
        if self.told == 2:  # the answer is on its way already when the port changes
            for reason, port in ((PortReason.DELETED, OLD), (PortReason.ADDED, NEW)):
                self.services.reports.tracker.port_changed(self.dpid, PortChange(reason, port))
        return (BRIDGE, OLD if self.told <= 2 else NEW)

    def probe(self) -> tuple[str, ...]:
        return ()


def test_a_port_that_changes_while_a_bridge_reports_its_ports_is_not_overlooked(
    services: Services,
) -> None:
    switch: Any = Changing(services)
    adoption = Adoption(
        ownership=BridgesConfig(),
        fail_modes=services.reports.ovsdb,
        ports=services.reports.tracker,
    )

    adoption.adopt(switch)

    (record,) = services.reports.placements.snapshot().records
    assert [(row.interface, row.ofport) for row in record.rows] == [("s1-eth4", 4)]


def test_a_part_that_cannot_be_stopped_keeps_no_other_from_being_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(ovsdb=OvsdbConfig(remotes=()), state=StateConfig(directory=tmp_path))
    services = Services(config, Nobody())

    def fail() -> None:
        raise OverflowError("Python int too large")

    def refuse() -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(services.control.limits, "keep", fail)
    monkeypatch.setattr(services.bridges.lifecycle, "stop", refuse)
    with capture_logs() as logs:
        services.stop()
    told = [(each["event"], each.get("part")) for each in logs]
    assert told == [
        ("not stopped in order", "counts of copies"),
        ("not stopped in order", "writers"),
        ("controller stopped", None),
    ]
    Services(config, Nobody()).stop()  # the state directory is free


DECLARED = """\
tenants: [red, blue]
networks: [{{id: net-1, name: lan, tenant: {owner}}}]
ports: [{{id: soc, tenant: {owner}, kind: tap}}]
"""


@pytest.mark.parametrize("owner", ["red", "blue"])
def test_numbers_of_an_older_version_stay_with_the_tenant_that_had_them_then(
    tmp_path: Path, owner: str
) -> None:
    """The inventory in force then is kept; the file may have changed since."""
    file = tmp_path / "inventory.yaml"
    file.write_text(DECLARED.format(owner=owner))
    state = StateConfig(directory=tmp_path / "state")
    Store(state.directory).close()
    with sqlite3.connect(state.directory / "state.db") as connection:
        for kind, key in (("network", "net-1"), ("port", "soc"), ("tag", "tap:soc")):
            connection.execute(
                "INSERT INTO numbers (kind, key, number) VALUES (?, ?, 7)", (kind, key)
            )
        connection.execute("UPDATE schema SET version = 8")
    connection.close()
    (state.directory / INVENTORY_KEPT).write_text(DECLARED.format(owner="red"))
    taken = InventoryConfig(file=file, vanish_limit=1, settle_seconds=0)
    config = Config(ovsdb=OvsdbConfig(remotes=()), state=state, inventory=taken)
    made = Services(config, Nobody())
    try:
        made.reports.inventory.reload_if_changed()
        found = made.store.numbers_for(declared_names(*_parts(made)))
        numbers = {*found.network.values(), *found.port.values(), found.tag["tap:soc"]}
        assert (numbers == {7}) == (owner == "red") and (7 in numbers) == (owner == "red")
    finally:
        made.reports.tracker.stop()
        made.store.close()


def _parts(services: Services) -> tuple[tuple[Network, ...], tuple[Port, ...]]:
    inventory = services.reports.inventory_in_force()
    assert inventory.ports, "it is read"
    return inventory.networks, inventory.ports
