"""Lines for interfaces that are in no inventory: what is known is right, and the rest is asked."""

from __future__ import annotations

import pytest
from netaddr import EUI

from controller.inventory import InterfaceName, Inventory, port_line
from controller.inventory.file import parse
from controller.inventory.values import InventoryError

ONE = "tenants: [red]\nnetworks:\n  - {name: lan, tenant: red}\nports:\n"
MANY = "tenants: [red, blue]\nnetworks:\n  - {name: lan, tenant: red}\nports:\n"
MAC = EUI("02:00:00:00:00:01")


def declared(text: str, place: InterfaceName, iface_id: str | None = None) -> tuple[str, Inventory]:
    """The line for a place, and the inventory with it."""
    line = port_line(parse((text + "  []\n").encode()), place, iface_id, MAC)
    return line, parse(f"{text}  {line}\n".encode())


@pytest.mark.parametrize("interface", ["s1-eth9", "vnet,1", "t{}", "null", "12", "0x1", "a:", "~"])
def test_a_line_is_accepted_as_it_is_where_nothing_has_to_be_asked(interface: str) -> None:
    _, found = declared(ONE, InterfaceName("s1@hv 1".replace(" ", ""), interface))

    (port,) = found.ports
    hint = found.hints[port.id]
    assert (hint.bridge, hint.interface, port.mac) == ("s1@hv1", interface, MAC)


def test_a_line_with_a_word_that_a_person_must_replace_is_refused() -> None:
    line = port_line(parse((MANY + "  []\n").encode()), InterfaceName("s1", "s1-eth9"), None, None)

    assert line == (
        "- {id: s1-eth9, tenant: TENANT, network: NETWORK, interface: s1-eth9, bridge: s1}"
    )
    with pytest.raises(InventoryError, match="tenant 'TENANT' is not in the list"):
        parse(f"{MANY}  {line}\n".encode())


def test_an_interface_with_an_iface_id_is_declared_by_that_alone() -> None:
    line, found = declared(ONE, InterfaceName("br-int", "tap1"), "6e2c")

    assert line == '- {id: 6e2c, tenant: red, network: lan, mac: "02:00:00:00:00:01"}'
    assert not found.hints


def test_an_iface_id_that_cannot_be_an_id_is_a_comment() -> None:
    known = parse((ONE + "  []\n").encode())
    line = port_line(known, InterfaceName("s1", "tap1"), "two words", None)

    assert line.startswith("# ") and '"two words"' in line
    assert parse(f"{ONE}  {line}\n  []\n".encode()) == known


def test_an_id_that_another_port_has_is_not_given_again() -> None:
    text = ONE + "  - {id: e1, tenant: red, network: lan}\n"
    line = port_line(parse(text.encode()), InterfaceName("s1", "e1"), None, None)

    assert line.startswith("- {id: s1-e1,")
    assert len(parse(f"{text}  {line}\n".encode()).ports) == 2
