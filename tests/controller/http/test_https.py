"""HTTPS: served, renewed without a restart, trusted by the command line with its CA file."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from controller.api import make_app
from controller.cli import main
from controller.http import BadApiCertificate, BodyLimit, FrontSettings, HttpServer, HttpsFiles
from controller.store import Store
from tests.controller.fakes import TWO_TENANTS, FakeReconciler
from tests.controller.http.certificates import ServerAuthority
from tests.controller.http.serving import DEADLINE_S, Serving, application, get, status_of, talk
from tests.ovs.waiting import wait_for

BODIES = (BodyLimit("/", 1000),)


@pytest.fixture
def authority(tmp_path: Path) -> ServerAuthority:
    return ServerAuthority(tmp_path)


@pytest.fixture(params=["native", "green"])
def serving(request: pytest.FixtureRequest, authority: ServerAuthority) -> Iterator[Serving]:
    files, _ = authority.issue()
    with Serving(request.param, FrontSettings(bodies=BODIES, tls=files)) as started:
        yield started


def ask(serving: Serving, authority: ServerAuthority) -> tuple[int, int]:
    """The status of a request, and the serial number of the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.ca)
    with serving.connect() as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return status_of(talk(tls, get("/echo"))), x509.load_der_x509_certificate(der).serial_number


def test_a_renewed_certificate_is_used_without_a_restart(
    serving: Serving, authority: ServerAuthority
) -> None:
    front = serving.look()["front"]
    status, first = ask(serving, authority)
    assert status == 200

    files, second = authority.issue()
    wait_for(lambda: ask(serving, authority), lambda seen: seen == (200, second), DEADLINE_S)
    assert first != second

    Path(files.certificate).write_text("no certificate")
    (problem,) = wait_for(lambda: serving.look()["problems"], bool, DEADLINE_S)
    assert "the old certificate is still used" in problem and files.certificate in problem
    assert ask(serving, authority) == (200, second)

    _, third = authority.issue()
    wait_for(lambda: ask(serving, authority), lambda seen: seen == (200, third), DEADLINE_S)
    wait_for(lambda: serving.look()["problems"], lambda seen: not seen, DEADLINE_S)
    assert serving.look()["front"] == front
    assert serving.log().count("changed files not used") == 1
    assert "Traceback" not in serving.log()


def test_a_renewed_key_that_others_may_read_is_not_used_until_it_is_private(
    serving: Serving, authority: ServerAuthority
) -> None:
    _, first = ask(serving, authority)
    key = Path(authority.issue()[0].private_key)
    key.chmod(0o644)
    (problem,) = wait_for(lambda: serving.look()["problems"], bool, DEADLINE_S)
    assert "is open to other users" in problem and f"type `chmod g-w,o= {key}`" in problem, problem

    files, second = authority.issue()
    wait_for(lambda: ask(serving, authority)[1], lambda serial: serial == second, DEADLINE_S)
    assert first != second

    Path(files.private_key).chmod(0o604)
    wait_for(lambda: serving.look()["problems"], bool, DEADLINE_S)
    Path(files.private_key).chmod(0o600)
    wait_for(lambda: serving.look()["problems"], lambda seen: not seen, DEADLINE_S)
    assert "Traceback" not in serving.log()


@pytest.mark.parametrize("which", ["certificate", "private_key"])
def test_a_fifo_in_place_of_a_file_is_said_and_the_same_files_back_are_used(
    serving: Serving, authority: ServerAuthority, which: str
) -> None:
    files, first = authority.issue()
    wait_for(lambda: ask(serving, authority), lambda seen: seen == (200, first), DEADLINE_S)
    file = Path(getattr(files, which))
    away = file.rename(file.with_suffix(".away"))
    os.mkfifo(file, 0o600)
    (problem,) = wait_for(lambda: serving.look()["problems"], bool, DEADLINE_S)
    assert f"{file}: cannot be read: it is a FIFO" in problem
    for _ in range(3):
        assert ask(serving, authority) == (200, first)

    away.rename(file)
    wait_for(lambda: serving.look()["problems"], lambda seen: not seen, DEADLINE_S)
    assert ask(serving, authority) == (200, first)
    assert serving.log().count("changed files not used") == 1


