"""Disconnected bridges: the status of their sessions, pending deletions, and numbers in use."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import NOBODY, ROOT, TARGET, ControllerProcess
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red, blue]
networks:
  - {id: red-lan, name: lan, tenant: red}
  - {id: blue-lan, name: lan, tenant: blue}
ports:
  - {id: red-web, name: web, tenant: red, network: red-lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: red-lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids, name: ids, tenant: red, kind: tap}
  - {id: blue-web, name: shop, tenant: blue, network: blue-lan, mac: "02:00:00:00:00:01"}
  - {id: blue-ids, name: tap, tenant: blue, kind: tap}
"""
GREEN = """\
tenants: [red, green]
networks:
  - {id: red-lan, name: lan, tenant: red}
  - {id: green-lan, name: lan, tenant: green}
ports:
  - {id: red-web, name: web, tenant: red, network: red-lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: red-lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids, name: ids, tenant: red, kind: tap}
  - {id: green-web, name: web, tenant: green, network: green-lan, mac: "02:00:00:00:00:01"}
"""
LINKS = "links: [{from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}]\n"


@pytest.fixture
def controller(lab: Lab, tmp_path: Path) -> Iterator[ControllerProcess]:
    """Red is on s1 and partly on s2, blue on s2 alone."""
    lab.add_bridge("s1", dpid=0x51, controller=TARGET)
    lab.add_bridge("s2", dpid=0x52, controller=TARGET)
    lab.add_ports("s1", (1, 5), {1: "red-web", 5: "red-ids"})
    lab.add_ports("s2", (2, 3, 7), {2: "red-db", 3: "blue-web", 7: "blue-ids"})
    lab.link("s1", 9, "s2", 9)
    with ControllerProcess(tmp_path, INVENTORY + LINKS) as process:
        process.start("s1", "s2")
        process.create_collector("red", "ids", "red-ids")
        process.create_collector("blue", "tap", "blue-ids")
        yield process


def disconnect(controller: ControllerProcess, bridge: str) -> None:
    """Disconnect a bridge; its flows stay."""
    vsctl("set-controller", bridge, NOBODY)
    wait_for(lambda: controller.bridge(bridge)["connected"], lambda there: not there)


def reconnect(controller: ControllerProcess, bridge: str) -> None:
    """Reconnect a bridge."""
    vsctl("set-controller", bridge, TARGET)
    controller.wait_for_bridge(bridge)


def copying_flows(bridge: str) -> int:
    """How many flows of a bridge make copies."""
    lines = ofctl("dump-flows", bridge, "table=90").splitlines()
    return sum("reg6=" in line for line in lines)


def numbers(controller: ControllerProcess) -> dict[tuple[str, str], int]:
    """All allocated numbers, read from the database: of networks, ports, tags by TENANT/NAME."""
    with sqlite3.connect(controller.folder / "state" / "state.db") as connection:
        rows = connection.execute("SELECT kind, key, number FROM numbers").fetchall()
    connection.close()
    return {(kind, key): number for kind, key, number in rows}


def test_a_session_of_a_bridge_that_is_away_says_so(controller: ControllerProcess) -> None:
    disconnect(controller, "s2")
    made = controller.create_session("blue", "far", ["shop"], "tap")
    assert made["status"]["state"] == "pending"
    assert "is not connected" in " ".join(made["status"]["reasons"])
    both = controller.create_session("red", "both", ["web", "db"], "ids")
    assert both["status"]["state"] == "degraded"
    assert "is not connected" in " ".join(both["status"]["reasons"])
    assert ("s1", "active") in [(b["bridge"], b["state"]) for b in both["status"]["bridges"]]
    reconnect(controller, "s2")
    controller.wait_for_session("far")
    controller.wait_for_session("both")


