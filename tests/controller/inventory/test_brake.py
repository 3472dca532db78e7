"""A file from which something vanished: taken when it is whole, or when the operator says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.inventory import Caution, InventoryFile
from controller.inventory.file import FILE_SETTLE_S, parse
from flows.errors import Refused
from flows.model import PortId
from tests.controller.inventory.test_file import Clock

SETTLE_S = 10.0
HEAD = """\
tenants: [red]
networks: [{name: lan, tenant: red}, {name: dmz, tenant: red}]
"""
LINES = [
    f'  - {{id: p{n}, tenant: red, network: lan, mac: "02:00:00:00:00:{n:02x}"}}\n'
    for n in range(1, 11)
]
LINKS = "links:\n  - {from: {bridge: s1, interface: a}, to: {bridge: s2, interface: a}}\n"
WHOLE = HEAD + "ports:\n" + "".join(LINES) + LINKS


class Operator:
    """Writes the inventory file, and lets time pass."""

    def __init__(self, folder: Path) -> None:
        self.path, self.kept = folder / "inventory.yaml", folder / "kept.yaml"
        self.clock, self.running = Clock(), set[PortId]()
        self.path.write_text(WHOLE)
        self.start()

    def start(self, limit: float = 0.2) -> None:
        """The controller starts (again)."""
        caution = Caution(limit, SETTLE_S, self.kept)
        self.file = InventoryFile(
            self.path, self.clock, caution=caution, running=lambda: self.running
        )
        self.file.reload_if_changed()

    def rewrite(self, text: str) -> None:
        """Write the file in place, and wait until it is read."""
        before = self.path.stat().st_mtime_ns
        self.path.write_text(text)
        os.utime(self.path, ns=(before + 1_000_000, before + 1_000_000))
        self.look()

    def exchange(self, text: str) -> None:
        """Exchange the file by a renamed one."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)
        self.look()

    def look(self, seconds: float = FILE_SETTLE_S) -> None:
        """Let time pass, and the controller look."""
        self.file.reload_if_changed()
        self.clock.seconds += seconds
        self.file.reload_if_changed()

    @property
    def ports(self) -> int:
        """The number of ports in force."""
        return len(self.file.inventory.ports)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def without(*numbers: int) -> str:
    lines = [line for n, line in enumerate(LINES, 1) if n not in numbers]
    return HEAD + "ports:\n" + "".join(lines) + LINKS


def said(operator: Operator) -> str:
    return " ".join(operator.file.problems)


def test_a_file_with_only_tenants_takes_nothing_away_until_it_is_accepted(
    operator: Operator,
) -> None:
    operator.exchange("tenants: [red]\n")
    assert operator.ports == 10
    assert "10 of 10 ports (red/p1, red/p2, red/p3, ...)" in said(operator)
    assert "1 of 1 links" in said(operator)
    assert "type `cloudtap inventory accept`" in said(operator)
    operator.look(1000)
    assert operator.ports == 10, "time alone changes nothing"
    pending = operator.file.pending
    assert pending is not None and len(pending.missing) == 10
    operator.file.accept(pending.digest)
    operator.look()
    assert (operator.ports, operator.file.problems, operator.file.pending) == (0, (), None)


def test_a_file_that_is_written_in_halves_never_drops_the_missing_half(operator: Operator) -> None:
    half = len(WHOLE) // 2
    whole_line = WHOLE.rindex("\n", 0, half) + 1
    operator.rewrite(WHOLE[:whole_line])
    assert operator.ports == 10 and "cloudtap inventory accept" in said(operator)
    operator.look(3)
    operator.rewrite(WHOLE)
    assert operator.ports == 10 and not operator.file.problems


def test_a_file_that_lacks_little_and_was_written_in_place_is_taken_after_a_while(
    operator: Operator,
) -> None:
    operator.rewrite(without(3))
    assert operator.ports == 10
    assert "used when it has stayed the same for 10 s" in said(operator)
    operator.look(SETTLE_S / 2)
    assert operator.ports == 10
    operator.rewrite(without(3, 4))
    operator.look(SETTLE_S / 2)
    assert operator.ports == 10, "it has changed since"
    operator.look(SETTLE_S)
    assert operator.ports == 8 and not operator.file.problems


