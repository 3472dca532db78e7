"""Random frames on bridges of others of several kinds: trunks with native VLANs, bonds, flows of
their own. Production is the same with and without sessions, and copies are what the contract says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flows.model import Direction, Filter, FilterId, Rule, RuleMatch, TenantName, Verdict
from tests.flows.hand_made import BOTH, EGRESS, INGRESS, watch
from tests.ovs.attached_cloud import OWNER, TAP, cloudtap
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, ofctl
from tests.ovs.owner_database import database_rows, difference
from tests.ovs.owner_kinds import (
    KINDS,
    PLUGS,
    RED,
    TAPS,
    UPLINKS,
    Delivered,
    Frame,
    Kind,
    OwnersBridge,
    contract,
    due_copies,
    number_in,
    random_bursts,
    tagged,
    wrong_copies,
)

FRAMES = 600
"""Random frames on each kind of bridge."""
SEED = 20
UDP, TCP = (RuleMatch(protocol=number) for number in (17, 6))


def accepting(name: str, ingress: RuleMatch, egress: RuleMatch) -> Filter:
    """A filter with one rule in each list."""
    lists = ((Rule(10, Verdict.ACCEPT, match),) for match in (ingress, egress))
    return Filter(FilterId(name), name, TenantName("red"), *lists)


FILTERS = (accepting("udp-only", UDP, UDP), accepting("udp-in-tcp-out", UDP, TCP))
PROTOCOL = {17: "udp", 6: "tcp"}


@dataclass(frozen=True)
class Wish:
    """A session: the tap port of its collector, what it watches, its filter and direction."""

    tap: str
    ports: tuple[str, ...]
    direction: Direction = BOTH
    filter: Filter | None = None
    source: dict[str, Any] = field(default_factory=dict)
    """How a user asks for these ports, if not by their names."""

    @property
    def tenant(self) -> str:
        """Whose session it is."""
        return self.tap.partition("-")[0]


ALL_RED, ALL_BLUE = (
    tuple(plug.name for plug in PLUGS.values() if plug.tenant == tenant)
    for tenant in ("red", "blue")
)
WISHES = (
    Wish("red-t11", ("red-web",)),
    Wish("red-t12", ALL_RED, source={"kind": "tenant"}),
    Wish("red-t13", ("red-web", "red-gate"), INGRESS),
    Wish("red-t14", ("red-db", "red-router"), EGRESS),
    Wish("red-t15", ("red-router", "red-gate"), filter=FILTERS[0]),
    Wish("red-t16", ("red-web", "red-db", "red-router"), filter=FILTERS[1]),
    Wish("blue-t17", ALL_BLUE),
    Wish("blue-t18", ("blue-hub",)),
    Wish("blue-t19", ("blue-web",), INGRESS),
)
OF = contract(
    [
        watch(w.tap, *w.ports, to=w.tap, direction=w.direction, tenant=w.tenant, wanted=w.filter)
        for w in WISHES
    ],
    FILTERS,
)


def inventory() -> str:
    """All that the tests declare."""
    lines = ["tenants: [red, blue]", "networks:"]
    lines += [f"  - {{name: lan, tenant: {tenant}}}" for tenant in ("red", "blue")]
    lines.append("ports:")
    for plug in PLUGS.values():
        mac = ":".join(f"{byte:02x}" for byte in plug.mac.to_bytes(6, "big"))
        name = plug.name.partition("-")[2]
        about = f"id: {plug.name}, name: {name}, tenant: {plug.tenant}"
        lines.append(f'  - {{{about}, network: lan, mac: "{mac}"}}')
    for tap in TAPS.values():
        tenant, _, name = tap.partition("-")
        lines.append(f"  - {{id: {tap}, name: {name}, tenant: {tenant}, kind: tap}}")
    return "\n".join(lines) + "\n"


def rules(match: RuleMatch) -> list[dict[str, Any]]:
    """A list of rules, as a user writes it."""
    assert isinstance(match.protocol, int)
    return [{"number": 10, "action": "accept", "match": {"protocol": PROTOCOL[match.protocol]}}]


def make_sessions(controller: ControllerProcess) -> None:
    """All sessions, each with a collector; returns when they copy."""
    for wanted in FILTERS:
        lists = {"ingress": wanted.ingress, "egress": wanted.egress}
        body = {"name": wanted.name, "tenant": "red"}
        body |= {key: rules(found[0].match) for key, found in lists.items()}
        assert controller.api.post("/v1/filters", json=body).status_code == 201
    for wish in WISHES:
        name = wish.tap.partition("-")[2]
        controller.create_collector(wish.tenant, name, wish.tap)
        ports = [port.partition("-")[2] for port in wish.ports]
        fields: dict[str, Any] = {"source": wish.source} if wish.source else {}
        fields |= {"filter": wish.filter.name} if wish.filter else {}
        controller.create_session(
            wish.tenant, wish.tap, ports, name, direction=wish.direction.value, **fields
        )
    for wish in WISHES:
        controller.wait_for_session(wish.tap)


def owners_flows() -> str:
    """The flows of the owner's bridge, without counters."""
    return ofctl("--no-stats", "dump-flows", OWNER)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_random_frames_are_delivered_as_without_sessions_and_copied_as_the_contract_says(
    lab: Lab, tmp_path: Path, kind: Kind
) -> None:
    bridge = OwnersBridge(lab, kind)
    bursts = list(random_bursts(Random(SEED), FRAMES, UPLINKS if kind.bond else UPLINKS[:1]))
    sent = [frame for burst in bursts for frame in burst]
    before = bridge.play(bursts)
    rows, flows = database_rows(), owners_flows()
    bridge.attach()
    with ControllerProcess(tmp_path, inventory()) as controller:
        controller.start(TAP)
        make_sessions(controller)
        watched = bridge.play(bursts)
        assert differences(before, watched) == []
        due = due_copies(sent, watched.receivers(), OF)
        assert wrong_copies(due, watched.copied) == []
        assert all(due[wish.tap].total() > 20 for wish in WISHES), "too few to say something"
        print(f"{kind.name}: {len(sent)} frames, {sum(map(Counter.total, due.values()))} copies, "
              f"{sum(map(len, watched.receivers().values()))} deliveries to workloads")  # fmt: skip
        cloudtap("detach", OWNER)
        assert "Traceback" not in controller.log()
    assert difference(rows, database_rows()) == {}
    assert owners_flows() == flows
    bridge.tap_at = {}
    assert differences(before, bridge.play(bursts)) == []