def cloudtap(*words: str) -> str:
    """Run `cloudtap`; returns its output."""
    command = [sys.executable, "-c", "from controller.cli import main; main()", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def test_a_bridge_that_is_away_may_still_copy_and_every_answer_says_so(
    controller: ControllerProcess,
) -> None:
    controller.create_session("red", "both", ["web", "db"], "ids", direction="egress")
    disconnect(controller, "s2")
    verified = controller.api.post("/v1/sessions/both/verify", json={"count": 5}).json()
    assert {way["bridge"] for way in verified["ways"]} == {"s1"}
    assert verified["not_verified"] == ["bridge s2 is not connected"]

    off = "switched off by its owner"
    seen = controller.change_session("both", enabled=False)["status"]
    assert copying_flows("s2") == 1
    for status in (seen, controller.session("both")["status"]):
        assert status["state"] == "inactive"
        away = "bridge s2 is not reachable, and may still make copies"
        assert status["reasons"] == [off, away]
        assert [(b["bridge"], b["state"]) for b in status["bridges"]] == [("s2", "pending")]
    assert "inactive, may still" in cloudtap("session", "list")

    reconnect(controller, "s2")
    status = wait_for(
        lambda: controller.session("both")["status"], lambda seen: seen["reasons"] == [off]
    )
    assert (copying_flows("s2"), status["bridges"]) == (0, [])
    assert "may still" not in cloudtap("session", "list")


def test_a_bridge_that_is_away_goes_on_with_the_former_session_and_every_answer_says_so(
    controller: ControllerProcess, lab: Lab
) -> None:
    sent = frames.ethernet(0xFFFFFFFFFFFF, 0x020000000002, 0x88B5, b"from db".ljust(46, b"\0"))
    near = lab.add_port("s2", 6, "red-near")
    db, ids = (next(e for e in lab.endpoints if e.interface == n) for n in ("s2-eth2", "s1-eth5"))
    tap = "  - {id: red-near, name: near, tenant: red, kind: tap}\n"
    controller.inventory.write_text(INVENTORY + tap + LINKS)
    wait_for(lambda: controller.api.get("/v1/ports/red-near").is_success, bool)
    wait_for(lambda: controller.place("red-near"), lambda place: place == ("s2", 6))
    controller.create_collector("red", "near", "red-near")
    controller.create_session("red", "one", ["db"], "near", direction="egress")
    asked = {"tenant": "red", "port": "db", "hex": sent.hex()}

    def explained() -> tuple[bool, str]:
        [answer] = controller.api.post("/v1/explain", json=asked).json()["sessions"]
        return answer["copied"], answer["sentence"]

    disconnect(controller, "s2")
    former = "it goes on with the former version of the session"
    controller.change_session("one", packet_length=64)
    controller.wait_for_session("one", "pending", former)
    is_copied, why = explained()
    assert is_copied and former in why

    controller.change_session("one", collector="ids", packet_length=None)
    seen = controller.wait_for_session("one", "pending", f"{former}, and copies to")
    assert seen["status"]["reasons"][0].endswith("copies to collector 'near'")
    got = lab.exchange([(db, sent)])
    lab.remove_markers()
    assert (got[near], got[ids]) == ([sent], [])
    is_copied, why = explained()
    assert not is_copied and why.endswith("copies to collector 'near'")
    assert "no copy goes to collector 'ids'" in why

    controller.end(signal.SIGKILL)
    controller.start("s1")
    controller.wait_for_session("one", "pending", "may still make copies")
    assert "which version of the session it goes on with is not known" in explained()[1]

    reconnect(controller, "s2")
    controller.wait_for_session("one")
    assert explained() == (True, "copied, as a watched port sent it: it has no filter")
    got = lab.exchange([(db, sent)])
    assert (got[near], got[ids]) == ([], [sent])


def test_a_deletion_waits_for_the_bridges_that_hold_the_session_and_no_other(
    controller: ControllerProcess,
) -> None:
    controller.create_session("red", "near", ["web"], "ids", direction="egress")
    controller.create_session("blue", "far", ["shop"], "tap")
    assert copying_flows("s2") == 1
    disconnect(controller, "s2")
    assert controller.delete_session("near") == 204
    assert controller.delete_session("far") == 202
    status = controller.session("far")["status"]
    assert status["state"] == "inactive"
    assert status["reasons"] == ["being deleted: bridge 's2' is not reachable"]
    again = controller.create_session("red", "near", ["web"], "ids", direction="egress")
    assert again["status"]["state"] == "active"
    assert controller.delete_session("near") == 204, "another deletion that waits holds nobody up"
    assert copying_flows("s2") == 1
    reconnect(controller, "s2")
    wait_for(lambda: controller.session("far"), lambda seen: not seen)
    assert copying_flows("s2") == 0


def test_a_crash_does_not_forget_which_bridge_holds_a_session(
    controller: ControllerProcess,
) -> None:
    controller.create_session("red", "moved", ["db"], "ids", direction="egress")
    assert copying_flows("s2") == 1
    disconnect(controller, "s2")
    # it watches only a port of s1 now: only the installed sessions of s2 tell where it was
    controller.change_session("moved", source={"kind": "port", "ports": ["web"]})
    controller.end(signal.SIGKILL)
    controller.start("s1")
    assert controller.delete_session("moved") == 202
    assert copying_flows("s2") == 1
    assert copying_flows("s1") == 0
    reconnect(controller, "s2")
    wait_for(lambda: controller.session("moved"), lambda seen: not seen)
    assert copying_flows("s2") == 0


def test_numbers_come_back_only_when_no_bridge_can_use_their_old_meaning(
    controller: ControllerProcess,
) -> None:
    controller.create_session("blue", "far", ["shop"], "tap")
    before = numbers(controller)
    blue = {key for key in before if "blue" in key[1] or key[0] == "session"}
    assert {kind for kind, _ in blue} == {"network", "port", "session", "tag"}
    disconnect(controller, "s2")
    assert controller.delete_session("far") == 202
    controller.inventory.write_text(GREEN + LINKS)
    wait_for(lambda: numbers(controller), lambda seen: ("port", "green/green-web") in seen)
    assert blue <= numbers(controller).keys(), "s2 still uses them"
    controller.end(signal.SIGKILL)
    controller.start("s1")
    seen = numbers(controller)
    assert blue <= seen.keys(), "s2 still uses them, and a restart forgets that not"
    for kind in ("network", "port", "tag"):
        used = [number for (what, _), number in seen.items() if what == kind]
        assert len(set(used)) == len(used), "no number has two meanings"
    reconnect(controller, "s2")
    left = wait_for(lambda: numbers(controller), lambda seen: not blue & seen.keys())
    stayed = {key: number for key, number in before.items() if key not in blue}
    assert {key: left[key] for key in stayed} == stayed, "what is there keeps its numbers"
    controller.inventory.write_text(INVENTORY + LINKS)
    back = wait_for(lambda: numbers(controller), lambda seen: ("port", "blue/blue-web") in seen)
    assert back["port", "blue/blue-web"] == before["port", "blue/blue-web"], "the lowest free one"


def forget(controller: ControllerProcess, bridge: str) -> str:
    """Run `cloudtap bridge forget`; returns its output."""
    return cloudtap("bridge", "forget", bridge)


def test_a_bridge_that_is_forgotten_blocks_nothing_and_comes_back_like_a_new_one(
    controller: ControllerProcess,
) -> None:
    controller.create_session("red", "both", ["web", "db"], "ids")
    controller.create_session("blue", "far", ["shop"], "tap")
    blue = {key for key in numbers(controller) if "blue" in key[1]}
    assert "bridge 's2' is connected: take this controller off it first" in forget(controller, "s2")
    disconnect(controller, "s2")
    assert controller.delete_session("far") == 202
    controller.inventory.write_text(GREEN + LINKS)
    wait_for(lambda: numbers(controller), lambda seen: ("port", "green/green-web") in seen)
    assert blue <= numbers(controller).keys(), "s2 may still use them"

    assert forget(controller, "s2") == "bridge 's2' is forgotten\n"
    assert not controller.session("far") and not controller.bridge("s2")
    assert controller.place("red-db") is None
    wait_for(lambda: numbers(controller), lambda seen: not blue & seen.keys())
    entry = controller.api.get("/v1/audit?what=forgotten").json()["items"][0]
    assert (entry["kind"], entry["id"], entry["name"]) == ("bridge", f"{0x52:016x}", "s2")
    assert "there is no bridge 's2'" in forget(controller, "s2")
    assert copying_flows("s2") == 2, "no flow was removed"

    reconnect(controller, "s2")
    wait_for(lambda: controller.place("red-db"), lambda place: place == ("s2", 2))
    controller.wait_for_session("both")
    assert copying_flows("s2") == 1
    assert controller.bridge("s2")["reasons"] == [], "no flow is there that is not wanted"


def test_a_bridge_without_a_controller_has_no_flow_of_ours_and_can_be_forgotten(
    controller: ControllerProcess,
) -> None:
    assert ofctl("dump-flows", "s2").count("cookie=0xc7a") > 20
    vsctl("del-controller", "s2")
    wait_for(lambda: controller.bridge("s2")["connected"], lambda there: not there)
    assert "cookie=0xc7a" not in ofctl("dump-flows", "s2")
    assert "is forgotten" in forget(controller, "s2")
    controller.end(signal.SIGTERM)
    vsctl("del-br", "s2")
    controller.start("s1")
    assert not controller.bridge("s2")
