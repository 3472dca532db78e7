"""An inventory file: every problem has its line, and an invalid file never replaces a valid one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import EUI, IPAddress

from controller.inventory import DeclaredBridge, InterfaceName, InventoryFile, LinkHint
from controller.inventory.file import FILE_BYTES_MAX, FILE_SETTLE_S, parse
from controller.inventory.values import InventoryError, PortHint
from controller.inventory.yaml_lines import MISTAKES_MAX, PROBLEMS_KEPT
from flows.model import Dpid, PortKind

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
        ("{id: b, tenant: red, network: lan, mac: '02-00:00:00:00:01'}", "is not an address"),
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
            "a link joins bridge 's1' to itself: if two hosts have bridges of this name, write "
            "the hosts, too, like s1@HOST",
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


def test_all_problems_of_a_file_are_reported_at_once_in_the_order_of_lines() -> None:
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


def test_tenants_and_networks_have_their_syntax() -> None:
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
    assert "nest" in problems_of(b"[" * 100_000)[0]  # its wording depends on libyaml
    assert "larger than 16 MiB" in problems_of(b"#" * (FILE_BYTES_MAX + 1))[0]


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    assert problems_of(b"tenants: [red]\n# \xff\n") == ["inventory.yaml:2: this is not UTF-8 text"]
    problem = problems_of(b"tenants: [red]\n# \x07\n")[0]
    assert problem.startswith("inventory.yaml:2: not valid YAML")


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
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def settle(self) -> None:
        self.seconds += FILE_SETTLE_S


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
    rewrite(file.path, GOOD + b"# more\n")
    assert file.reload_if_changed() is None
    rewrite(file.path, GOOD.replace(b"[red, blue]", b"[red, blue, green]"))
    clock.settle()
    assert file.reload_if_changed() is None, "it changed since it was looked at"
    clock.settle()
    change = file.reload_if_changed()

    assert change is not None
    assert change.before == parse(GOOD)
    assert change.after.tenants == file.inventory.tenants == ("red", "blue", "green")


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


def test_a_file_that_is_removed_leaves_the_old_inventory_in_force(
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
    assert "cannot be read: it is a directory, not a regular file" in file.problems[0]


def test_a_fifo_a_device_and_a_file_that_everybody_may_change_are_refused_at_once(
    tmp_path: Path, clock: Clock
) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "open").write_bytes(GOOD)
    (tmp_path / "open").chmod(0o666)
    for path, words in (
        (tmp_path / "fifo", "it is a FIFO"),
        (Path("/dev/zero"), "it is a device"),
        (tmp_path / "open", f"type `chmod o-w {tmp_path / 'open'}`"),
    ):
        file = InventoryFile(path, clock)
        assert file.reload_if_changed() is not None
        assert words in file.problems[0] and not file.is_known


def test_a_file_is_read_once_its_permissions_are_mended(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_bytes(GOOD)
    path.chmod(0o666)
    file = InventoryFile(path, clock)
    assert file.reload_if_changed() is not None
    path.chmod(0o644)
    assert file.reload_if_changed() is None
    clock.settle()
    assert file.reload_if_changed() is not None
    assert file.inventory == parse(GOOD) and file.problems == ()


# --- sizes ---------------------------------------------------------------------------------


def test_thousands_of_ip_addresses_on_one_port_are_refused_with_one_sentence() -> None:
    ips = ", ".join(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(1, 30_000))
    [problem] = problems_of(f"{HEAD}  - {{id: b, tenant: red, network: lan,\n     ips: [{ips}]}}\n")
    assert "port 'b': more than 256 IP addresses" in problem


def test_a_port_may_have_as_many_ip_addresses_as_the_limit() -> None:
    ips = ", ".join(f"10.0.{n // 256}.{n % 256}" for n in range(1, 257))
    inventory = parse(f"{HEAD}  - {{id: b, tenant: red, network: lan, ips: [{ips}]}}\n".encode())
    assert len(inventory.ports[1].ips) == 256


@pytest.mark.parametrize(
    "line",
    [
        "  - {id: a, tenant: nobody, network: x, mac: bad, what: 1}\n",
        "  - !!a b\n",
        "  - *x\n",
        "  - {a: 1, a: 2}\n",
        "  - [1, 2]\n",
        "  - {id: b, tenant: red, network: lan, interface: eth1}\n",
    ],
)
def test_of_many_mistakes_only_some_tens_are_reported_and_the_rest_is_counted(line: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(HEAD.encode() + line.encode() * 100_000)
    error = caught.value
    assert len(error.problems) == PROBLEMS_KEPT + 1
    assert error.count == MISTAKES_MAX
    assert "and 950 more problems, perhaps others: the rest was not checked" in error.problems[-1]
    assert sum(map(len, error.problems)) < 20_000


def test_the_number_of_problems_that_are_not_shown_is_exact_below_the_limit() -> None:
    found = problems_of(HEAD + "  - !!a {}\n" * 70)
    assert len(found) == PROBLEMS_KEPT + 1
    assert re.fullmatch(r"inventory.yaml: and \d+ more problems", found[-1])


@pytest.mark.parametrize(
    "text",
    [
        "tenants: [" + "x" * 1_000_000 + "]\n",
        f"{HEAD}  - {{id: b, tenant: red, network: lan, mac: '{'0' * 2000}'}}\n",
        "tenants: &" + "a" * 5000 + " [red]\nports: [*" + "a" * 5000 + "]\n",
        "tenants: !<" + "a" * 100_000 + "> red\n",
        "? " + "k" * 1000 + "\n: 1\n",
    ],
)
def test_no_sentence_repeats_a_long_value(text: str) -> None:
    assert all(len(problem) < 1500 for problem in problems_of(text))


def test_escape_sequences_of_a_file_are_shown_and_not_sent_to_a_terminal() -> None:
    for text in ('tenants: !<%1b[31m> red\n', 'tenants: ["\\e[31mred"]\n', '"\\e[2J": 1\n',
                 'ports: [{id: "\\u202ea", tenant: "\\x9b31m"}]\n'):  # fmt: skip
        for problem in problems_of(text):
            assert problem.isprintable(), problem


def test_many_bridges_may_have_an_interface_of_one_name() -> None:
    ports = "".join(
        f"  - {{id: p{n}, tenant: red, network: lan, bridge: b{n}, interface: tap0}}\n"
        for n in range(5000)
    )
    assert len(parse((HEAD + ports).encode()).ports) == 5001
    twice = "  - {id: q, tenant: red, network: lan, interface: tap0}\n"
    assert "interface 'tap0' is already used" in problems_of(HEAD + ports + twice)[0]
    assert "interface 'tap0' is already used" in problems_of(HEAD + twice + ports)[0]


def test_labels_are_values_by_key() -> None:
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
def test_invalid_labels_are_reported_with_their_line(labels: str, said: str) -> None:
    text = f"{HEAD}  - {{id: b, tenant: red, network: lan,\n     labels: {labels}}}\n"
    line = text.count("\n", 0, text.index("labels:")) + 1
    [problem] = problems_of(text)

    assert problem.startswith(f"inventory.yaml:{line}: port 'b': ") and said in problem


def test_a_tap_port_has_no_labels() -> None:
    [problem] = problems_of(HEAD + "  - {id: t, tenant: red, kind: tap, labels: {tier: web}}\n")

    assert "tap port 't' may not have `labels`" in problem


def test_bridges_are_declared_with_who_speaks_for_them() -> None:
    inventory = parse(b"""\