@pytest.mark.parametrize("kind", ["open", "fifo"])
def test_a_key_that_is_no_private_file_keeps_the_api_from_starting(
    authority: ServerAuthority, kind: str
) -> None:
    files, _ = authority.issue()
    key = Path(files.private_key)
    if kind == "fifo":
        key.unlink()
        os.mkfifo(key, 0o600)
    else:
        key.chmod(0o644)
    words = {"fifo": "a FIFO, not a regular file", "open": "open to other users"}[kind]
    with pytest.raises(BadApiCertificate, match=words):
        HttpServer(application, "127.0.0.1", 0, FrontSettings(bodies=BODIES, tls=files))


def test_handshakes_that_never_end_cost_nothing_to_others(
    serving: Serving, authority: ServerAuthority
) -> None:
    trickling = [serving.connect() for _ in range(150)]
    for connection in trickling:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert ask(serving, authority)[0] == 200
    for connection in trickling:
        connection.close()

    assert serving.status(get("/echo")) == 0, "HTTP is not answered where HTTPS is spoken"
    assert ask(serving, authority)[0] == 200
    assert "Traceback" not in serving.log()


@pytest.mark.parametrize("kind", ["missing", "no key", "another key"])
def test_files_that_do_not_fit_are_refused_at_the_start(
    tmp_path: Path, authority: ServerAuthority, kind: str
) -> None:
    files, _ = authority.issue()
    if kind == "missing":
        files = HttpsFiles(str(tmp_path / "none"), files.private_key)
    elif kind == "no key":
        files = HttpsFiles(files.certificate, files.certificate)
    else:
        Path(files.certificate).write_bytes(authority.ca.read_bytes())

    with pytest.raises(BadApiCertificate, match=r"the API cannot serve HTTPS: .*PEM files"):
        HttpServer(application, "127.0.0.1", 0, FrontSettings(bodies=BODIES, tls=files))


def test_the_command_line_speaks_https_with_its_ca_file(
    tmp_path: Path, authority: ServerAuthority, store: Store, fake: FakeReconciler
) -> None:
    files, _ = authority.issue()
    app = make_app(store, lambda: TWO_TENANTS, fake, fake)
    server = HttpServer(app, "127.0.0.1", 0, FrontSettings(bodies=BODIES, tls=files))
    server.start()
    url = f"https://localhost:{server.address[1]}"

    def run(*options: str, api: str = url) -> Result:
        return CliRunner().invoke(main, ["--api", api, *options, "tenant", "list"])

    try:
        trusted = run("--ca-file", str(authority.ca))
        assert trusted.exit_code == 0 and "red" in trusted.stdout, trusted.output
        stranger = ServerAuthority(tmp_path, "stranger")
        for options in ([], ["--ca-file", str(stranger.ca)]):
            refused = run(*options)
            assert refused.exit_code == 1
            assert f"the certificate of {url} is not trusted" in refused.stderr
            assert "--ca-file" in refused.stderr
        broken = run("--ca-file", str(tmp_path / "none"))
        assert "cannot be used: No such file" in broken.stderr
        pipe, empty = tmp_path / "pipe", tmp_path / "empty"
        os.mkfifo(pipe)
        empty.touch()
        for no_file in (pipe, empty, Path("/dev/zero"), Path("/etc/passwd")):
            assert "cannot be used" in run("--ca-file", str(no_file)).stderr
        plain = run(api=url.replace("https:", "http:"))
        assert "ended the connection without an answer" in plain.stderr
        assert "if it serves HTTPS, its URL begins with https:" in plain.stderr
    finally:
        server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, DEADLINE_S)
