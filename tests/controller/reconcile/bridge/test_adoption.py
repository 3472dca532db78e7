"""Which bridges are adopted, what they are asked, and what is left alone."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import Any, cast

import pytest

from controller.reconcile.bridge import Adoption
from controller.southbound import (
    LOCAL_PORT,
    NotOurs,
    OfAnotherBridge,
    Switch,
    SwitchPort,
    SwitchUnfit,
)
from flows.model import Dpid

S1 = Dpid(1)
LOCAL, PORT = SwitchPort(LOCAL_PORT, "br-int", True), SwitchPort(1, "vm1", True)


class Asked:
    """A switch that lacks some features; it records what it is asked."""

    dpid, name, certificate = S1, "0000000000000001", "hv1"

    def __init__(self, *missing: str, ports: tuple[SwitchPort, ...] = (PORT, LOCAL)) -> None:
        self._missing, self._ports = missing, ports
        self.asked: list[str] = []

    def rename(self, name: str) -> None:
        self.name = name

    def adopt(self) -> None:
        self.asked.append("adopted")

    def ports(self) -> tuple[SwitchPort, ...]:
        self.asked.append("ports")
        return self._ports

    def probe(self) -> tuple[str, ...]:
        self.asked.append("features")
        return self._missing


class Neighbours:
    """Those that adoption asks and informs, in one; it records what it is told."""

    def __init__(self, *own: str) -> None:
        self._own = own
        self.why = ""
        self.tapped: list[str] = []
        """What is said of the bridge each time when somebody asks whether it is tapped."""
        self.told: list[Any] = []

    def may_own(self, dpid: Dpid, name: str, hosts: Collection[str]) -> bool:
        return name in self._own or any(f"{name}@{host}" in self._own for host in hosts)

    def hosts_of(self, dpid: Dpid) -> tuple[str, ...]:
        return ("host-in-its-database",)

    def why_another(self, dpid: Dpid, ports: Set[str]) -> str:
        assert ports <= {PORT.name}
        return self.why

    def why_not_ours(self, dpid: Dpid) -> str:
        return self.tapped.pop(0) if self.tapped else ""

    def secure(self, dpid: Dpid) -> None:
        self.told.append(("secure", dpid))

    def bridge_connected(self, switch: Switch) -> None:
        self.told.append(("connected", switch.dpid, tuple(switch.ports())))


def adopt(switch: Asked, neighbours: Neighbours) -> None:
    Adoption(ownership=neighbours, fail_modes=neighbours, ports=neighbours).adopt(
        cast(Switch, switch)
    )


def test_a_bridge_that_is_ours_and_fit_is_made_secure_and_its_ports_are_reported() -> None:
    switch, neighbours = Asked(), Neighbours("br-int")

    adopt(switch, neighbours)

    assert switch.name == "br-int"
    assert neighbours.told == [("connected", S1, (PORT, LOCAL)), ("secure", S1)]
    assert switch.asked[:3] == ["ports", "features", "adopted"]


def test_a_bridge_of_others_is_asked_for_its_name_alone() -> None:
    switch, neighbours = Asked(), Neighbours("br-ex")

    with pytest.raises(NotOurs, match="bridge 'br-int' is left alone"):
        adopt(switch, neighbours)

    assert (switch.asked, neighbours.told) == (["ports"], [])


def test_a_bridge_that_is_tapped_is_left_alone_even_if_the_configuration_lists_it() -> None:
    switch, neighbours = Asked(), Neighbours("br-int")
    neighbours.tapped = ["it is owned by somebody else"]

    with pytest.raises(NotOurs, match="'br-int' is left alone: it is owned by somebody else"):
        adopt(switch, neighbours)

    assert (switch.asked, neighbours.told) == (["ports"], [])


def test_a_bridge_that_is_tapped_meanwhile_is_not_made_secure() -> None:
    switch, neighbours = Asked(), Neighbours("br-int")
    neighbours.tapped = ["", "it is owned by somebody else"]

    with pytest.raises(NotOurs):
        adopt(switch, neighbours)

    assert not any(told[0] == "secure" for told in neighbours.told)


def test_a_bridge_that_may_be_another_one_is_asked_for_its_ports_alone() -> None:
    switch, neighbours = Asked(), Neighbours("br-int")
    neighbours.why = "it may be either of two"

    with pytest.raises(OfAnotherBridge, match="'br-int' keeps the flows that it has: it may be"):
        adopt(switch, neighbours)

    assert (switch.asked, neighbours.told) == (["ports"], [])


@pytest.mark.parametrize("host", ["hv1", "host-in-its-database"])
def test_a_bridge_is_known_by_its_host_too(host: str) -> None:
    switch, neighbours = Asked(), Neighbours(f"br-int@{host}")

    adopt(switch, neighbours)

    assert neighbours.told[-1] == ("secure", S1)


def test_a_bridge_that_lacks_a_feature_is_not_touched_and_says_what_it_lacks() -> None:
    switch, neighbours = Asked("the clone action"), Neighbours("br-int")

    with pytest.raises(SwitchUnfit, match="bridge 'br-int' lacks the clone action"):
        adopt(switch, neighbours)

    assert neighbours.told == []
    assert "adopted" not in switch.asked


def test_a_bridge_without_a_local_port_keeps_the_name_that_it_has() -> None:
    switch, neighbours = Asked(ports=(PORT,)), Neighbours(Asked.name)

    adopt(switch, neighbours)

    assert switch.name == Asked.name
    assert neighbours.told[-1] == ("secure", S1)