bridges:
  - {datapath_id: 0x51, name: s1, host: hv1, certificate: hv1.a, database: "tcp:192.0.2.1:6640"}
  - {datapath_id: "0000000000000052", name: s1, host: hv2}
  - {datapath_id: 0x53}
""")
    assert inventory.bridges == (
        DeclaredBridge(Dpid(0x51), "s1", "hv1", "hv1.a", "tcp:192.0.2.1:6640"),
        DeclaredBridge(Dpid(0x52), "s1", "hv2"),
        DeclaredBridge(Dpid(0x53)),
    )


@pytest.mark.parametrize(
    ("bridges", "words"),
    [
        ("{name: s1}", "a bridge needs `datapath_id`"),
        ("{datapath_id: s1}", "'s1' is not a datapath id: write it like 0x51"),
        ("{datapath_id: 0x1ffffffffffffffff}", "is not a datapath id"),
        ("{datapath_id: 0x1}, {datapath_id: 0x01}", "is already declared in line 1"),
        ("{datapath_id: 0x1, name: s1}, {datapath_id: 0x2, name: s1}", "bridge 's1' of this host"),
    ],
)
def test_a_wrong_declaration_of_a_bridge_says_what_is_wrong(bridges: str, words: str) -> None:
    with pytest.raises(InventoryError) as refused:
        parse(f"bridges: [{bridges}]".encode())
    assert words in str(refused.value)