def differences(before: Delivered, after: Delivered) -> list[str]:
    """The deliveries that are not the same, burst by burst and port by port."""
    return [
        f"burst {n}, port {port}: before {_numbers(one[port] - other[port])}, "
        f"then {_numbers(other[port] - one[port])}"
        for n, (one, other) in enumerate(zip(before.bursts, after.bursts, strict=True))
        for port in one
        if one[port] != other[port]
    ]


def _numbers(found: Counter[bytes]) -> list[int]:
    return sorted(number_in(frame) for frame in found.elements())


# --- that the checks can say no -------------------------------------------------------------------


def some_frames() -> tuple[list[Frame], dict[int, set[str]]]:
    """A few frames between workloads that are watched, all delivered."""
    sent = [
        frame
        for burst in random_bursts(Random(1), 40, UPLINKS)
        for frame in burst
        if frame.ofport in (1, 2) and not frame.tag
    ]
    return sent, {frame.number: {"red-router"} for frame in sent}


@pytest.mark.parametrize("damage", ["missing", "twice", "tagged", "cut", "of another tenant"])
def test_the_check_of_copies_notices_what_is_wrong(damage: str) -> None:
    sent, receivers = some_frames()
    due = due_copies(sent, receivers, OF)
    assert wrong_copies(due, due) == []
    got = {name: Counter(there) for name, there in due.items()}
    copy = next(iter(got["red-t12"]))
    if damage == "of another tenant":
        got["blue-t17"][copy] += 1
    elif damage == "twice":
        got["red-t12"][copy] += 1
    else:
        del got["red-t12"][copy]
        changed: Sequence[bytes] = {
            "missing": [],
            "tagged": [tagged(copy, RED)],
            "cut": [copy[:-1]],
        }[damage]
        got["red-t12"].update(changed)
    assert [name for name, *_ in wrong_copies(due, got)] == [
        "blue-t17" if damage == "of another tenant" else "red-t12"
    ]


def test_the_comparison_of_deliveries_sees_one_frame_that_the_owner_drops(lab: Lab) -> None:
    bridge = OwnersBridge(lab, KINDS[0])
    bursts = list(random_bursts(Random(SEED), 60, UPLINKS[:1]))
    before = bridge.play(bursts)
    assert differences(before, bridge.play(bursts)) == []
    ofctl("add-flow", OWNER, "priority=9,in_port=1,udp,actions=drop")
    assert differences(before, bridge.play(bursts))
