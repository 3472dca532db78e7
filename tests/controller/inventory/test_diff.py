"""What an edit of the inventory would change is known before it is in force."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.inventory import Inventory, InventoryDiff, Wanted, inventory_diff, parse
from controller.inventory.brake import loss
from controller.inventory.diff import Effect
from flows.model import (
    Collector,
    CollectorId,
    PortId,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
)
from tests.controller.inventory.test_brake import HEAD, LINES, LINKS, WHOLE

RED = TenantName("red")
IDS = "  - {id: ids, tenant: red, kind: tap}\n"


def watch(name: str, source: Source) -> Session:
    return Session(SessionId(name), name, RED, source, CollectorId("c"))


PORTS = watch("ports", Source((PortId("p1"), PortId("p2"))))
NETWORK = parse(HEAD.encode()).networks[0].id
LAN = watch("lan", Source(kind=SourceKind.NETWORK, networks=(NETWORK,)))
WEB = watch("web", Source(kind=SourceKind.LABEL, labels=(("tier", "web"),)))
COLLECTOR = Collector(CollectorId("c"), "c", RED, (PortId("ids"),))
SESSIONS = Wanted((PORTS, LAN, WEB), {COLLECTOR.id: COLLECTOR})


def diff(
    text: str, before: str = WHOLE, running: frozenset[str] = frozenset(), limit: float = 0.2
) -> InventoryDiff:
    return inventory_diff(
        parse(before.encode()),
        parse(text.encode()),
        running=frozenset(map(PortId, running)),
        vanish_limit=limit,
        wanted=SESSIONS,
    )


def test_the_same_inventory_changes_nothing() -> None:
    found = diff(WHOLE)

    assert found.effect is Effect.NONE
    assert not (found.ports or found.links or found.cut_off or found.sessions)


def test_what_is_added_takes_nothing_away_and_sessions_gain_it() -> None:
    more = "  - {id: p11, tenant: red, network: lan, labels: {tier: web}}\n"
    found = diff(WHOLE.replace(LINKS, more + LINKS))

    assert found.ports.added == ["red/p11"] and not found.ports.removed
    assert found.effect is Effect.HARMLESS and not found.cut_off
    assert [(s.session, s.gains, s.takes) for s in found.sessions or ()] == [
        ("red/lan", ["red/p11"], False),
        ("red/web", ["red/p11"], False),
    ]


def test_a_port_that_is_removed_is_cut_off_and_its_sessions_lose_it() -> None:
    found = diff(WHOLE.replace(LINES[0], ""), running=frozenset(f"p{n}" for n in range(1, 11)))

    assert found.ports.removed == ["red/p1"] and found.effect is Effect.TAKES
    (cut,) = found.cut_off
    assert (cut.port, cut.is_running) == ("red/p1", True) and "cut off" in cut.reason
    assert [(s.session, s.loses) for s in found.sessions or ()] == [
        ("red/ports", ["red/p1"]),
        ("red/lan", ["red/p1"]),
    ]


@pytest.mark.parametrize(
    ("edit", "shown", "reason"),
    [
        (("network: lan", "network: dmz"), "network lan -> dmz", "is in network dmz now"),
        (('"02:00:00:00:00:01"', '"02:00:00:00:00:99"'), "mac 02:00:00:00:00:01 ->", "00:99"),
        (("network: lan", "network: lan, ips: [10.0.0.1]"), "ips - -> 10.0.0.1", "10.0.0.1 only"),
        (("network: lan", "network: lan, name: web"), "name p1 -> web", None),
        (("network: lan", "network: lan, labels: {a: b}"), "labels - -> a=b", None),
        (("network: lan", "network: lan, interface: e1, bridge: s1"), "bridge - -> s1", None),
        (("network: lan", "network: lan, anti_spoofing: false"), "true -> false", None),
    ],
)
def test_each_change_of_a_port_is_shown_and_what_it_costs_is_said(
    edit: tuple[str, str], shown: str, reason: str | None
) -> None:
    found = diff(WHOLE.replace(LINES[0], LINES[0].replace(*edit)))

    (change,) = found.ports.changed
    assert change.startswith("red/p1: ") and shown in change
    assert [reason in cut.reason for cut in found.cut_off if reason] == ([True] if reason else [])
    assert bool(found.cut_off) is (reason is not None)


def test_a_session_that_the_edit_makes_forbidden_says_why_and_a_sensor_that_goes_is_named() -> None:
    whole = HEAD.replace("[red]", "[red, blue]") + "ports:\n" + IDS + "".join(LINES)
    blue = "\n  - {name: lan, tenant: blue}"
    whole = whole.replace("networks: [", "networks:\n  - ").replace("}, {", "}\n  - {")
    whole = whole.replace("tenant: red}]", f"tenant: red}}{blue}")
    moved = whole.replace(LINES[1], LINES[1].replace("tenant: red", "tenant: blue"))
    by_name = {s.session: s for s in diff(moved, whole).sessions or ()}
    assert "belongs to tenant 'blue'" in by_name["red/ports"].refused
    assert by_name["red/lan"].loses == ["red/p2"] and not by_name["red/lan"].refused

    gone = {s.session: s for s in diff(whole.replace(IDS, ""), whole).sessions or ()}
    assert gone["red/ports"].sensors_lost == ["red/ids"]


def test_the_guard_is_foretold_as_the_file_would_meet_it() -> None:
    half = HEAD + "ports:\n" + "".join(LINES[:5]) + LINKS
    found = diff(half)
    assert found.effect is Effect.HELD
    assert "5 of 10 ports" in found.held and "cloudtap inventory accept" in found.held
    assert not diff(half, limit=1.0).held
    assert diff(WHOLE.replace(LINKS, "")).links.removed == ["s1/a - s2/a"]


CHOICES = st.lists(st.sampled_from(LINES), unique=True)


def declared(lines: list[str]) -> str:
    return HEAD + ("ports:\n" + "".join(lines) if lines else "ports: []\n")


@given(CHOICES, CHOICES, st.floats(0, 1))
def test_it_says_of_every_edit_what_the_brake_says(
    before: list[str], after: list[str], limit: float
) -> None:
    found = diff(declared(after), declared(before), limit=limit)
    was: Inventory = parse(declared(before).encode())
    lost = loss(was, parse(declared(after).encode()), frozenset())

    assert bool(found.held) is lost.exceeds(limit)
    assert [cut.port for cut in found.cut_off] == [f"red/{port.name}" for port in lost.ports]
    back = diff(declared(before), declared(after), limit=limit)
    assert sorted(found.ports.added) == sorted(back.ports.removed)


def test_two_files_are_compared_by_a_program_of_their_own(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(WHOLE)
    new.write_text(WHOLE.replace(LINES[3], ""))
    command = [sys.executable, "-m", "controller.inventory", str(new), str(old)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    assert told["diff"]["ports"]["removed"] == {"first": ["red/p4"], "count": 1}
    assert told["diff"]["cut_off"]["first"][0]["is_running"] and told["diff"]["sessions"] is None
    old.write_text("ports: [")
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told["diff"] is None and told["problem_count"] and str(old) in told["problems"][0]
