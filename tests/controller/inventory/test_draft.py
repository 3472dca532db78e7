"""Drafts of inventories: always valid, and what a bridge cannot tell is asked, never guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import EUI

from controller.inventory import SeenInterface, Sight, draft
from controller.inventory.file import parse
from controller.inventory.values import InterfaceName, LinkHint

MAC, OTHER = EUI("02:00:00:00:00:01"), EUI("02:00:00:00:00:02")
WEB = SeenInterface("s1", "s1-eth1")


def sight(*interfaces: SeenInterface, bridges: tuple[str, ...] = ("s1", "s2")) -> Sight:
    seen = {name: [i for i in interfaces if i.bridge == name] for name in bridges}
    return Sight("unix:/db", seen, {i.name: i.bridge for i in interfaces})


def declared(text: str) -> list[str]:
    """The ports in force."""
    return [port.id for port in parse(text.encode()).ports]


def asked(text: str) -> list[str]:
    return [line for line in text.splitlines() if "DECIDE:" in line]


def test_ports_are_declared_with_what_is_known_and_the_owner_is_asked() -> None:
    tap = SeenInterface("s1", "tap1", iface_id="6e2c", mac=OTHER)
    text = draft(sight(replace(WEB, learned=(MAC,)), tap))
    found = parse(text.encode())

    assert [(p.id, p.mac, p.tenant) for p in found.ports] == [
        ("s1-eth1", MAC, "undecided"),
        ("6e2c", OTHER, "undecided"),
    ]
    assert found.hints["s1-eth1"].bridge == "s1" and "6e2c" not in found.hints
    owner, learned = asked(text)
    assert "who owns" in owner and "s1-eth1" in learned and "learned" in learned
    assert not asked(draft(sight(WEB), "red"))


def test_each_vlan_of_linked_bridges_is_a_network_and_bridges_apart_have_their_own() -> None:
    here, there = SeenInterface("s1", "a", tag=10), SeenInterface("s2", "b", tag=10)
    end, other = SeenInterface("s1", "x", peer="y"), SeenInterface("s2", "y", peer="x")

    apart = parse(draft(sight(here, there)).encode())
    linked = parse(draft(sight(here, there, end, other)).encode())

    assert [n.name for n in apart.networks] == ["vlan-10-s1", "vlan-10-s2"]
    assert [n.name for n in linked.networks] == ["vlan-10"]
    assert linked.links == (LinkHint(InterfaceName("s1", "x"), InterfaceName("s2", "y")),)
    assert [p.id for p in linked.ports] == ["a", "b"]


def test_ends_of_patch_ports_that_do_not_name_each_other_are_no_link() -> None:
    one = SeenInterface("s1", "x", "patch", peer="y")
    assert not parse(draft(sight(one, SeenInterface("s2", "y", "patch", peer="z"))).encode()).links


@pytest.mark.parametrize(
    ("seen", "question"),
    [
        (replace(WEB, driver="e1000e"), "an uplink? 's1-eth1' is a network card"),
        (replace(WEB, learned=(MAC, OTHER)), "an uplink, or a router? 2 addresses"),
        (replace(WEB, is_trunk=True), "carries several VLANs"),
        (replace(WEB, is_bonded=True), "part of a bond"),
        (replace(WEB, gets_copies=True), "a tap port?"),
        (replace(WEB, error="No such device"), "could not open it: No such device"),
        (replace(WEB, iface_id="two words"), "cannot be an id"),
        (replace(WEB, type="patch", peer="far"), ""),
        (replace(WEB, type="vxlan", is_tunnel=True), ""),
        (replace(WEB, is_ours=True), ""),
    ],
)
def test_what_may_be_no_workload_is_not_declared_but_asked(
    seen: SeenInterface, question: str
) -> None:
    text = draft(sight(seen), "red")

    assert declared(text) == []
    assert [question in line for line in asked(text)] == ([True] if question else [])


def test_the_other_end_of_a_cable_to_a_bridge_that_was_not_named_is_asked_for() -> None:
    seen = Sight("unix:/db", {"s1": [replace(WEB, peer="far")]}, {"far": "br-tun"})
    (line,) = asked(draft(seen, "red"))
    assert "veth pair to 'far' of bridge 'br-tun'" in line


def test_an_address_and_an_id_that_two_ports_have_are_asked() -> None:
    first, second = replace(WEB, mac=MAC), replace(WEB, name="s1-eth2", mac=MAC)
    text = draft(sight(first, second), "red")
    assert [p.mac for p in parse(text.encode()).ports] == [MAC, None]
    assert len(asked(text)) == 1
    text = draft(sight(replace(first, iface_id="x"), replace(second, iface_id="x")), "red")
    assert declared(text) == [] and len(asked(text)) == 2


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
INTERFACES = st.builds(
    SeenInterface,
    bridge=st.sampled_from(["s1", "br:2", "0x7"]),
    name=WORDS,
    type=st.sampled_from(["", "internal", "patch", "vxlan", "dpdk"]),
    iface_id=st.none() | WORDS,
    mac=st.none() | st.sampled_from([MAC, OTHER]),
    learned=st.lists(st.sampled_from([MAC, OTHER]), max_size=2, unique=True).map(tuple),
    peer=st.just("") | WORDS,
    driver=st.sampled_from(["", "veth", "e1000"]),
    error=st.just("") | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])),
    tag=st.none() | st.integers(1, 3),
    is_trunk=st.booleans(),
    is_tunnel=st.booleans(),
    gets_copies=st.booleans(),
)


@given(st.lists(INTERFACES, max_size=12, unique_by=lambda i: i.name))
def test_every_draft_is_a_valid_inventory(interfaces: list[SeenInterface]) -> None:
    parse(draft(sight(*interfaces, bridges=("s1", "br:2", "0x7"))).encode())
