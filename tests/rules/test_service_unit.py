"""The unit of the service lets the controller do what its code does."""

from __future__ import annotations

import re

from tests.rules.sources import ROOT

UNIT = ROOT / "packaging" / "systemd" / "cloudtap.service"


def used_families(code: str) -> set[str]:
    """The address families that a module names."""
    return set(re.findall(r"\bAF_[A-Z0-9]+\b", code)) - {"AF_UNSPEC"}


def allowed_families(unit: str) -> set[str]:
    """Those that a unit lets its processes use (systemd.exec(5))."""
    (line,) = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE)
    return set(line.split())


def test_every_address_family_that_the_code_uses_is_allowed() -> None:
    """Commands run in the shells of people, not in the service."""
    paths = sorted((ROOT / "controller").rglob("*.py"))
    code = "".join(p.read_text() for p in paths if "cli" not in p.parts)
    assert used_families(code) <= allowed_families(UNIT.read_text())


def test_a_family_that_is_missing_in_the_unit_is_seen() -> None:
    unit = "[Service]\nRestrictAddressFamilies=AF_UNIX AF_INET\n"
    code = "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"
    assert used_families(code) - allowed_families(unit) == {"AF_NETLINK"}