def test_a_file_that_lacks_little_and_was_renamed_is_taken_at_once(operator: Operator) -> None:
    operator.exchange(without(3))
    assert operator.ports == 9 and not operator.file.problems


def test_a_file_that_was_written_in_place_is_taken_at_once_when_the_operator_says_so(
    operator: Operator,
) -> None:
    operator.rewrite(without(3))
    operator.file.trust_file()
    operator.look(0)
    assert operator.ports == 9 and not operator.file.problems


def test_the_word_of_the_operator_is_about_the_file_as_it_is(operator: Operator) -> None:
    operator.file.trust_file()
    operator.look(0)
    operator.rewrite(without(3))
    assert operator.ports == 10, "it was said of the file before"
    operator.path.write_text(without(3, 4))
    operator.file.trust_file()
    operator.file.reload_if_changed()
    assert operator.ports == 8, "read without waiting"


def test_that_a_file_is_whole_does_not_say_that_what_is_missing_is_meant(
    operator: Operator,
) -> None:
    operator.rewrite(without(1, 2, 3, 4, 5))
    operator.file.trust_file()
    operator.look(0)
    assert operator.ports == 10 and "cloudtap inventory accept" in said(operator)


def test_a_file_that_only_adds_is_taken_at_once(operator: Operator) -> None:
    operator.rewrite(WHOLE.replace("links:", "  - {id: q, tenant: red, network: lan}\nlinks:"))
    assert operator.ports == 11


def test_an_end_mark_makes_a_file_whole_and_must_then_stay(operator: Operator) -> None:
    operator.rewrite(WHOLE + "...\n")
    operator.rewrite(without(3) + "...\n")
    assert operator.ports == 9
    operator.rewrite(without(3, 4))
    operator.look(1000)
    assert operator.ports == 9 and "does not end with `...` any more" in said(operator)
    operator.rewrite(without(3, 4) + "...\n")
    assert operator.ports == 8


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("network: lan", "network: dmz"),
        WHOLE.replace("network: lan", "network: lan, ips: [192.0.2.1]"),
        WHOLE.replace("02:00:00", "06:00:00"),
        WHOLE[: WHOLE.index("links:")],
        WHOLE.replace("interface: a", "interface: b"),
    ],
)
def test_what_cuts_ports_or_links_off_is_a_loss_too(operator: Operator, text: str) -> None:
    operator.exchange(text)
    assert operator.file.inventory == parse(WHOLE.encode())
    assert "cloudtap inventory accept" in said(operator)


def with_words(words: str) -> str:
    return WHOLE.replace("network: lan", f"network: lan{words}")


@pytest.mark.parametrize(
    ("before", "after", "is_taken"),
    [
        (", ips: [192.0.2.1]", ", ips: [192.0.2.2]", False),
        (", ips: [192.0.2.1, 192.0.2.2]", ", ips: [192.0.2.2]", False),
        (", anti_spoofing: false", "", False),
        (", anti_spoofing: false", ", ips: [192.0.2.1]", False),
        (", ips: [192.0.2.1]", ", ips: [192.0.2.2, 192.0.2.1]", True),
        (", ips: [192.0.2.1]", "", True),
        (", ips: [192.0.2.1]", ", ips: [192.0.2.2], anti_spoofing: false", True),
        ("", ", anti_spoofing: false", True),
    ],
)
def test_an_address_that_ports_may_not_send_under_any_more_is_a_loss(
    operator: Operator, before: str, after: str, is_taken: bool
) -> None:
    operator.start(limit=1.0)
    operator.exchange(with_words(before))
    assert operator.file.inventory == parse(with_words(before).encode())
    operator.start()
    operator.exchange(with_words(after))
    expected = after if is_taken else before
    assert operator.file.inventory == parse(with_words(expected).encode())
    assert ("cloudtap inventory accept" in said(operator)) is not is_taken


