"""The command line against a real HTTP server: output for people, and for programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result
from netaddr import IPNetwork

from controller.api import make_app
from controller.cli import main
from controller.cli import session as session_commands
from controller.cli.client import Api
from controller.runtime import RUNTIME_VARIABLE
from controller.status import BridgeShare, State, UndeclaredInterface, UnopenedInterface
from controller.store import Store
from flows.model import Dpid
from flows.openflow import PacketCount
from tests.controller.cli.served import served
from tests.controller.fakes import TWO_TENANTS, FakeReconciler, fill, open_store

Run = Callable[..., Result]
TOKEN = "a-token-of-the-tests"
EVERYWHERE = (IPNetwork("0.0.0.0/0"), IPNetwork("::/0"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def fake(store: Store) -> FakeReconciler:
    return fill(store, TWO_TENANTS)


@pytest.fixture
def url(store: Store, fake: FakeReconciler) -> Iterator[str]:
    app = make_app(
        store, lambda: TWO_TENANTS, fake, fake, lambda: TOKEN, sensor_networks=EVERYWHERE
    )
    with served(app) as url:
        yield url


@pytest.fixture
def run(url: str) -> Run:
    def run(*arguments: str, **environ: str | None) -> Result:
        env = {
            "CLOUDTAP_API": url,
            "CLOUDTAP_TOKEN": TOKEN,
            "CLOUDTAP_TENANT": None,
            "COLUMNS": "80",
            "HTTP_PROXY": "http://127.0.0.1:1",
        }
        return CliRunner().invoke(main, list(arguments), env=env | environ)

    return run


def good(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""
    return result.stdout


def failed(result: Result, status: int = 1) -> str:
    assert result.exit_code == status, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.stderr


def shown(run: Run, *arguments: str) -> Any:
    """The JSON output of a command."""
    return json.loads(good(run(*arguments, "--output", "json")))


def fill_red(run: Run) -> None:
    good(run("collector", "create", "ids", "--tenant", "red", "--port", "ids-1"))
    good(
        run(
            *("session", "create", "web-to-ids", "--tenant", "red", "--collector", "ids"),
            *("--source", "web-1", "--source", "web-2"),
        )
    )


def test_a_session_is_created_listed_shown_and_deleted(run: Run, store: Store) -> None:
    fill_red(run)

    line = next(row for row in good(run("session", "list")).splitlines() if "web-to-ids" in row)
    assert line.split() == ["web-to-ids", "red", "active", "web-1", "both", "ids", "3"]
    text = good(run("session", "show", "web-to-ids"))
    assert "3 packets, 180 bytes" in text and "web-1, web-2" in text
    assert text.splitlines()[-1].split() == ["s1", "active", "3", "180"]
    assert "inactive" in good(run("session", "disable", "web-to-ids"))
    assert "web-to-ids" in good(run("session", "list", "--state", "inactive"))
    assert "active" in good(run("session", "enable", "web-to-ids", "--tenant", "red"))
    assert good(run("session", "delete", "web-to-ids")) == "session 'web-to-ids' is deleted\n"
    assert "There are no sessions" in good(run("session", "list"))
    assert "ids-1" in good(run("collector", "list"))
    assert "ids-1" in good(run("collector", "show", "ids"))
    assert good(run("collector", "delete", "ids")) == "collector 'ids' is deleted\n"
    assert store.sessions.all() == store.collectors.all() == ()


def test_what_each_bridge_has_counted_is_a_table_that_fits_a_terminal(
    run: Run, fake: FakeReconciler
) -> None:
    fake.copies = PacketCount(12_345_678, 9_876_543_210)
    fake.others = (
        BridgeShare(
            Dpid(2), "br-int-of-host-2", State.INACTIVE, PacketCount(7, 700), 4, {"mtu": 5}
        ),
        BridgeShare(Dpid(3), "s3", State.PENDING, skipped={"rate": 123_456}),
    )
    fill_red(run)

    text = good(run("session", "show", "web-to-ids")).splitlines()

    at = next(n for n, row in enumerate(text) if row.startswith("copies"))
    assert [row.split() for row in text[at:] if row.strip("─ ")] == [
        ["copies", "12345685", "packets,", "9876543910", "bytes"],
        ["truncated", "4"],
        ["skipped,", "mtu", "5"],
        ["skipped,", "rate", "123456"],
        ["bridge", "state", "packets", "bytes", "truncated", "mtu", "rate"],
        ["s1", "active", "12345678", "9876543210", "0", "0", "0"],
        ["br-int-of-host-2", "inactive", "7", "700", "4", "5", "0"],
        ["s3", "pending", "0", "0", "0", "0", "123456"],
    ]
    assert max(map(len, text)) <= 80


def test_the_options_of_session_create_reach_the_session(run: Run, store: Store) -> None:
    fill_red(run)
    good(
        run(
            *("session", "create", "x", "--source", "red-web-1", "--collector", "ids"),
            *("--direction", "egress", "--number", "7", "--disabled"),
            CLOUDTAP_TENANT="red",
        )
    )

    session = store.sessions.all()[-1].session
    assert (session.name, session.direction.value, session.number) == ("x", "egress", 7)
    assert not session.enabled and session.source.ports == ("red-web-1",)


def test_creating_waits_until_the_session_is_active(
    run: Run, fake: FakeReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_red(run)
    good(run("session", "delete", "web-to-ids"))
    fake.is_reachable = False
    asked = fake.session_status

    def status_that_turns(session: object) -> object:
        fake.is_reachable = True  # the bridge comes back while the command looks
        fake.sync(1)
        return asked(session)  # type: ignore[arg-type]

    monkeypatch.setattr(fake, "session_status", status_that_turns)
    fill = ("session", "create", "w", "--tenant", "red", "--source", "web-1", "--collector", "ids")

    assert "active" in good(run(*fill))


def test_a_session_that_does_not_become_active_is_reported_with_its_reasons(
    run: Run, fake: FakeReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_commands, "ACTIVE_WAIT_S", 0.5)
    fill_red(run)
    fake.is_reachable = False
    create = ("session", "create", "w", "--tenant", "red", "--source", "web-1", "-c", "ids")
    result = run(*create)

    assert "pending" in result.stdout
    message = failed(result)
    assert message.startswith("cloudtap: session 'w' exists, and is pending after ")
    assert message.endswith(" seconds: not verified yet; it goes on by itself when that changes\n")
    assert "pending" in good(run(*create[:2], "v", *create[3:], "--no-wait"))


def test_a_session_that_is_not_gone_yet_is_reported(run: Run, fake: FakeReconciler) -> None:
    fill_red(run)
    fake.is_reachable = False

    message = failed(run("session", "delete", "web-to-ids"))
    assert "is not gone yet: being deleted: bridge 's1' is not reachable" in message


def test_everything_that_is_declared_can_be_listed(run: Run) -> None:
    ports = good(run("port", "list", "--tenant", "red"))

    assert "web-1" in ports and "s1:1" in ports and "02:00:00:00:00:01" in ports
    assert "ids-1" not in good(run("port", "list", "--kind", "vm"))
    assert "lan" in good(run("network", "list"))
    assert "blue" in good(run("tenant", "list"))
    assert "fe00000000000001" in good(run("bridge", "list"))
    assert good(run("bridge", "flows", "s1")).startswith("table=0 priority=1 actions=drop")


def test_the_status_is_one_screen(run: Run, fake: FakeReconciler) -> None:
    fill_red(run)
    fake.sentences = ["[inventory] file does not exist"]
    for number in range(30):
        body = ("--tenant", "red", "--source", "web-1", "--collector", "ids", "--no-wait")
        good(run("session", "create", f"more-{number}", *body))
    text = good(run("status"))

    assert "5 of 5 ports placed, 31 of 31 sessions active" in " ".join(text.split())
    assert "problem: [inventory] file does not exist" in text
    assert "and 16 more: cloudtap session list" in text
    assert len(text.splitlines()) < 40


def test_the_status_names_what_is_declared_and_nowhere_and_what_is_not_declared(
    run: Run, fake: FakeReconciler
) -> None:
    del fake.places["red-web-2"]
    fake.undeclared = [UndeclaredInterface("s1", f"tap{number}", "0x51") for number in range(30)]
    fake.unopened = [UnopenedInterface("s1", "eth9", "could not open network device eth9")]
    text = " ".join(good(run("status")).split())

    assert "4 of 5 ports placed" in text
    assert "declared, and on no bridge now: red/web-2: looked for red-web-2" in text
    line = (
        "- {id: tap7, tenant: TENANT, network: NETWORK, interface: tap7, bridge: 0x51} and 22 more"
    )
    assert line in text
    assert "eth9 of s1: could not open network device eth9" in text
    answer = json.loads(good(run("status", "-o", "json")))
    assert len(answer["undeclared"]) == 20 and answer["totals"]["undeclared"] == 30


COMMANDS = [
    ("session", "list"),
    ("session", "show", "web-to-ids"),
    ("session", "enable", "web-to-ids"),
    ("collector", "list"),
    ("collector", "show", "ids"),
    ("port", "list"),
    ("network", "list"),
    ("tenant", "list"),
    ("bridge", "list"),
    ("bridge", "flows", "s1"),
    ("status",),
    ("session", "delete", "web-to-ids"),
    ("collector", "delete", "ids"),
]


def test_every_command_speaks_json_and_yaml_and_fits_80_columns(run: Run, url: str) -> None:
    fill_red(run)
    for command in COMMANDS[:-2]:
        for_programs = json.loads(good(run(*command, "--output", "json")))
        assert yaml.safe_load(good(run(*command, "-o", "yaml"))) == for_programs
        table = good(run(*command))
        assert max(len(line) for line in table.splitlines()) <= 80, command
    for command in COMMANDS[-2:]:
        assert json.loads(good(run(*command, "--output", "json")))["deleted"] is True


def test_no_colour_reaches_a_pipe(run: Run) -> None:
    fill_red(run)

    assert "\x1b" not in good(run("session", "list"))
    assert "\x1b" not in good(run("status", FORCE_COLOR=None, NO_COLOR="1"))


# --- what may fail -------------------------------------------------------------------------


def test_a_refusal_is_its_sentence_on_stderr(run: Run) -> None:
    fill_red(run)

    assert failed(run("session", "show", "x")) == "cloudtap: there is no session 'x'\n"
    spy = ("session", "create", "spy", "--tenant", "red", "--source", "blue-web-1", "-c", "ids")
    assert "may not watch port 'web-1', which belongs to tenant 'blue'" in failed(run(*spy))
    assert "is used by session 'web-to-ids'" in failed(run("collector", "delete", "ids"))
    assert "there is no port 'é/../x'" in failed(
        run("collector", "create", "c", "--tenant", "red", "--port", "é/../x")
    )
    assert "there is no session '?limit=1#x'" in failed(run("session", "show", "?limit=1#x"))


def test_a_wrong_use_is_reported_with_status_2(run: Run) -> None:
    assert "Missing option" in failed(run("session", "create", "x"), 2)
    assert "No such command" in failed(run("sesion", "list"), 2)
    assert "is not one of" in failed(run("session", "list", "--output", "xml"), 2)


def test_no_controller_is_reported_with_what_to_do(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        message = failed(run("status", CLOUDTAP_API=address))

    assert message == (
        f"cloudtap: no controller answers at {address}: start it, as a service with "
        "`systemctl start cloudtap`, else with `cloudtap up`; `cloudtap doctor` says what keeps "
        "one from starting\n"
    )


def test_an_api_without_https_is_reported_as_such(run: Run, url: str) -> None:
    wrong = url.replace("http:", "https:")

    assert failed(run("status", CLOUDTAP_API=wrong)) == (
        f"cloudtap: what answers at {wrong} does not speak HTTPS: if it is cloudtap, its URL "
        "begins with http:\n"
    )


@pytest.mark.parametrize(
    "wrong", ["nonsense", "ftp://x", "http://[", "http://x:99999999", "http://a..b"]
)
def test_a_wrong_url_is_reported_in_one_sentence(run: Run, wrong: str) -> None:
    message = failed(run("status", CLOUDTAP_API=wrong))

    assert message.startswith("cloudtap: ") and message.count("\n") == 1 and wrong in message


def test_something_else_at_the_address_is_reported(run: Run) -> None:
    def adopt(environ: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html")])
        return [b"<html>"]

    with served(adopt) as url:
        message = failed(run("status", CLOUDTAP_API=url))

    assert "is not cloudtap" in message


def test_the_token_comes_from_the_environment_or_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{TOKEN}\n")

    assert "--token-file" in failed(run("status", CLOUDTAP_TOKEN=None))
    wrong = failed(run("status", CLOUDTAP_TOKEN="wrong"))
    assert "does not know this token" in wrong and "[api] token_file" in wrong
    good(run("--token-file", str(file), "status", CLOUDTAP_TOKEN=None))
    assert "cannot be read" in failed(run("--token-file", str(tmp_path / "none"), "status"))
    assert "cannot have" in failed(run("status", CLOUDTAP_TOKEN="a\nb"))
    file.chmod(0o640)
    assert "type `chmod go=" in failed(run("--token-file", str(file), "status"))
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "it is a FIFO" in failed(run("--token-file", str(tmp_path / "fifo"), "status"))


@pytest.mark.parametrize("api", ["http://192.0.2.1:9470", "HTTP://tap.invalid", "http://[::2]:1"])
def test_a_token_is_not_sent_where_others_can_read_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    asked: list[str] = []

    def answer(client: httpx.Client, method: str, url: str, **_: object) -> httpx.Response:
        asked.append(url)
        raise httpx.ConnectError("nobody is there")

    monkeypatch.setattr(httpx.Client, "request", answer)
    message = failed(run("--api", api, "status"))
    assert "unencrypted: use https" in message and TOKEN not in message and not asked

    for words, environ in ((["--insecure"], {}), ([], {"CLOUDTAP_INSECURE": "1"})):
        assert "no controller answers" in failed(run("--api", api, *words, "status", **environ))
    assert "no controller answers" in failed(run("--api", api, "status", CLOUDTAP_TOKEN=None))
    assert len(asked) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.0.1"])
def test_a_token_is_sent_to_this_machine(run: Run, host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert "no controller answers" in failed(run("--api", f"http://{host}:{port}", "status"))


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_no_escape_sequence_of_others_reaches_a_terminal(
    run: Run, fake: FakeReconciler, output: str
) -> None:
    evil = "s1\x1b[2J\x9b31m\x07\u202e"
    fake.sentences.append(f"switch says {evil}")
    fake.others = (BridgeShare(Dpid(2), evil, State.ACTIVE, PacketCount(1, 60)),)
    fake.places["red-web-1"] = (evil, 1)
    fill_red(run)
    for arguments in (("status",), ("port", "list"), ("session", "show", "web-to-ids")):
        text = good(run(*arguments, "--output", output))
        assert all(line.isprintable() for line in text.split("\n")), (arguments, text)
        assert "s1\\x1b[2J" in text.replace("\\e", "\\x1b").replace("\\u001b", "\\x1b")
    for arguments in (("session", "show", evil), ("bridge", "flows", evil)):
        text = failed(run(*arguments, "--output", output))
        assert all(line.isprintable() for line in text.split("\n")), (arguments, text)


def test_no_escape_sequence_of_others_is_in_the_labels_of_metrics(
    run: Run, url: str, fake: FakeReconciler
) -> None:
    fake.others = (BridgeShare(Dpid(2), "s1\x1b[2J\u202e", State.ACTIVE, PacketCount(1, 60)),)
    fill_red(run)
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert all(line.isprintable() for line in text.split("\n"))
    assert 'bridge="s1\\\\x1b[2J\\\\u202e"' in text


# --- the controller's own commands ---------------------------------------------------------


INVENTORY = """\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: lan, tenant: blue}
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan, mac: "02:00:00:00:00:01",
     ips: [10.0.0.1], labels: {tier: web}}
  - {id: red-web-2, name: web-2, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids-1, name: ids-1, tenant: red, kind: tap}
  - {id: blue-web-1, name: web-1, tenant: blue, network: lan, mac: "02:00:00:00:00:01"}
  - {id: blue-ids-1, name: ids-1, tenant: blue, kind: tap}
