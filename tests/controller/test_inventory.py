"""The inventory says all that is wrong, with the line, and never takes away what was good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import EUI, IPAddress

from controller.inventory.file import (
    MAX_BYTES,
    SETTLE_S,
    InterfaceName,
    InventoryError,
    InventoryFile,
    LinkHint,
    PortHint,
    parse,
)
from flows.model.session import PortKind

GOOD = b"""\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: lan, tenant: blue}
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan, mac: 10:20:30:40:50:51,
     ips: [10.0.0.1, "fe80::1"], interface: s1-eth1}
  - {id: red-ids-1, name: ids-1, tenant: red, kind: tap, interface: s1-eth5}
  - {id: red-lb, tenant: red, network: lan, interface: s1-eth3}
  - {id: red-fw, name: fw, tenant: red, network: lan, mac: "02:00:00:00:00:04",
     anti_spoofing: false, bridge: s1, interface: s1-eth4}
  - {id: blue-web-1, name: web-1, tenant: blue, network: lan, mac: 10:20:30:40:50:51}
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
"""

HEAD = """\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: dmz, tenant: blue, id: blue-dmz}
ports:
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: eth1, bridge: s1}
"""


def problems_of(text: str | bytes) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        parse(text.encode() if isinstance(text, str) else text, "inventory.yaml")
    return list(caught.value.problems)


def test_a_good_inventory_is_read_whole() -> None:
    inventory = parse(GOOD)

    assert inventory.tenants == ("red", "blue")
    web, ids, lb, fw, blue = inventory.ports
    assert (web.id, web.name, web.ips) == (
        "red-web-1",
        "web-1",
        (IPAddress("10.0.0.1"), IPAddress("fe80::1")),
    )
    assert web.mac == EUI("10:20:30:40:50:51") == blue.mac
    assert web.is_protected and not lb.is_protected and not fw.is_protected
    assert (ids.kind, ids.network) == (PortKind.TAP, None)
    assert lb.name == "red-lb"
    assert web.network != blue.network
    assert inventory.hints["red-web-1"] == PortHint(None, "s1-eth1")
    assert inventory.hints["red-fw"] == PortHint("s1", "s1-eth4")
    assert "blue-web-1" not in inventory.hints
    assert inventory.links == (
        LinkHint(InterfaceName("s1", "s1-eth9"), InterfaceName("s2", "s2-eth9")),
    )


def test_a_network_keeps_its_id_when_the_file_is_read_again() -> None:
    assert parse(GOOD).networks == parse(GOOD + b"# more\n").networks


def test_an_inventory_of_nothing_is_an_inventory() -> None:
    assert parse(b"ports: []\n") == parse(b"") == parse(b"tenants:\nports: ~\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{id: b, tenant: red, network: lan, mac: x}", "port 'b': MAC 'x' is not an address"),
        ("{id: b, tenant: red, network: lan, mac: '00:00:00:00:00:00'}", "is not an address"),
        ("{id: b, tenant: red, network: lan, mac: '01:00:00:00:00:02'}", "is a group address"),
        (
            "{id: b, tenant: red, network: lan, mac: 02-00-00-00-00-01}",
            "port 'b': MAC '02:00:00:00:00:01' in its network is already declared in line 6",
        ),
        (
            "{id: a, tenant: red, name: c, network: lan}",
            "port id 'a' is already declared in line 6",
        ),
        (
            "{id: b, tenant: red, name: a, network: lan}",
            "port 'a' of tenant 'red' is already declared in line 6",
        ),
        ("{id: b, tenant: green, network: lan}", "tenant 'green' is not in the list `tenants`"),
        ("{id: b, tenant: red, network: wan}", "port 'b': tenant 'red' has no network 'wan'"),
        ("{id: b, tenant: red, network: blue-dmz}", "which belongs to tenant 'blue'"),
        ("{id: b, tenant: red}", "port 'b' needs a network"),
        ("{id: b, tenant: red, kind: tap, network: lan}", "tap port 'b' may not have `network`"),
        ("{id: b, tenant: red, kind: tap, ips: [10.0.0.1]}", "tap port 'b' may not have `ips`"),
        ("{id: b, tenant: red, kind: hub, network: lan}", "kind 'hub' is neither `vm` nor `tap`"),
        ("{id: b, tenant: red, network: lan, anti_spoofing: true}", "port 'b' has no MAC address"),
        ("{id: b, tenant: red, network: lan, anti_spoofing: maybe}", "say true or false"),
        ("{id: b, tenant: red, network: lan, ips: [1.2]}", "'1.2' is not the IP address"),
        ("{id: b, tenant: red, network: lan, ips: [10.0.0.1/24]}", "is not the IP address"),
        ("{id: b, tenant: red, network: lan, ips: [224.0.0.1]}", "is not the IP address"),
        ("{id: b, tenant: red, network: lan, ips: [[]]}", "is not the IP address"),
        ("{id: b, tenant: red, network: lan, ips: 10.0.0.1}", "`ips` is written as a list"),
        ("{id: b, tenant: red, network: lan, ips: ['::1', '0::1']}", "'::1' is given twice"),
        (
            "{id: b, tenant: red, network: lan, interface: eth1}",
            "port 'b': interface 'eth1' is already used by port 'a' in line 6",
        ),
        ("{id: b, tenant: red, network: lan, bridge: s1}", "`bridge` needs `interface` with it"),
        ("{id: b, tenant: red, network: lan, interface: 'a b'}", "interface 'a b' is not a name"),
        ("{id: b c, tenant: red, network: lan}", "'b c' is not a name"),
        ("{id: b, tenant: red, netwrok: lan}", "a port has no key 'netwrok'"),
        ("{tenant: red, network: lan}", "a port needs `id`"),
        ("{id: b, network: lan}", "a port needs `tenant`"),
        ("{id: b, id: c, tenant: red, network: lan}", "key 'id' is given twice"),
        ("{id: [b], tenant: red, network: lan}", "`id` is one value"),
        ("{id: b, tenant: red, network: !!python/object:os.system lan}", "write plain values"),
        ("{id: &x b, tenant: red, network: *x }", "alias *x: write the value out"),
        ("{[1]: b}", "a key must be one word"),
        ("b", "a port is written as keys and values"),
        ("{id: b, tenant: red, network: lan, mac: [}", "not valid YAML"),
        ("{id: b}\n---\nports: []", "a second document begins here"),
    ],
)
def test_a_bad_port_is_named_with_its_line(line: str, sentence: str) -> None:
    found = problems_of(f"{HEAD}  - {line}\n")

    assert any(sentence in problem for problem in found), found
    assert all(
        problem.startswith(("inventory.yaml:7: ", "inventory.yaml:8: ")) for problem in found
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "{from: {bridge: s1, interface: x}, to: {bridge: s1, interface: y}}",
            "a link joins bridge 's1' to itself",
        ),
        (
            "{from: {bridge: s1, interface: eth1}, to: {bridge: s2, interface: y}}",
            "interface 'eth1' is already used by port 'a' in line 6",
        ),
        ("{from: {bridge: s1}, to: {bridge: s2, interface: y}}", "`from` of a link needs"),
        ("{from: {bridge: s1, interface: x}}", "a link needs `to`"),
        ("{from: s1, to: s2}", "`from` of a link is written as keys and values"),
    ],
)
def test_a_bad_link_is_named_with_its_line(line: str, sentence: str) -> None:
    found = problems_of(f"{HEAD}links:\n  - {line}\n")

    assert any(sentence in problem for problem in found), found
    assert all(problem.startswith("inventory.yaml:8: ") for problem in found)


def test_the_same_interface_name_on_two_bridges_is_two_interfaces() -> None:
    parse(f"{HEAD}  - {{id: b, tenant: red, network: lan, interface: eth1, bridge: s2}}\n".encode())


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_lines() -> None:
    found = problems_of(
        "tenants: [red, red]\n"
        "networks:\n"
        "  - {name: lan, tenant: nobody}\n"
        "  - {name: lan, tenant: nobody}\n"
        "ports:\n"
        "  - {id: a, tenant: red, network: nix, mac: bad}\n"
        "what: 1\n"
    )

    assert [int(problem.split(":")[1]) for problem in found] == [1, 3, 4, 4, 6, 6, 7]


def test_tenants_and_networks_are_written_in_their_shape() -> None:
    assert problems_of("tenants: red\n") == ["inventory.yaml:1: `tenants` is written as a list"]
    assert "a tenant is a name" in problems_of("tenants: [{name: red}]\n")[0]
    assert "is written as keys and values" in problems_of("- red\n")[0]


def test_an_alias_bomb_is_refused_without_being_expanded() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c " % (c - 1)] * 9)) for c in range(98, 120)
    )

    assert any("write the value out" in problem for problem in problems_of(bomb))


def test_a_file_that_is_nested_too_deep_or_too_large_is_refused() -> None:
    assert "nested deeper than 10 levels" in problems_of(b"[" * 20)[0]
    assert "nest" in problems_of(b"[" * 100_000)[0]  # newer libyaml says it in its words
    assert "larger than 16 MiB" in problems_of(b"#" * (MAX_BYTES + 1))[0]


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    assert problems_of(b"tenants: [red]\n# \xff\n") == ["inventory.yaml:2: this is not UTF-8 text"]
    told = problems_of(b"tenants: [red]\n# \x07\n")[0]
    assert told.startswith("inventory.yaml:2: not valid YAML")


YAML_LIKE = st.text(alphabet="{}[]:,-&*!|>'\"#%@`\n\t ab1~<?\x00\ud7ff", max_size=60)


@given(st.one_of(st.binary(max_size=200), YAML_LIKE.map(str.encode)))
def test_any_bytes_give_an_inventory_or_an_inventory_error(text: bytes) -> None:
    try:
        parse(text)
    except InventoryError as error:
        assert error.problems


@given(st.data())
def test_a_damaged_good_file_gives_an_inventory_or_an_inventory_error(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(begin, min(begin + 20, len(GOOD))))
    text = GOOD[:begin] + data.draw(YAML_LIKE).encode() + GOOD[end:]
    try:
        parse(text)
    except InventoryError as error:
        assert all(problem.startswith("inventory.yaml:") for problem in error.problems)


# --- the file ------------------------------------------------------------------------------


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def settle(self) -> None:
        self.seconds += SETTLE_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> InventoryFile:
    (tmp_path / "inventory.yaml").write_bytes(GOOD)
    file = InventoryFile(tmp_path / "inventory.yaml", clock)
    change = file.reload_if_changed()
    assert change is not None and change.after == parse(GOOD)
    return file


def rewrite(path: Path, text: bytes) -> None:
    """Write and make sure that the time of change differs."""
    before = path.stat().st_mtime_ns
    path.write_bytes(text)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


def test_a_file_that_stays_the_same_is_no_change(file: InventoryFile, clock: Clock) -> None:
    clock.settle()

    assert file.reload_if_changed() is None
    assert file.is_known and file.problems == ()


def test_a_changed_file_is_read_when_it_has_settled(file: InventoryFile, clock: Clock) -> None:
    rewrite(file.path, b"tenants: [red]\n")
    assert file.reload_if_changed() is None
    rewrite(file.path, b"tenants: [green]\n")
    clock.settle()
    assert file.reload_if_changed() is None, "it changed since it was looked at"
    clock.settle()
    change = file.reload_if_changed()

    assert change is not None
    assert change.before == parse(GOOD)
    assert change.after.tenants == file.inventory.tenants == ("green",)


def test_an_editors_rename_is_harmless(file: InventoryFile, clock: Clock) -> None:
    file.path.unlink()
    assert file.reload_if_changed() is None
    file.path.write_bytes(GOOD)
    assert file.reload_if_changed() is None
    clock.settle()

    assert file.reload_if_changed() is None
    assert file.inventory == parse(GOOD) and file.problems == ()


@pytest.mark.parametrize("bad", [GOOD[:200], b"", b"\n", b"ports: 7\n", b"\xff"])
def test_a_bad_file_leaves_the_old_inventory_in_force(
    file: InventoryFile, clock: Clock, bad: bytes
) -> None:
    rewrite(file.path, bad)
    file.reload_if_changed()
    clock.settle()
    change = file.reload_if_changed()

    assert change is not None
    assert change.after == change.before == file.inventory == parse(GOOD)
    assert file.problems == change.problems
    assert "the inventory that was read last stays in force" in file.problems[-1]
    rewrite(file.path, GOOD)
    file.reload_if_changed()
    clock.settle()
    mended = file.reload_if_changed()
    assert mended is not None and mended.problems == file.problems == ()


def test_a_file_that_goes_away_leaves_the_old_inventory_in_force(
    file: InventoryFile, clock: Clock
) -> None:
    file.path.unlink()
    file.reload_if_changed()
    clock.settle()
    change = file.reload_if_changed()

    assert change is not None and change.after == parse(GOOD)
    assert "does not exist" in change.problems[0]
    assert file.reload_if_changed() is None


def test_a_missing_file_is_an_empty_inventory_and_says_what_to_do(
    tmp_path: Path, clock: Clock
) -> None:
    file = InventoryFile(tmp_path / "none.yaml", clock)
    change = file.reload_if_changed()

    assert change is not None and change.after.ports == ()
    assert not file.is_known
    assert "none.yaml: does not exist; no tenant" in file.problems[0]
    assert "[inventory] file" in file.problems[0]
    file.path.write_bytes(GOOD)
    file.reload_if_changed()
    clock.settle()
    assert file.reload_if_changed() is not None
    assert file.is_known and file.inventory == parse(GOOD)


def test_a_folder_in_place_of_the_file_is_a_problem_not_an_exception(
    tmp_path: Path, clock: Clock
) -> None:
    file = InventoryFile(tmp_path, clock)

    assert file.reload_if_changed() is not None
    assert "cannot be read: Is a directory" in file.problems[0]


def test_labels_are_words_by_name() -> None:
    text = HEAD + (
        "  - {id: b, tenant: red, network: lan, labels: {tier: web, zone: no, port: 80}}\n"
        "  - {id: c, tenant: red, network: lan, labels: {}}\n"
    )
    labels = {port.id: port.labels for port in parse(text.encode()).ports}

    assert labels == {"a": (), "b": (("port", "80"), ("tier", "web"), ("zone", "no")), "c": ()}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("[web]", "labels are written like `labels: {tier: web}`"),
        ("web", "labels are written like `labels: {tier: web}`"),
        ("{tier: [web]}", "label 'tier' needs one word as its value"),
        ("{tier: }", "label 'tier' needs one word as its value"),
        ("{tier: 'a b'}", "label 'tier': 'a b' is not made of names"),
        ("{'a=b': c}", "label 'a=b': 'c' is not made of names"),
    ],
)
def test_labels_that_cannot_be_are_told_with_their_line(labels: str, said: str) -> None:
    text = f"{HEAD}  - {{id: b, tenant: red, network: lan,\n     labels: {labels}}}\n"
    line = text.count("\n", 0, text.index("labels:")) + 1
    [problem] = problems_of(text)

    assert problem.startswith(f"inventory.yaml:{line}: port 'b': ") and said in problem


def test_a_tap_port_has_no_labels() -> None:
    [problem] = problems_of(HEAD + "  - {id: t, tenant: red, kind: tap, labels: {tier: web}}\n")

    assert "tap port 't' may not have `labels`" in problem
