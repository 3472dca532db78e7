"""An inventory file that lacks what runs takes nothing from production until somebody says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests.ovs.controller_process import API, START_S, ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

CAREFUL = {"inventory__vanish_limit": "0.2", "inventory__settle_seconds": "600"}
HALF = INVENTORY[: INVENTORY.index("  - {id: red-db")]


@pytest.fixture(params=["ryu", "os-ken"])
def running(  # the file is read in time slices: both runtimes go on meanwhile
    cloud: SmallCloud, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ControllerProcess]:
    """With a session on s1, and the brake of the default configuration."""
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1", **CAREFUL)
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        yield process
        assert "Traceback" not in process.log()


def exchange(controller: ControllerProcess, text: str) -> None:
    new = controller.inventory.with_suffix(".new")
    new.write_text(text)
    new.rename(controller.inventory)


def cloudtap(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, env={"CLOUDTAP_API": f"http://{API}"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_file_in_two_halves_never_stops_the_production_of_the_missing_half(
    cloud: SmallCloud, running: ControllerProcess
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    watched = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(watched) as traffic:
        there, _ = cloud.red_streams(traffic)
        traffic.wait_until_past(there, cloud.at["red-db"], 5)
        first = traffic.now(there) + 1
        for half in (HALF, "tenants: [red, blue]\n", INVENTORY.partition("ports:")[0]):
            running.inventory.write_text(half)
            assert "cloudtap inventory accept" in running.wait_for_problem("missing or changed")
            assert ofctl("--no-stats", "dump-flows", "s1") == flows
        running.end()
        running.start("s1", **CAREFUL)
        running.wait_for_problem("cloudtap inventory accept")
        running.inventory.write_text(INVENTORY)
        wait_for(lambda: running.status()["problems"], lambda found: not found)
        assert running.wait_for_session("one")
        last = traffic.now(there)
        traffic.wait_until_past(there, cloud.at["red-db"], last)
        traffic.stop()
        assert not traffic.faults(there, cloud.at["red-db"], first, last)


def test_what_is_missing_goes_when_the_operator_accepts_it(running: ControllerProcess) -> None:
    exchange(running, HALF)
    running.wait_for_problem("6 of 7 ports (red/db, blue/web, blue/db, ...), 6 of 7 that run")
    assert running.place("red-db") == ("s1", 2)
    assert "red/db" in cloudtap("inventory", "show")
    assert "accepted: 6 of 7 ports" in cloudtap("inventory", "accept")
    assert running.api.get("/v1/ports/red-db").status_code == 404
    assert not running.status()["problems"]
    [entry] = running.api.get("/v1/audit?kind=inventory").json()["items"]
    assert entry["what"] == "accepted" and "6 of 7 ports" in entry["detail"]["missing"]
    running.end()
    running.start("s1", **CAREFUL)
    assert running.api.get("/v1/ports/red-db").status_code == 404, "it stays accepted"
    refused = running.api.post("/v1/inventory/accept", json={"digest": "0"})
    assert refused.status_code == 409


def test_one_port_that_vanishes_by_a_renamed_file_goes_at_once(running: ControllerProcess) -> None:
    lines = INVENTORY.splitlines(keepends=True)
    exchange(running, "".join(line for line in lines if "blue-db" not in line))
    wait_for(lambda: running.api.get("/v1/ports/blue-db").status_code, lambda status: status == 404)
    assert not running.status()["problems"]


def test_a_hangup_has_a_file_used_that_was_written_in_place(running: ControllerProcess) -> None:
    lines = INVENTORY.splitlines(keepends=True)
    running.inventory.write_text("".join(line for line in lines if "blue-db" not in line))
    running.wait_for_problem("send the controller a SIGHUP")
    assert running.api.get("/v1/ports/blue-db").status_code == 200
    os.kill(running.pid, signal.SIGHUP)
    wait_for(lambda: running.api.get("/v1/ports/blue-db").status_code, lambda status: status == 404)
    assert not running.status()["problems"]
    assert "inventory, certificates and tokens are read again" in running.log()


def test_a_fifo_in_place_of_the_inventory_is_said_and_waits_for_nobody(
    running: ControllerProcess,
) -> None:
    running.inventory.unlink()
    os.mkfifo(running.inventory, 0o600)
    running.wait_for_problem("it is a FIFO, not a regular file")
    assert running.wait_for_session("one")
    running.end()
    running.start("s1", **CAREFUL)
    running.wait_for_problem("it is a FIFO, not a regular file")
    assert running.wait_for_session("one")


def test_a_huge_wrong_inventory_is_said_in_some_lines_and_the_api_answers_meanwhile(
    running: ControllerProcess,
) -> None:
    wrong = "  - {id: x, tenant: nobody, network: none, mac: bad, ips: [bad]}\n"
    lines_before = running.log().count("\n")
    running.inventory.write_text(INVENTORY + wrong * 30_000)
    wait_for(
        lambda: running.status()["problems"],
        lambda found: any("the rest was not checked" in each for each in found),
        START_S * 4,
    )
    tags = "  - !x y\n" * 900_000
    running.inventory.write_text(f"{INVENTORY}# other\n{tags}")
    running.wait_for_problem("tag !x")
    ips = ", ".join(f"10.1.{n // 250}.{n % 250 + 1}" for n in range(30_000))
    port = f"  - {{id: many, tenant: red, network: lan, ips: [{ips}]}}\n"
    running.inventory.write_text(INVENTORY + port)
    running.wait_for_problem("more than 256 IP addresses")
    assert running.log().count("\n") - lines_before < 200
    assert running.wait_for_session("one")


def test_an_edit_is_compared_with_what_runs_before_it_is_in_force(
    running: ControllerProcess, tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    check = ["inventory", "check", str(new), "--diff"]
    environment = {"CLOUDTAP_API": f"http://{API}"}
    wait_for(lambda: running.place("red-ids"), bool)
    more = "".join(
        f"  - {{id: more-{n}, tenant: blue, network: lan, interface: some-{n}}}\n"
        for n in range(20_000)
    )
    assert len(more) > 1 << 20, "longer than the body of other requests may be"
    new.write_text(INVENTORY + more)
    assert "and 19980 more" in cloudtap(*check)

    new.write_text("".join(line for line in INVENTORY.splitlines(True) if "red-web" not in line))
    done = CliRunner().invoke(main, check, env=environment)
    assert done.exit_code == 3
    assert done.output.splitlines() == [
        "- port red/web",
        "! port red/web is declared no more: it is cut off",
        "session red/one loses red/web",
    ]
    new.write_text(HALF)
    done = CliRunner().invoke(main, check, env=environment)
    assert done.exit_code == 4 and "cloudtap inventory accept" in done.output
    held = done.output.partition("not used at once: ")[2].partition(" are missing")[0]

    exchange(running, HALF)
    assert held in running.wait_for_problem("missing or changed")
    assert running.place("red-web")