"""


def test_an_edit_of_the_inventory_is_compared_with_what_is_in_force(
    run: Run, tmp_path: Path
) -> None:
    fill_red(run)
    file = tmp_path / "inventory.yaml"
    file.write_text(INVENTORY + "# long\n" * 10_000)
    diff = ("inventory", "check", str(file), "--diff")
    assert good(run(*diff)) == "nothing changes\n"

    more = "  - {id: red-web-3, name: web-3, tenant: red, network: lan}\n"
    file.write_text(INVENTORY + more)
    assert good(run(*diff)) == "+ port red/web-3\n"

    file.write_text(INVENTORY.replace("red-web-2, name", "red-web-9, name"))
    done = run(*diff)
    assert done.exit_code == 3
    assert done.stdout.splitlines() == [
        "+ port red/web-2",
        "- port red/web-2",
        "! port red/web-2 is declared no more: it is cut off",
        "session red/web-to-ids loses red/web-2",
    ]
    answer = json.loads(run(*diff, "-o", "json").stdout)
    assert answer["diff"]["effect"] == "takes" and answer["diff"]["cut_off"]["count"] == 1

    file.write_text("ports: [")
    assert "has 1 problem" in failed(run(*diff))
    good(run("inventory", "show"))


def test_two_inventories_are_compared_without_a_controller(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(INVENTORY)
    new.write_text(INVENTORY[: INVENTORY.index("  - {id: red-web-2")])
    command = ["inventory", "check", str(new), "--against", str(old)]
    done = CliRunner().invoke(main, command, env={"CLOUDTAP_API": "http://127.0.0.1:1"})

    assert done.exit_code == 4, done.output
    assert "not used at once: 4 of 5 ports (" in done.stdout
    assert "sessions are not known without a controller" in done.stdout
    old.write_text("ports: [")
    done = CliRunner().invoke(main, command)
    assert f"{old} has 1 problem" in failed(done)


def test_an_inventory_is_checked_with_every_line(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text("tenants: [red]\nnetworks: [{name: lan, tenant: red}]\n")

    assert good(run("inventory", "check", str(file))).split()[:4] == [
        "tenants",
        "1",
        "networks",
        "1",
    ]
    assert json.loads(good(run("inventory", "check", str(file), "-o", "json")))["networks"] == 1
    file.write_text("tenants: [red]\nports: [{id: a}]\nwhat: 1\n")
    message = failed(run("inventory", "check", str(file)))
    assert f"{file}:2: a port needs `tenant`\n{file}:3: " in message
    assert message.endswith(f"cloudtap: {file} has 2 problem(s)\n")
    failed(run("inventory", "check", str(tmp_path / "none")), 2)
    for nothing in ("", "\n \n"):
        file.write_text(nothing)
        assert "is empty" in failed(run("inventory", "check", str(file)))
    assert capfd.readouterr().err == "", "nothing is said but the answer"


def test_a_bridge_is_forgotten_by_name_unless_it_is_connected(
    run: Run, fake: FakeReconciler
) -> None:
    message = failed(run("bridge", "forget", "s1"))
    assert message == "cloudtap: bridge 's1' is connected: switch it off\n"
    fake.is_reachable = False
    assert "there is no bridge 's9'" in failed(run("bridge", "forget", "s9"))
    assert good(run("bridge", "forget", "s1")) == "bridge 's1' is forgotten\n"
    assert fake.forgotten == [(0xFE00000000000001, "api from 127.0.0.1")]
    fake.forgotten.clear()
    text = good(run("bridge", "forget", "fe00000000000001", "-o", "json"))
    assert json.loads(text) == {"forgotten": True, "bridge": "fe00000000000001"}
    asked = run("bridge", "forget", "--help").output
    assert "Forget none that still forwards packets" in " ".join(asked.split())


@pytest.mark.parametrize(
    ("runtime", "program"), [("ryu", "ryu-manager"), ("os-ken", "controller.runtime.osken")]
)
def test_the_controller_is_started_on_the_configured_runtime(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, program: str
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: started.append(arguments))
    monkeypatch.setenv("CLOUDTAP_CONFIG", "")
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    file = tmp_path / "cloudtap.toml"
    file.write_text(f"[openflow]\nruntime = '{runtime}'\nlisten = '127.0.0.1:0'\n")
    good(run("controller", "--config", str(file)))
    assert program in " ".join(started[0]) and os.environ[RUNTIME_VARIABLE] == runtime
    file.write_text("[openflow]\nruntime = 'pox'\n")
    monkeypatch.delenv(RUNTIME_VARIABLE)
    assert "[openflow] runtime: 'pox' does not do" in failed(
        run("controller", "--config", str(file))
    )


def test_the_controller_is_started_with_its_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], str | None]] = []

    def execv(program: str, arguments: list[str]) -> None:
        started.append((arguments, os.environ.get("CLOUDTAP_CONFIG")))

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setenv("CLOUDTAP_CONFIG", "")
    file = tmp_path / "cloudtap.toml"
    file.write_text("[log]\nlevel = 'debug'\n[openflow]\nlisten = '127.0.0.1:0'\n")
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    good(run("controller", "--runtime", "os-ken", "--config", str(file)))

    [(arguments, config)] = started
    assert os.environ[RUNTIME_VARIABLE] == "os-ken", "it wins over that of the file"
    assert "controller.app" in arguments and config == str(file)
    file.write_text("[log]\nlevel = 'loud'\n[apii]\n")
    message = failed(run("controller", "--config", str(file)))
    assert f"cloudtap: {file}: [log] level: 'loud' does not do" in message
    assert f"cloudtap: {file}: there is no section [apii]" in message
    assert len(started) == 1
    failed(run("controller", "--runtime", "nox"), 2)


@pytest.mark.parametrize(
    ("command", "status", "sentence"),
    [
        ("session list --tenant rde", 1, "there is no tenant 'rde': did you mean 'red'?"),
        ("session list --state activ", 1, "did you mean 'active'?"),
        ("collector list --tenant rde", 1, "there is no tenant 'rde': did you mean 'red'?"),
        ("filter list --tenant rde", 1, "there is no tenant 'rde': did you mean 'red'?"),
        ("network list --tenant rde", 1, "there is no tenant 'rde': did you mean 'red'?"),
        ("port list --tenant rde", 1, "there is no tenant 'rde': did you mean 'red'?"),
        ("port list --network lann", 1, "there is no network 'lann': did you mean 'lan'?"),
        ("port list --bridge s11", 1, "there is no bridge 's11': did you mean 's1'?"),
        ("port list --kind tapp", 2, "'tapp' is not one of 'vm', 'tap'"),
        ("bridge flows s11", 1, "there is no bridge 's11': did you mean 's1'?"),
    ],
)
def test_a_list_of_what_does_not_exist_fails_and_says_so(
    run: Run, command: str, status: int, sentence: str
) -> None:
    assert sentence in failed(run(*command.split()), status).replace("\n", " ")


def command(url: str, *words: str | bytes, **environ: str) -> list[str | bytes]:
    """The command line as a process of its own: `env` gives it its environment."""
    program = "from controller.cli import main; main()"
    given = {"CLOUDTAP_API": url, "CLOUDTAP_TOKEN": TOKEN, "CLOUDTAP_TENANT": "red"} | environ
    pairs = [f"{key}={value}" for key, value in given.items()]
    return ["env", *pairs, sys.executable, "-c", program, *words]


@pytest.mark.parametrize("words", [["session", "list"], ["--help"], ["status", "-o", "json"]])
def test_output_that_cannot_be_written_is_one_sentence(url: str, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command(url, *words), stdout=full, stderr=subprocess.PIPE, text=True)
        silent = subprocess.run(command(url, *words), stdout=full, stderr=full)
    sentence = "cloudtap: the output cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)
    assert silent.returncode == 1


def test_a_change_is_said_to_be_done_where_its_output_cannot_be_written(run: Run, url: str) -> None:
    fill_red(run)
    words = ("session", "create", "made", "--source", "web-1", "-c", "ids", "--disabled")
    for each in (words, ("session", "delete", "made")):
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                command(url, *each), stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert ended.returncode == 1 and ended.stderr == (
            "cloudtap: what was asked for is done, but the output cannot be written: "
            "No space left on device\n"
        )
        is_made = "made" in good(run("session", "list"))
        assert is_made == ("create" in each)


@pytest.mark.parametrize("name", [".", ".."])
@pytest.mark.parametrize("noun", ["session", "filter", "collector"])
def test_dots_are_a_name_that_nothing_has(run: Run, noun: str, name: str) -> None:
    for verb in ("show", "delete"):
        assert f"there is no {noun} {name!r}" in failed(run(noun, verb, name))
    assert "an empty name names nothing" in failed(run(noun, "show", ""))


def test_an_empty_text_is_not_taken_for_an_option_that_is_not_given(run: Run) -> None:
    fill_red(run)
    failed(run("session", "set", "web-to-ids", "--name", ""))
    failed(run("filter", "create", "arp", "--accept", "arp", "--tenant", ""))
    session = ("session", "create", "x", "--tenant", "red", "--collector", "ids")
    for empty in (("--source", ""), ("--source-network", ""), ("--source-label", "")):
        failed(run(*session, *empty))
    failed(run(*session, "--source", "web-1", "--filter", ""))


@pytest.mark.parametrize("utf8", ["1", "0"])
def test_arguments_are_utf_8_in_every_locale(url: str, utf8: str) -> None:
    environ = {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}

    def said(*words: str | bytes) -> bytes:
        ended = subprocess.run(command(url, *words, **environ), capture_output=True)
        assert ended.returncode == 1 and b"Traceback" not in ended.stderr, ended.stderr
        return ended.stderr

    assert b"is not UTF-8 text" in said("session", "show", b"\xff\xfe")
    assert b"is not UTF-8 text" in said("session", "list", "--state", b"\xff")
    assert b"is not UTF-8 text" in said(
        "session", "create", b"\xff", "--source", "web-1", "-c", "ids"
    )
    assert b"there is no session" in said("session", "show", "n\u00f6pe".encode())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://user:secret@127.0.0.1:1", "http://***@127.0.0.1:1"),
        ("http://user:se/cr@secret@127.0.0.1:1", "http://***@127.0.0.1:1"),
        ("user:secret@127.0.0.1:1", "***@127.0.0.1:1"),
        ("ftp://user:secret@x", "ftp://***@x"),
        ("https://secret@127.0.0.1:1", "https://***@127.0.0.1:1"),
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1"),
    ],
)
def test_the_password_of_a_url_is_shown_nowhere(run: Run, given: str, shown: str) -> None:
    said = failed(run("--api", given, "status"))
    assert "secret" not in said and shown in said, said
    assert "secret" not in repr(Api(given, "secret-token"))


def test_the_password_of_a_url_is_not_shown_by_status(run: Run, url: str) -> None:
    host = url.removeprefix("http://")
    # the password stands for a token that the API does not know
    said = run("--api", f"http://user:secret@{host}", "status").output
    assert "secret" not in said and f"http://***@{host}" in said, said