HINTED = HEAD + "ports:\n" + "".join(
    line.replace("}\n", f", bridge: s1, interface: e{n}}}\n") for n, line in enumerate(LINES, 1)
) + LINKS  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("interface: e", "interface: f"),
        (", bridge: s1, interface: e", ", bridge: s2, interface: e"),
        (", bridge: s1, interface: e", ", bridge: s1@hv1, interface: e"),
        (", bridge: s1, interface: e", ", labels: {was: hinted}, name: n"),
    ],
)
def test_ports_that_are_declared_at_other_interfaces_are_a_loss(
    operator: Operator, old: str, new: str
) -> None:
    operator.exchange(HINTED)
    before = operator.file.inventory.hints
    assert len(before) == 10 and not operator.file.problems, "a first hint takes nothing away"
    operator.exchange(HINTED.replace(old, new))
    assert operator.file.inventory.hints == before
    assert "10 of 10 ports" in said(operator)
    operator.exchange(HINTED.replace(f"{old}1}}", f"{new}1}}"))
    assert operator.file.inventory.hints != before and not operator.file.problems, "one may"


def test_the_share_is_also_one_of_the_ports_that_run(operator: Operator) -> None:
    operator.running = {PortId("p1"), PortId("p2")}
    operator.exchange(without(1, 2))
    assert operator.ports == 10 and "2 of 2 that run" in said(operator)
    operator.running = {PortId("p8"), PortId("p9")}
    operator.exchange(without(1, 2) + "# again\n")
    assert operator.ports == 8


def test_the_brake_can_be_switched_off(operator: Operator) -> None:
    operator.start(limit=1.0)
    operator.exchange("tenants: [red]\n")
    assert operator.ports == 0


def test_the_brake_holds_over_a_restart(operator: Operator) -> None:
    operator.path.write_text("tenants: [red]\n")
    operator.start()
    assert operator.ports == 10 and operator.file.is_known
    assert "cloudtap inventory accept" in said(operator)
    operator.start()
    assert operator.ports == 10
    assert operator.kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [None, "", "ports: 7\n"])
def test_without_a_valid_file_a_restart_goes_on_with_the_inventory_that_was_in_force(
    operator: Operator, text: str | None
) -> None:
    operator.path.unlink() if text is None else operator.path.write_text(text)
    operator.start()
    assert operator.ports == 10 and operator.file.problems
    operator.rewrite(WHOLE) if text is not None else operator.exchange(WHOLE)
    assert operator.ports == 10 and not operator.file.problems


def test_what_was_accepted_is_what_the_operator_has_seen(operator: Operator) -> None:
    with pytest.raises(Refused, match="no inventory waits to be accepted"):
        operator.file.accept("0")
    operator.exchange("tenants: [red]\n")
    seen = operator.file.pending
    assert seen is not None
    operator.exchange("tenants: []\n")
    with pytest.raises(Refused, match="has changed since it was looked at"):
        operator.file.accept(seen.digest)
    operator.look()
    assert operator.ports == 10


def test_an_inventory_that_cannot_be_kept_is_said_and_kept_later(operator: Operator) -> None:
    blocker = operator.kept.with_name(f"{operator.kept.name}.new")
    blocker.mkdir()
    operator.exchange(without(3))
    assert operator.ports == 9
    assert "cannot be kept for the next start" in said(operator)
    blocker.rmdir()
    operator.look()
    assert not operator.file.problems
    operator.start()
    assert operator.ports == 9


@pytest.mark.parametrize(
    "kept", [b"tenants: [re", b"\xff\xfe", b"tenants: [red]\ntenants: [red]\n"]
)
def test_that_the_inventory_of_the_last_run_is_damaged_is_said(
    operator: Operator, kept: bytes
) -> None:
    operator.kept.write_bytes(kept)
    operator.start()
    assert operator.file.is_known and "cannot be compared" in said(operator)
    operator.look()
    assert "cannot be compared" in said(operator), "also after the file was read and kept"
    operator.exchange(WHOLE + "...\n")
    assert not said(operator)
