"""The configuration: defaults without a file, and every error with its place."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from controller.config import Config, ConfigError, load, split_listen
from controller.config.reference import render
from controller.config.settings import LOCAL_OVSDB
from controller.config.values import is_loopback
from controller.process import Access, UnusableFile, check_access
from flows.model import Dpid, Rate, RateUnit

TOKEN = "0123456789abcdef"
ROOT = 0


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
    assert config.bridges.may_own(Dpid(1), "anything")
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
    assert config.bridges.may_own(Dpid(1), "s1") and not config.bridges.may_own(Dpid(1), "s3")
    assert config.ovsdb.remotes_now() == ("tcp:192.0.2.1:6640", "unix:/x")
    assert config.openflow.echo_seconds == 2.5
    assert load(None, {"CLOUDTAP_BRIDGES__OWN": "all"}).bridges.may_own(Dpid(1), "s3")


def test_bridges_of_ours_may_be_named_with_their_host_or_by_datapath_id() -> None:
    bridges = load(None, {"CLOUDTAP_BRIDGES__OWN": "br-int@hv1,0x51"}).bridges

    assert bridges.may_own(Dpid(1), "br-int", ["hv1"])
    assert not bridges.may_own(Dpid(1), "br-int", ["hv2"])
    assert bridges.may_own(Dpid(0x51), "whatever") and not bridges.may_own(Dpid(0x52), "0x51x")


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("'200 mbps'", Rate(RateUnit.KBPS, 200_000)),
        ("'5000 pps'", Rate(RateUnit.PPS, 5000)),
        ("{kbps = 7}", Rate(RateUnit.KBPS, 7)),
        ("{pps = 7}", Rate(RateUnit.PPS, 7)),
    ],
)
def test_a_bridge_rate_is_written_as_text_or_as_a_table(
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


def test_the_default_link_mtu_fits_a_full_packet_with_two_tags(file: Path) -> None:
    assert load(None, {}).bridges.link_mtu == 1500 + 4 + 4
    file.write_text("[bridges]\nlink_mtu = 9004\n")
    assert load(file, {}).bridges.link_mtu == 9004


@pytest.mark.parametrize(
    "written", ["['192.0.2.0/24', 'fd00:9::/64']", "'192.0.2.0/24,fd00:9::/64'"]
)
def test_sensor_networks_are_a_list_of_networks(file: Path, written: str) -> None:
    file.write_text(f"[bridges]\nsensor_networks = {written}\n")
    assert list(map(str, load(file, {}).bridges.sensor_networks)) == ["192.0.2.0/24", "fd00:9::/64"]
    assert load(None, {}).bridges.sensor_networks == ()


def test_variables_of_the_command_line_are_not_configuration() -> None:
    environ = {"CLOUDTAP_API": "http://x", "CLOUDTAP_TOKEN": "t", "CLOUDTAP_TENANT": "red"}
    environ |= {"CLOUDTAP_PORT": "tcp://10.0.0.1:80", "CLOUDTAP_SERVICE_HOST": "10.0.0.1"}

    assert load(None, environ) == load(None, {})


def test_a_setting_with_one_underscore_is_refused(file: Path) -> None:
    assert problems(file, CLOUDTAP_INVENTORY_FILE="x", CLOUDTAP_API_TOKEN_FILE="y") == (
        "CLOUDTAP_API_TOKEN_FILE: there is no such variable: did you mean "
        "CLOUDTAP_API__TOKEN_FILE?",
        "CLOUDTAP_INVENTORY_FILE: there is no such variable: did you mean "
        "CLOUDTAP_INVENTORY__FILE?",
    )


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
        ("[api]\nlistn = 1", "[api] listn: there is no such key: did you mean 'listen'?"),
        ("[apii]\n", "there is no section [apii]: did you mean 'api'?"),
        ("[weather]\n", "there is no section [weather]; sections: openflow"),
        ("listen = 1", "there is no section [listen]"),
        ("api = 1", "[api]: 1 does not do"),
        ("[openflow]\nlisten = '0.0.0.0:6653'", "program switches unencrypted: give certificate"),
        ("[openflow]\nlisten = 'example.net:6653'", "program switches unencrypted"),
        ("[openflow]\necho_seconds = 0", "[openflow] echo_seconds: 0 does not do: input should be"),
        ("[openflow]\ncertificate = '/etc/passwd'", "belong together: give all three or none"),
        ("[ovsdb]\nremotes = ['here']", "[ovsdb] remotes: 'here' is not an OVSDB server"),
        ("[ovsdb]\nremotes = ['tcp:here']", "is not an address"),
        (f"[ovsdb]\nremotes = ['tcp:{'a' * 64}:6640']", "has 1 to 63 characters"),
        (f"[ovsdb]\nremotes = ['tcp:db.{'a' * 64}.example:6640']", "has no valid host"),
        ("[ovsdb]\nremotes = ['ssl:db..example:6640']", "'db..example:6640' has no valid host"),
        ("[ovsdb]\nremotes = ['tcp:a b:6640']", "a name has no spaces in it"),
        (f"[api]\nlisten = '{'a' * 64}:9470'", "has 1 to 63 characters"),
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
def test_an_error_names_file_section_and_key(file: Path, text: str, sentence: str) -> None:
    found = problems(file, text)

    assert any(sentence in problem for problem in found), found
    assert all(problem.startswith(f"{file}: ") and "\n" not in problem for problem in found)


def test_an_error_in_the_environment_names_the_variable(file: Path) -> None:
    assert problems(file, CLOUDTAP_LOG__LEVEL="loud")[0].startswith(
        "CLOUDTAP_LOG__LEVEL: [log] level: 'loud' does not do"
    )
    assert problems(file, CLOUDTAP_API__LISTN="x") == (
        "CLOUDTAP_API__LISTN: [api] listn: there is no such key: did you mean 'listen'?",
    )
    assert problems(file, CLOUDTAP_APII__LISTEN="x")[0].startswith(
        "CLOUDTAP_APII__LISTEN: there is no section [apii]"
    )
    assert problems(file, CLOUDTAP_API__LISTEN="0.0.0.0:1")[0].startswith(
        "CLOUDTAP_API__LISTEN: [api]: listen = '0.0.0.0:1' opens"
    )


def test_all_errors_are_reported_at_once(file: Path) -> None:
    assert len(problems(file, "[api]\nport = 1\n[log]\nlevel = 'loud'\nx = 1\n")) == 3


def test_a_named_file_must_exist(file: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(file, {})
    with pytest.raises(ConfigError, match="does not exist"):
        load(None, {"CLOUDTAP_CONFIG": str(file)})
    with pytest.raises(ConfigError, match="cannot be read: it is a directory"):
        load(file.parent, {})


def secret(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o666])
def test_a_token_file_that_others_may_open_is_refused_with_what_to_type(
    tmp_path: Path, mode: int
) -> None:
    token = tmp_path / "to ken"
    secret(token, TOKEN)
    token.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(None, {"CLOUDTAP_API__TOKEN_FILE": str(token)})
    assert "CLOUDTAP_API__TOKEN_FILE: [api] token_file" in str(caught.value)
    assert f"is open to other users of this machine (mode {mode:04o})" in str(caught.value)
    command = str(caught.value).partition("type `")[2].removesuffix("`")
    subprocess.run(command, shell=True, check=True)
    assert load(None, {"CLOUDTAP_API__TOKEN_FILE": str(token)}).api.read_token() == TOKEN


def test_the_token_file_is_checked_again_when_it_is_read(tmp_path: Path) -> None:
    secret(tmp_path / "token", TOKEN)
    config = load(None, {"CLOUDTAP_API__TOKEN_FILE": str(tmp_path / "token")})
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod go="):
        config.api.read_token()


def test_a_private_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    names = ("certificate", "private_key", "ca")
    for name in names:
        (tmp_path / name).touch(mode=0o644)
    given = {f"CLOUDTAP_OPENFLOW__{name.upper()}": str(tmp_path / name) for name in names}
    with pytest.raises(
        ConfigError, match=r"open to other users of this machine \(mode 0644\): type"
    ):
        load(None, given)
    (tmp_path / "private_key").chmod(0o600)
    assert load(None, given).openflow.is_tls


@pytest.mark.parametrize("section", ["OPENFLOW", "OVSDB", "API"])
@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o666])
def test_every_private_key_has_to_be_private(tmp_path: Path, section: str, mode: int) -> None:
    names = ("certificate", "private_key") + (() if section == "API" else ("ca",))
    for name in names:
        (tmp_path / name).touch(mode=0o644)
    (tmp_path / "private_key").chmod(mode)
    given = {f"CLOUDTAP_{section}__{name.upper()}": str(tmp_path / name) for name in names}
    with pytest.raises(ConfigError, match=f"private_key.* is open to .*mode {mode:04o}") as caught:
        load(None, given)
    command = str(caught.value).partition("type `")[2].removesuffix("`")
    subprocess.run(command, shell=True, check=True)
    assert load(None, given)


@pytest.mark.parametrize(
    ("mode", "owner", "is_refused"),
    [
        (0o600, ROOT, False), (0o640, ROOT, False), (0o400, ROOT, False), (0o660, ROOT, True),
        (0o644, ROOT, True), (0o600, 1000, False), (0o640, 1000, True), (0o604, 1000, True),
    ],
)  # fmt: skip
def test_the_group_may_read_a_private_key_only_if_root_owns_it(
    tmp_path: Path, mode: int, owner: int, is_refused: bool
) -> None:
    found = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    expected = pytest.raises(UnusableFile, match="type `chmod g") if is_refused else nullcontext()
    with expected:
        check_access(tmp_path / "key", found, Access.KEY)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "large", "everybody"])
def test_a_file_of_the_configuration_is_a_regular_file_of_bounded_size(
    tmp_path: Path, kind: str
) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "given"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.touch(mode=0o600)
        os.truncate(path, 1 << 40)
    elif kind == "everybody":
        path.touch()
        path.chmod(0o606)
    given = {
        "CLOUDTAP_API__TOKEN_FILE": str(path),
        **{
            f"CLOUDTAP_{section}__{key}": str(path)
            for section in ("OPENFLOW", "OVSDB")
            for key in ("CERTIFICATE", "PRIVATE_KEY", "CA")
        },
    }
    with pytest.raises(ConfigError) as caught:
        load(None, given)
    assert len(caught.value.problems) == len(given), caught.value
    with pytest.raises(ConfigError):
        load(path, {})


def test_other_machines_are_served_with_certificates_and_a_token(
    tmp_path: Path, file: Path
) -> None:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).touch(mode=0o600)
    secret(tmp_path / "token", f"{TOKEN}\n")
    file.write_text(
        f"[openflow]\nlisten = '0.0.0.0:6653'\ncertificate = '{tmp_path}/cert'\n"
        f"private_key = '{tmp_path}/key'\nca = '{tmp_path}/ca'\n"
        f"[api]\nlisten = '0.0.0.0:9470'\ntoken_file = '{tmp_path}/token'\n"
        f"certificate = '{tmp_path}/cert'\nprivate_key = '{tmp_path}/key'\n"
    )
    config = load(file, {})

    assert config.openflow.is_tls
    assert not config.api.is_exposed
    assert config.api.read_token() == TOKEN
    assert load(
        None, {"CLOUDTAP_OPENFLOW__LISTEN": "0.0.0.0:1", "CLOUDTAP_OPENFLOW__INSECURE": "true"}
    )


def test_an_api_for_other_machines_without_https_needs_a_word(tmp_path: Path) -> None:
    secret(tmp_path / "token", TOKEN)
    given = {
        "CLOUDTAP_API__LISTEN": "0.0.0.0:1",
        "CLOUDTAP_API__TOKEN_FILE": str(tmp_path / "token"),
    }

    with pytest.raises(ConfigError, match=r"unencrypted: give certificate and private_key, or say"):
        load(None, given)
    with pytest.raises(ConfigError, match="belong together"):
        load(None, {**given, "CLOUDTAP_API__CERTIFICATE": str(tmp_path / "token")})

    assert load(None, {**given, "CLOUDTAP_API__INSECURE": "true"}).api.is_exposed


@pytest.mark.parametrize(
    ("listen", "names", "expected"),
    [
        ("127.0.0.1:1", "", ("localhost", "127.0.0.1", "[::1]")),
        (
            "127.0.0.2:1",
            "Tap.Example.",
            ("localhost", "127.0.0.1", "[::1]", "127.0.0.2", "tap.example"),
        ),
        ("[::1]:1", "", ("localhost", "127.0.0.1", "[::1]")),
        ("192.0.2.1:1", "", None),
        ("192.0.2.1:1", "a.example", ("localhost", "127.0.0.1", "[::1]", "192.0.2.1", "a.example")),
    ],
)
def test_a_loopback_api_knows_its_names(
    tmp_path: Path, listen: str, names: str, expected: tuple[str, ...] | None
) -> None:
    secret(tmp_path / "token", TOKEN)
    config = load(
        None,
        {
            "CLOUDTAP_API__LISTEN": listen,
            "CLOUDTAP_API__NAMES": names,
            "CLOUDTAP_API__INSECURE": "true",
            "CLOUDTAP_API__TOKEN_FILE": str(tmp_path / "token"),
        },
    )
    assert config.api.host_names() == expected


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "ünïcödé-ünïcödé-ünïcödé"])
def test_a_token_that_protects_nothing_is_refused(tmp_path: Path, token: str) -> None:
    secret(tmp_path / "token", token)
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


def test_neutron_without_openstacksdk_is_refused_with_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[neutron]\ncloud = "prod"\n')
    assert load(file, {}).neutron.cloud == "prod"
    monkeypatch.setattr("controller.config.settings.find_spec", lambda name: None)
    (sentence,) = problems(file, '[neutron]\ncloud = "prod"\n')
    assert "openstacksdk" in sentence and "pip install 'cloudtap[neutron]'" in sentence
