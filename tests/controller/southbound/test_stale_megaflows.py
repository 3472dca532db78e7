"""Which bridges may keep stale megaflows: by version and datapath."""

from __future__ import annotations

import pytest

from controller.southbound.ovsdb import OvsdbSnapshot
from controller.southbound.ovsdb.rows import BridgeRow
from controller.southbound.stale_megaflows import changes_wrong_megaflows, has_stale_megaflows
from controller.southbound.wire import decode_software, encode_description_request
from flows.model import Dpid
from tests.fake_switches.model import FakeSwitch


@pytest.mark.parametrize(
    ("software", "is_bad"),
    [
        ("2.16.90", True),
        ("2.17.7", True),
        ("2.17.8", False),
        ("2.17.12", False),
        ("3.0.4", True),
        ("3.0.5", False),
        ("3.1.0", True),
        ("3.1.2", True),
        ("3.1.3", False),
        ("3.2.0", False),
        ("3.10.1", False),
        ("4.0.0", False),
        ("3.1.0-2+deb12u1", True),
        ("", True),
        ("a switch of another maker", True),
    ],
)
def test_versions(software: str, is_bad: bool) -> None:
    assert changes_wrong_megaflows(software) is is_bad


def test_only_the_userspace_datapath_does_it() -> None:
    rows = (BridgeRow(Dpid(1), "s1", "", "netdev"), BridgeRow(Dpid(2), "s2", "", "system"))
    seen = OvsdbSnapshot(rows)
    assert [has_stale_megaflows(Dpid(n), "3.1.0", seen) for n in (1, 2)] == [True, False]
    assert not has_stale_megaflows(Dpid(1), "3.2.1", seen)


def test_a_bridge_without_a_database_may_be_one_of_them() -> None:
    assert has_stale_megaflows(Dpid(3), "3.1.0", OvsdbSnapshot())
    assert not has_stale_megaflows(Dpid(3), "3.3.0", OvsdbSnapshot())


def test_the_version_is_read_from_the_description() -> None:
    switch = FakeSwitch(1, software="2.17.9")
    [reply] = switch.answer(encode_description_request(7))
    assert decode_software(reply) == "2.17.9"
    assert decode_software(reply[:100]) == "", "cut off"
