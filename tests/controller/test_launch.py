"""The services put together, without switches and without serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller import launch
from controller.config.settings import Config, OvsdbConfig, StateConfig
from controller.launch import Services
from controller.southbound.errors import Displaced
from controller.southbound.wire.message import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.reconcile.bridge.confirmed import Depth
from flows.model.session import Dpid

OLD, NEW = SwitchPort(3, "s1-eth3", True), SwitchPort(4, "s1-eth4", True)
BRIDGE = SwitchPort(LOCAL_PORT, "s1", True)


class Nobody:
    """No connections at all."""

    def send(self, datapath: Any, data: bytes) -> bool:
        return False

    def hang_up(self, datapath: Any, why: str) -> None:
        raise AssertionError("there is nobody")

    def queued(self, datapath: Any) -> int:
        return 0


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    config = Config(ovsdb=OvsdbConfig(remotes=()), state=StateConfig(directory=tmp_path))
    made = Services(config, Nobody())
    yield made
    made.movements.stop()
    made.store.close()


class Changing:
    """A bridge on which port 3 gives way to port 4 while it tells its ports."""

    dpid, name = Dpid(1), "s1"

    def __init__(self, services: Services) -> None:
        self.services, self.told = services, 0

    def ports(self) -> tuple[SwitchPort, ...]:
        self.told += 1
        if self.told == 2:  # the answer is on its way already when the port changes
            for reason, port in ((PortReason.DELETED, OLD), (PortReason.ADDED, NEW)):
                self.services.movements.port_changed(self.dpid, PortChange(reason, port))
        return (BRIDGE, OLD if self.told <= 2 else NEW)

    def probe(self) -> tuple[str, ...]:
        return ()


def test_a_port_that_changes_while_a_bridge_tells_its_ports_is_not_overlooked(
    services: Services,
) -> None:
    switch: Any = Changing(services)

    services._greet(switch)

    (record,) = services.places.snapshot().records
    assert [(row.interface, row.ofport) for row in record.rows] == [("s1-eth4", 4)]


def test_a_bridge_that_another_controller_leads_is_looked_at_when_it_should_settle(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[tuple[Depth, str | None]] = []

    def nudge() -> None:
        raise Displaced("s1")

    switch: Any = SimpleNamespace(dpid=Dpid(1), name="s1", nudge=nudge)
    said = SimpleNamespace(bridges=(SimpleNamespace(dpid=Dpid(1)),))
    monkeypatch.setattr(launch, "REMOTE_SETTLE_S", 0.0)
    monkeypatch.setattr(launch, "wait_revalidated", lambda timeout_s, nudge: nudge())
    monkeypatch.setattr(services.ovsdb, "snapshot", lambda: said)
    monkeypatch.setattr(
        services.reconciler, "recheck", lambda depth, name: looked_at.append((depth, name))
    )

    assert services._settle([switch], 1.0)
    assert looked_at == [(Depth.COOKIES, "s1")]
