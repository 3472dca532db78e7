"""`cloudtap inventory draft` reads real bridges without a controller, and asks what is unknown."""

from __future__ import annotations

import subprocess
from pathlib import Path

from click.testing import CliRunner, Result

from controller.cli import main
from controller.inventory.file import parse
from tests.ovs.database_server import DatabaseServer
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.runtime_process import Authority
from tests.ovs.waiting import wait_for

TCP = "tcp:127.0.0.1:16640"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["inventory", *arguments])


def frame(sender: str) -> bytes:
    return b"\xff" * 6 + bytes.fromhex(sender) + b"\x08\x00" + bytes(46)


def test_a_draft_of_running_bridges_is_accepted_as_it_is(lab: Lab, tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        lab.add_bridge(name)
        ofctl("add-flow", name, "actions=normal")
    one, many, _ = lab.add_ports("s1", [1, 2, 3], {3: "6e2c"})
    lab.add_ports("s2", [1])
    lab.link("s1", 9, "s2", 9)
    vsctl("set", "Interface", "s1-eth3", "external_ids:attached-mac=02:00:00:00:00:03")
    vsctl("set", "Port", "s2-eth1", "tag=10")
    vsctl("add-port", "s2", "ids", "--", "set", "Interface", "ids", "type=internal")
    sends_to = ["--id=@m", "create", "Mirror", "name=m", "select_all=true", "output_port=@p"]
    vsctl("--id=@p", "get", "Port", "ids", "--", *sends_to, "--", "set", "Bridge", "s2",
          "mirrors=@m")  # fmt: skip
    one.send(frame("020000000001"))
    for address in ("020000000021", "020000000022"):
        many.send(frame(address))
    shown = ["ovs-appctl", "fdb/show", "s1"]
    wait_for(
        lambda: subprocess.run(shown, capture_output=True, text=True, check=True).stdout,
        lambda text: all(f"02:00:00:00:00:{n}" in text for n in ("01", "21", "22")),
    )

    done = run("draft", "s1", "s2")
    file = tmp_path / "inventory.yaml"
    file.write_text(done.output)
    checked = run("check", str(file))

    assert (done.exit_code, checked.exit_code) == (0, 0), done.output + checked.output
    found = parse(done.output.encode())
    assert {port.id: str(port.mac) for port in found.ports} == {
        "s1-eth1": "02:00:00:00:00:01",
        "6e2c": "02:00:00:00:00:03",
        "s2-eth1": "None",
    }
    assert [network.name for network in found.networks] == ["lan", "vlan-10"]
    ((a, b),) = [(link.a.interface, link.b.interface) for link in found.links]
    assert (a, b) == ("s1-eth9", "s2-eth9")
    questions = [line for line in done.output.splitlines() if "DECIDE:" in line]
    assert [word for word in ("who owns", "2 addresses", "a tap port?", "its own?")
            if sum(word in line for line in questions) != 1] == []  # fmt: skip
    assert len(questions) == 4


def test_a_draft_from_afar_says_what_it_cannot_know(lab: Lab) -> None:
    lab.add_bridge("s1")
    lab.add_ports("s1", [1])
    server, listener = ["ovs-appctl", "-t", "ovsdb-server"], "ptcp:16640:127.0.0.1"
    subprocess.run([*server, "ovsdb-server/add-remote", listener], check=True)
    try:
        done = run("draft", "s1", "--ovsdb", TCP, "--tenant", "red")
    finally:
        subprocess.run([*server, "ovsdb-server/remove-remote", listener], check=True)

    assert done.exit_code == 0, done.output
    assert [port.id for port in parse(done.output.encode()).ports] == ["s1-eth1"]
    assert "could not be read" in done.output and "DECIDE:" not in done.output


def test_what_cannot_be_read_is_one_sentence_that_says_what_to_do(lab: Lab) -> None:
    lab.add_bridge("br-int")
    for words, sentence in (
        (["brint"], "has no bridge 'brint': did you mean 'br-int'?"),
        (["zz"], "has no bridge 'zz'; it has br-int"),
        (["br-int", "--ovsdb", TCP], f"nobody listens at {TCP}: see whether ovsdb-server"),
        (["br-int", "--ovsdb", "unix:/none"], "unix:/none does not exist: see whether"),
        (["br-int", "--ovsdb", "ssl:127.0.0.1:1"], "needs certificate, private_key and ca"),
        (["br-int", "--ovsdb", "here"], "is not an OVSDB server: write unix:/path"),
    ):
        done = run("draft", *words)
        assert done.exit_code == 1 and sentence in done.output, done.output


def test_a_database_over_tls_is_read_with_the_certificates_of_the_configuration(
    tmp_path: Path,
) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    certificate, key = ours.issue("database")
    server = DatabaseServer(tmp_path)
    server.start(
        "--remote=pssl:6641:127.0.0.1",
        f"--certificate={certificate}",
        f"--private-key={key}",
        f"--ca-cert={ours.certificate}",
    )
    mine, my_key = ours.issue("operator")
    config = tmp_path / "cloudtap.toml"
    asked = ["draft", "far1", "--ovsdb", "ssl:127.0.0.1:6641", "--config", str(config)]
    try:
        server.fill("far1", 0xF1, 3)
        for authority in (ours, other):
            config.write_text(
                f'[ovsdb]\ncertificate = "{mine}"\nprivate_key = "{my_key}"\n'
                f'ca = "{authority.certificate}"\n'
            )
            done = run(*asked)
            if authority is ours:
                assert [p.id for p in parse(done.output.encode()).ports] == [
                    "port-0",
                    "port-1",
                    "port-2",
                ]
            else:
                assert done.exit_code == 1 and "is not trusted" in done.output, done.output
    finally:
        server.kill()
