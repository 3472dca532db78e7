"""Files that somebody names: nobody waits for them, and nobody is asked for a password."""

from __future__ import annotations

import os
import pwd
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.databases.remote import TlsFiles, explain
from controller.process import UnusableFile, load_tls_files, read_file, write_file
from controller.process import files as module
from tests.controller.http.certificates import ServerAuthority


def within_10_s(work: Callable[[], object]) -> object:
    """What it returns or raises; a failure if it takes longer."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    working = threading.Thread(target=run, daemon=True)
    working.start()
    working.join(10)
    assert found, "it waits"
    return found[0]


def tls_paths(folder: Path) -> tuple[Path, Path, Path]:
    authority = ServerAuthority(folder)
    files, _ = authority.issue()
    return Path(files.certificate), Path(files.private_key), authority.ca


def test_files_that_change_into_fifos_after_their_check_are_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tls_paths(tmp_path)
    read = module.read_file

    def read_then_exchange(path: Path, *limits: object) -> bytes:
        content = read(path, *limits)  # type: ignore[arg-type]
        path.unlink()
        os.mkfifo(path, 0o600)
        return content

    monkeypatch.setattr(module, "read_file", read_then_exchange)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert within_10_s(lambda: load_tls_files(context, *paths)) is None
    assert len(context.get_ca_certs()) == 1
    assert all(path.is_fifo() for path in paths)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    certificate, private_key, ca = tls_paths(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    refused = within_10_s(lambda: load_tls_files(context, certificate, private_key))
    assert isinstance(refused, UnusableFile) and "give one without a password" in str(refused)
    files = TlsFiles(str(private_key), str(certificate), str(ca))
    refused = within_10_s(files.context)
    assert isinstance(refused, OSError) and "give one without a password" in str(refused)


@pytest.mark.parametrize("index", range(3))
def test_a_missing_certificate_is_not_taken_for_a_missing_database(
    tmp_path: Path, index: int
) -> None:
    paths = tls_paths(tmp_path)
    paths[index].unlink()
    certificate, private_key, ca = paths
    with pytest.raises(OSError) as caught:
        TlsFiles(str(private_key), str(certificate), str(ca)).context()
    said = explain("ssl:192.0.2.1:6640", caught.value)
    assert said == f"ssl:192.0.2.1:6640 cannot be reached: {paths[index]} does not exist"


def test_a_fifo_beside_a_file_that_is_replaced_is_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "kept.new", 0o600)
    assert within_10_s(lambda: write_file(tmp_path / "kept", b"text")) is None
    assert (tmp_path / "kept").read_bytes() == b"text"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("certificate", b"", "it holds no certificate in PEM form"),
        ("certificate", bytes(range(256)), "it holds no certificate in PEM form"),
        ("key", b"", "it holds no private key in PEM form"),
        ("key", None, "is that of another certificate"),
        (
            "certificate",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "damaged",
        ),
        ("ca", b"no certificate", "it holds no certificate in PEM form"),
        ("ca", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "are damaged"),
    ],
)
def test_a_file_that_tls_cannot_use_is_named_in_words(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    certificate, key, ca = tls_paths(tmp_path)
    path = {"certificate": certificate, "key": key, "ca": ca}[name]
    if content is None:
        other = ec.generate_private_key(ec.SECP256R1())
        content = other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    path.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    with pytest.raises(UnusableFile, match=words) as refused:
        load_tls_files(context, certificate, key, ca)

    assert "_ssl" not in str(refused.value) and str(path) in str(refused.value)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """The rights of a user that owns nothing, where the tests run as root."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(own)


def test_a_file_of_another_user_is_named_with_what_to_do(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "cloudtap.toml"
    file.write_text("")
    file.chmod(0)
    request.getfixturevalue("as_nobody")
    user = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(UnusableFile, match=f"user {user} may not read it.*chgrp"):
        read_file(file, 1)
