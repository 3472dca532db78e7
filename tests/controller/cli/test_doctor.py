"""`cloudtap doctor` says what is missing, and what follows from it."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controller.api import make_app
from controller.cli import main
from tests.controller.cli.served import served
from tests.controller.fakes import TWO_TENANTS, fill, open_store
from tests.openstack_api import PASSWORD, RED, OpenStackApi, port

INVENTORY = """\
tenants: [red]
ports:
  - {id: ids, tenant: red, kind: tap, interface: tap0}
"""


class Machine:
    """The files of a machine, and free addresses for a controller."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "inventory.yaml").write_text(INVENTORY)
        self.database = socket.socket(socket.AF_UNIX)
        self.database.bind(str(folder / "db.sock"))
        self.database.listen()
        self.settings = {
            "CLOUDTAP_INVENTORY__FILE": str(folder / "inventory.yaml"),
            "CLOUDTAP_STATE__DIRECTORY": str(folder / "state"),
            "CLOUDTAP_OVSDB__REMOTES": f"unix:{folder}/db.sock",
            "CLOUDTAP_API__LISTEN": "127.0.0.1:0",
            "CLOUDTAP_OPENFLOW__LISTEN": "127.0.0.1:0",
        }

    def doctor(self, *arguments: str, **more: str) -> Result:
        """Run the command with these settings."""
        env = {**self.settings, **more}
        return CliRunner().invoke(main, ["doctor", *arguments], env=env)

    def found(self, what: str, **more: str) -> tuple[str, str]:
        """Severity and sentence of one row, or of the first one of several."""
        rows = json.loads(self.doctor("--output", "json", **more).stdout)
        row = next(row for row in rows if row["what"] == what)
        return row["verdict"], row["found"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv("CLOUDTAP_CONFIG", raising=False)
    return Machine(tmp_path)


def test_a_machine_that_has_everything_is_fine(machine: Machine) -> None:
    done = machine.doctor()
    assert done.exit_code == 0 and "problem" not in done.stdout, done.output
    for what in ("inventory", "state directory", "database", "API"):
        assert machine.found(what)[0] == "ok"
    assert not (machine.folder / "state").exists(), "it changes nothing"


def test_what_is_wrong_is_a_problem_and_the_status_of_the_command(machine: Machine) -> None:
    done = machine.doctor(CLOUDTAP_API__LISTEN="nowhere")
    assert done.exit_code == 1 and "1 problem(s)" in done.stderr
    assert "CLOUDTAP_API__LISTEN" in machine.found("configuration", CLOUDTAP_API__LISTEN="x")[1]
    (machine.folder / "inventory.yaml").write_text("ports: [{id: x}]\n")
    assert machine.found("inventory")[0] == "problem"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        severity, words = machine.found("API", CLOUDTAP_OPENFLOW__LISTEN=taken)
    assert severity == "problem" and f"[openflow] listen = '{taken}'" in words


def test_a_state_directory_of_another_user_is_a_problem(machine: Machine) -> None:
    state = machine.folder / "state"
    state.mkdir()
    assert machine.found("state directory") == ("ok", str(state))
    os.chown(state, 65534, 65534)
    severity, words = machine.found("state directory")
    assert severity == "problem" and "runuser -u nobody" in words


def test_what_works_less_without_a_database_is_told(machine: Machine) -> None:
    machine.database.close()
    severity, words = machine.found("database")
    assert severity == "less" and "whether bridges keep their flows" in words
    elsewhere = machine.found("database", CLOUDTAP_OVSDB__REMOTES="tcp:127.0.0.1:1")
    assert elsewhere[0] == "less" and elsewhere[1].startswith("tcp:127.0.0.1:1: ")


def test_what_a_running_controller_says_of_its_bridges_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    fake = fill(store, TWO_TENANTS)
    [bridge] = fake.bridges()
    note = "a packet of network 'lan' may need 950 outputs"
    monkeypatch.setattr(fake, "bridges", lambda: [replace(bridge, reasons=(note,))])
    tokens = [None, "a-token"]
    for token in tokens:
        app = make_app(store, lambda: TWO_TENANTS, fake, fake, lambda token=token: token)
        with served(app) as url:
            listen = url.removeprefix("http://")
            if token is None:
                assert machine.found("bridge s1", CLOUDTAP_API__LISTEN=listen) == ("less", note)
            else:
                severity, words = machine.found("bridges", CLOUDTAP_API__LISTEN=listen)
                assert severity == "ok" and "cloudtap bridge list" in words
    store.close()


def test_an_inventory_without_ports_is_told(machine: Machine) -> None:
    (machine.folder / "inventory.yaml").write_text("ports: []\n")
    severity, words = machine.found("inventory")
    assert severity == "less" and "cut off" in words


def test_up_does_not_begin_where_the_address_for_switches_is_in_use(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(os, "execv", lambda program, _: begun.append(program))
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        env = {**machine.settings, "CLOUDTAP_OPENFLOW__LISTEN": taken}
        refused = CliRunner().invoke(main, ["up"], env=env)
        assert refused.exit_code == 1 and not begun
        assert "the port is in use by another program" in refused.output
        assert "[openflow] listen" in refused.output
    CliRunner().invoke(main, ["up"], env=env)
    assert len(begun) == 1


def test_a_full_disk_of_the_state_directory_is_a_problem(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.folder / "state").mkdir()
    free = os.statvfs(machine.folder)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*free[:4], 0, *free[5:])))
    severity, words = machine.found("state directory")
    assert severity == "problem" and "is full: make room on it" in words


def test_neutron_is_asked_as_the_controller_asks_it(machine: Machine, tmp_path: Path) -> None:
    with OpenStackApi(tmp_path) as api:
        asked = {
            "CLOUDTAP_NEUTRON__CLOUD": "lab",
            "CLOUDTAP_NEUTRON__TIMEOUT_SECONDS": "5",
            "OS_CLIENT_CONFIG_FILE": str(api.clouds),
        }
        nothing = ("less", "cloud 'lab' has 0 workloads in 2 networks")
        assert machine.found("Neutron", **asked) == nothing
        api.set_ports(port("p1", RED, "fa:16:3e:00:00:01"))
        assert machine.found("Neutron", **asked)[0] == "ok"
        api.clouds.write_text(api.clouds.read_text().replace(PASSWORD, "wrong"))
        verdict, sentence = machine.found("Neutron", **asked)
        assert verdict == "less" and "the login is refused" in sentence
