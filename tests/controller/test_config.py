"""The configuration: sensible without a file, and every mistake told with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.config.settings import (
    LOCAL_OVSDB,
    Config,
    ConfigError,
    is_loopback,
    load,
    split_listen,
)
from controller.config.reference import render
from flows.model.session import Rate, RateUnit

TOKEN = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cloudtap.toml"


def problems(file: Path, text: str = "", **environ: str) -> tuple[str, ...]:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ)
    return caught.value.problems


def test_without_a_file_one_machine_works(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(None, {})

    assert config.openflow.listen == "127.0.0.1:6653"
    assert config.api.listen == "127.0.0.1:9470"
    assert config.api.read_token() is None
    assert config.inventory.file == Path("/etc/cloudtap/inventory.yaml")
    assert config.bridges.may_own("anything")
    assert (config.log.level, config.log.format) == ("info", "console")


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text("[api]\nlisten = '127.0.0.1:1'\n[log]\nlevel = 'error'\n")
    config = load(None, {"CLOUDTAP_CONFIG": str(file), "CLOUDTAP_API__LISTEN": "[::1]:2"})

    assert (config.api.listen, config.log.level) == ("[::1]:2", "error")
    assert split_listen(config.api.listen) == ("::1", 2)


def test_lists_are_written_with_commas_in_the_environment() -> None:
    environ = {
        "CLOUDTAP_BRIDGES__OWN": "s1, s2",
        "CLOUDTAP_OVSDB__REMOTES": "tcp:192.0.2.1:6640,unix:/x",
        "CLOUDTAP_OPENFLOW__ECHO_SECONDS": "2.5",
    }
    config = load(None, environ)

    assert config.bridges.own == ("s1", "s2")
    assert config.bridges.may_own("s1") and not config.bridges.may_own("s3")
    assert config.ovsdb.remotes_now() == ("tcp:192.0.2.1:6640", "unix:/x")
    assert config.openflow.echo_seconds == 2.5
    assert load(None, {"CLOUDTAP_BRIDGES__OWN": "all"}).bridges.may_own("s3")


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("'200 mbps'", Rate(RateUnit.KBPS, 200_000)),
        ("'5000 pps'", Rate(RateUnit.PPS, 5000)),
        ("{kbps = 7}", Rate(RateUnit.KBPS, 7)),
        ("{pps = 7}", Rate(RateUnit.PPS, 7)),
    ],
)
def test_what_copies_may_cost_is_written_in_words_or_as_a_table(
    file: Path, written: str, rate: Rate
) -> None:
    file.write_text(f"[bridges]\nunderlay_mtu = 9000\nbridge_rate = {written}\n")
    config = load(file, {})

    assert (config.bridges.underlay_mtu, config.bridges.bridge_rate) == (9000, rate)
    environ = {"CLOUDTAP_BRIDGES__BRIDGE_RATE": "1 gbps", "CLOUDTAP_BRIDGES__UNDERLAY_MTU": "1400"}
    config = load(file, environ)
    assert config.bridges.bridge_rate == Rate(RateUnit.KBPS, 1_000_000)
    assert config.bridges.underlay_mtu == 1400
    assert (load(None, {}).bridges.underlay_mtu, load(None, {}).bridges.bridge_rate) == (1500, None)


def test_links_are_taken_to_carry_a_full_packet_with_two_tags(file: Path) -> None:
    assert load(None, {}).bridges.link_mtu == 1500 + 4 + 4
    file.write_text("[bridges]\nlink_mtu = 9004\n")
    assert load(file, {}).bridges.link_mtu == 9004


@pytest.mark.parametrize(
    "written", ["['192.0.2.0/24', 'fd00:9::/64']", "'192.0.2.0/24,fd00:9::/64'"]
)
def test_where_remote_sensors_may_be_is_a_list_of_networks(file: Path, written: str) -> None:
    file.write_text(f"[bridges]\nsensor_networks = {written}\n")
    assert list(map(str, load(file, {}).bridges.sensor_networks)) == ["192.0.2.0/24", "fd00:9::/64"]
    assert load(None, {}).bridges.sensor_networks == ()


def test_variables_of_the_command_line_are_not_configuration() -> None:
    environ = {"CLOUDTAP_API": "http://x", "CLOUDTAP_TOKEN": "t", "CLOUDTAP_TENANT": "red"}

    assert load(None, environ) == load(None, {})


def test_the_default_ovsdb_is_used_only_while_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "db.sock"
    monkeypatch.setattr("controller.config.settings.LOCAL_OVSDB", f"unix:{socket}")
    config = load(None, {})

    assert config.ovsdb.remotes_now() == ()
    socket.touch()
    assert config.ovsdb.remotes_now() == (LOCAL_OVSDB,)


def test_a_state_directory_suits_who_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load(None, {}).state.directory == Path("/var/lib/cloudtap")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert load(None, {}).state.directory == Path("/home/x/state/cloudtap")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[api]\nlisten = 'here'", "[api] listen: 'here' is not an address to listen on"),
        ("[api]\nlisten = ':9470'", "is not an address to listen on"),
        ("[api]\nlisten = '::1:9470'", "an IPv6 address without brackets"),
        ("[api]\nlisten = '127.0.0.1:99999'", "is not an address to listen on"),
        ("[api]\nlisten = 9470", "[api] listen: 9470 does not do"),
        ("[api]\nlisten = '0.0.0.0:9470'", "opens the API to other machines: give a token_file"),
        ("[api]\ntoken_file = '/no/such'", "[api] token_file: file '/no/such' cannot be read"),
        ("[api]\nport = 1", "[api] port: there is no such key; keys: listen, token_file"),
        ("[apii]\n", "there is no section [apii]; sections: openflow"),
        ("listen = 1", "there is no section [listen]"),
        ("api = 1", "[api]: 1 does not do"),
        ("[openflow]\nlisten = '0.0.0.0:6653'", "program switches unencrypted: give certificate"),
        ("[openflow]\nlisten = 'example.net:6653'", "program switches unencrypted"),
        ("[openflow]\necho_seconds = 0", "[openflow] echo_seconds: 0 does not do: input should be"),
        ("[openflow]\ncertificate = '/etc/passwd'", "belong together: give all three or none"),
        ("[ovsdb]\nremotes = ['here']", "[ovsdb] remotes: 'here' is not an OVSDB server"),
        ("[ovsdb]\nremotes = ['tcp:here']", "is not an address"),
        ("[ovsdb]\nremotes = ['ssl:192.0.2.1:6640']", "an ssl: remote needs certificate"),
        ("[log]\nlevel = 'loud'", "[log] level: 'loud' does not do: input should be 'debug'"),
        ("[bridges]\nown = 7", "[bridges] own"),
        ("[log\n", "not valid TOML"),
        ("[bridges]\nunderlay_mtu = 575", "[bridges] underlay_mtu: 575 does not do"),
        ("[bridges]\nbridge_rate = '0 mbps'", "a rate of 0 kbps is outside 1..4294967295"),
        ("[bridges]\nbridge_rate = 7", "7 is no rate: write it like '200 mbps' or '5000 pps'"),
        ("[bridges]\nbridge_rate = {kbps = 1, pps = 2}", "is no rate: write it like"),
        ("[bridges]\nsensor_networks = 7", "7 is no list of networks"),
        ("[bridges]\nsensor_networks = ['192.0.2.1/24']", "has host bits set"),
        ("[bridges]\nbridge_rate = 'fast'", "[bridges] bridge_rate: rate 'fast' is not understood"),
    ],
)
def test_a_mistake_is_told_with_file_section_and_key(file: Path, text: str, sentence: str) -> None:
    found = problems(file, text)

    assert any(sentence in problem for problem in found), found
    assert all(problem.startswith(f"{file}: ") and "\n" not in problem for problem in found)


def test_a_mistake_in_the_environment_is_told_with_the_variable(file: Path) -> None:
    assert problems(file, CLOUDTAP_LOG__LEVEL="loud")[0].startswith(
        "CLOUDTAP_LOG__LEVEL: [log] level: 'loud' does not do"
    )
    assert problems(file, CLOUDTAP_API__LISTN="x") == (
        "CLOUDTAP_API__LISTN: [api] listn: there is no such key; keys: listen, token_file",
    )
    assert problems(file, CLOUDTAP_APII__LISTEN="x")[0].startswith(
        "CLOUDTAP_APII__LISTEN: there is no section [apii]"
    )
    assert problems(file, CLOUDTAP_API__LISTEN="0.0.0.0:1")[0].startswith(
        "CLOUDTAP_API__LISTEN: [api]: listen = '0.0.0.0:1' opens"
    )


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    assert len(problems(file, "[api]\nport = 1\n[log]\nlevel = 'loud'\nx = 1\n")) == 3


def test_a_named_file_must_exist(file: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(file, {})
    with pytest.raises(ConfigError, match="does not exist"):
        load(None, {"CLOUDTAP_CONFIG": str(file)})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(file.parent, {})


def test_other_machines_are_served_with_certificates_and_a_token(
    tmp_path: Path, file: Path
) -> None:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).touch()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    file.write_text(
        f"[openflow]\nlisten = '0.0.0.0:6653'\ncertificate = '{tmp_path}/cert'\n"
        f"private_key = '{tmp_path}/key'\nca = '{tmp_path}/ca'\n"
        f"[api]\nlisten = '0.0.0.0:9470'\ntoken_file = '{tmp_path}/token'\n"
    )
    config = load(file, {})

    assert config.openflow.is_tls
    assert config.api.read_token() == TOKEN
    assert load(
        None, {"CLOUDTAP_OPENFLOW__LISTEN": "0.0.0.0:1", "CLOUDTAP_OPENFLOW__INSECURE": "true"}
    )


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "ünïcödé-ünïcödé-ünïcödé"])
def test_a_token_that_protects_nothing_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    config = load(None, {"CLOUDTAP_API__TOKEN_FILE": str(tmp_path / "token")})

    with pytest.raises(ConfigError, match="token_file"):
        config.api.read_token()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_only_loopback_addresses_count_as_this_machine(listen: str, expected: bool) -> None:
    assert is_loopback(listen) is expected


def test_the_reference_page_names_every_section_and_key() -> None:
    page = render()

    for section, field in Config.model_fields.items():
        assert f"## [{section}]" in page
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            assert f"| `{key}` |" in page
