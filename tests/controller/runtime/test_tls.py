"""A TLS connection that one thread reads while another writes."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.admission import ConnectionAdmission, VisitLimits
from controller.runtime.errors import BadTlsSettings
from controller.runtime.listener import Listener
from controller.runtime.peer import name_in
from controller.runtime.tls import TlsConnection
from tests.ovs.runtime_process import Authority
from tests.ovs.waiting import wait_for

Pair = tuple[TlsConnection, ssl.SSLSocket, socket.socket]
MANY = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server and of a client that trusts it."""
    authority = Authority(tmp_path_factory.mktemp("ca"), "ca")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("server"))
    client = ssl.create_default_context(cafile=str(authority.certificate))
    client.check_hostname = False
    return server, client


@pytest.fixture
def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Pair]:
    """Server's connection, client's connection, and the plain socket below the client's."""
    server_context, client_context = contexts
    below_server, below_client = socket.socketpair()
    plain = below_client.dup()
    below_server.settimeout(10)
    below_client.settimeout(10)
    server = TlsConnection(below_server, server_context)
    with ThreadPoolExecutor(1) as thread:
        shaken = thread.submit(server.handshake, 10)
        client = client_context.wrap_socket(below_client)
        shaken.result()
    yield server, client, plain
    for end in (server, client, plain):
        end.close()


def everything(receive: Callable[[int], bytes], size: int) -> bytes:
    """Receive until ``size`` bytes or the end of the connection."""
    data = b""
    while len(data) < size and (part := receive(65536)):
        data += part
    return data


def test_both_directions_work_at_once(pair: Pair) -> None:
    server, client, _ = pair
    with ThreadPoolExecutor(2) as threads:
        to_client = threads.submit(server.sendall, MANY)
        at_server = threads.submit(everything, server.recv, len(MANY))
        at_client = b""
        for start in range(0, len(MANY), 4096):
            client.sendall(MANY[start : start + 4096])
            at_client += client.recv(4096)
        at_client += everything(client.recv, len(MANY) - len(at_client))
        to_client.result()

        assert at_server.result() == MANY
        assert at_client == MANY


def test_data_of_several_senders_is_not_interleaved(pair: Pair) -> None:
    server, client, _ = pair
    size, each = 200_000, 5
    with ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(server.sendall, bytes([n]) * size) for n in range(each)]
        received = everything(client.recv, size * each)
        for result in sent:
            result.result()

    pieces = struct.iter_unpack(f"{size}s", received)
    assert sorted(piece for (piece,) in pieces) == [bytes([n]) * size for n in range(each)]


def test_a_closed_peer_is_the_end_of_the_connection(pair: Pair) -> None:
    server, _, plain = pair
    plain.shutdown(socket.SHUT_WR)
    assert server.recv(8) == b""


def test_a_silent_peer_is_a_timeout(pair: Pair) -> None:
    server, _, _ = pair
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(8)


def test_bytes_that_are_not_tls_end_the_connection(pair: Pair) -> None:
    server, _, plain = pair
    plain.sendall(b"\x17\x03\x03\x00\x20" + b"no TLS record " * 3)
    with pytest.raises(ConnectionAbortedError):
        server.recv(8)


def test_a_peer_that_speaks_no_tls_is_an_os_error(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        theirs.sendall(b"\x04\x00\x00\x08\x00\x00\x00\x01")  # a plain OpenFlow hello
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            TlsConnection(mine, contexts[0]).handshake(10)


def test_a_receiving_thread_does_not_block_a_sender(pair: Pair) -> None:
    server, client, _ = pair
    waiting = threading.Thread(target=server.recv, args=(8,))
    waiting.start()
    server.sendall(b"while the other waits")
    assert client.recv(64) == b"while the other waits"
    client.sendall(b"now done")
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_peer_that_trickles_has_no_longer_for_the_handshake_than_others(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    here, there = socket.socketpair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[1].wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello, is_over = outgoing.read(), threading.Event()

    def trickle() -> None:
        for byte in hello[:-1]:
            if is_over.wait(0.02):
                return
            there.send(bytes([byte]))

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        with pytest.raises(TimeoutError):
            TlsConnection(here, contexts[0]).handshake(0.2)
    finally:
        is_over.set()
        trickling.join()
        here.close()
        there.close()


def test_switches_are_not_served_with_a_key_that_others_may_read(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("certfile", "keyfile", "ca_certs")}
    for path in files.values():
        path.touch(mode=0o644)
    refused: list[Exception] = []
    parts: dict[str, Any] = {"spawn": None, "admission": None, "fail": refused.append}

    Listener(("127.0.0.1", 0), lambda *peer: None, **parts, **files)

    (error,) = refused
    assert isinstance(error, BadTlsSettings)
    assert f"type `chmod g-w,o= {files['keyfile']}`" in str(error)


class Echo:
    """A listener that gives back what it is sent, and its files, which are replaced."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / name for name in ("cert", "key", "ca")]
        self._clients = count(1)

    def start(self) -> Listener:
        """Accept connections until the tests end."""
        certificate, key, ca = map(str, self.files)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()
        listener = Listener(
            self.address,
            self._echo,
            spawn=lambda *work: threading.Thread(
                target=work[0], args=work[1:], daemon=True
            ).start(),
            fail=lambda error: pytest.fail(str(error)),
            admission=ConnectionAdmission(VisitLimits()),
            certfile=certificate,
            keyfile=key,
            ca_certs=ca,
        )
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        return listener

    def _echo(self, connection: Any, address: object) -> None:
        while data := connection.recv(100):
            connection.sendall(data)

    def replace(self, *contents: Path | None) -> None:
        """Put copies of these files in the place of certificate, key and CA."""
        for content, path in zip(contents, self.files, strict=True):
            if content is not None:
                new = path.with_suffix(".new")
                new.touch(mode=0o600)
                new.write_bytes(content.read_bytes())
                new.replace(path)

    def dial(self) -> socket.socket:
        """A plain connection, each from another address: one that is refused stays away a while."""
        source = f"127.0.1.{next(self._clients) % 250 + 1}"
        return socket.create_connection(self.address, 10, (source, 0))

    def connect(self, authority: Authority, client: tuple[str, str]) -> ssl.SSLSocket:
        """A client of this certificate, which trusts this authority; raises if it is refused."""
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.check_hostname = False
        context.load_cert_chain(*client)
        raw = self.dial()
        try:
            connection = context.wrap_socket(raw)
            self.say(connection)  # a client learns only then that its certificate was refused
        except OSError:
            raw.close()
            raise
        return connection

    def say(self, connection: ssl.SSLSocket) -> None:
        """Raises if the connection is over."""
        connection.sendall(b"hello")
        if connection.recv(100) != b"hello":
            raise ConnectionResetError

    def is_let_in(self, authority: Authority, client: tuple[str, str]) -> bool:
        """Whether a client can connect."""
        try:
            self.connect(authority, client).close()
        except OSError:
            return False
        return True


def test_a_new_certificate_and_ca_count_for_new_connections_and_old_ones_go_on(
    tmp_path: Path,
) -> None:
    old, new = Authority(tmp_path, "old-ca"), Authority(tmp_path, "new-ca")
    before, after = old.issue("before"), new.issue("after")
    of_old, of_new = old.issue("hv-old"), new.issue("hv-new")
    echo = Echo(tmp_path)
    echo.replace(*map(Path, before), old.certificate)
    listener = echo.start()
    staying = echo.connect(old, of_old)
    assert not echo.is_let_in(old, of_new) and not echo.is_let_in(new, of_old)

    # one that does not fit, one that is broken: nothing changes
    echo.replace(Path(after[0]), None, new.certificate)
    (problem,) = wait_for(lambda: listener.problems, bool)
    assert problem.startswith("the old certificate and CA are still used for switches: ")
    assert f"the private key {echo.files[1]} is that of another certificate" in problem
    assert echo.is_let_in(old, of_old) and not echo.is_let_in(old, of_new)
    echo.files[2].write_text("no certificate")
    echo.replace(None, Path(after[1]), None)
    wait_for(lambda: listener.problems, lambda seen: str(echo.files[2]) in "".join(seen))
    assert echo.is_let_in(old, of_old)

    echo.replace(None, None, new.certificate)
    wait_for(lambda: listener.problems, lambda seen: not seen)
    assert echo.is_let_in(new, of_new)
    assert not echo.is_let_in(new, of_old), "its authority was taken away"
    echo.say(staying)
    staying.close()


def test_a_session_ticket_of_a_ca_that_was_taken_away_lets_nobody_in(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old-ca"), Authority(tmp_path, "new-ca")
    echo = Echo(tmp_path)
    echo.replace(*map(Path, old.issue("controller")), old.certificate)
    listener = echo.start()
    context = ssl.create_default_context(cafile=str(old.certificate))
    context.check_hostname = False
    context.load_cert_chain(*old.issue("hv1"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = context.wrap_socket(echo.dial())
    echo.say(first)
    ticket = first.session
    first.close()

    of_new = new.issue("hv1")
    echo.replace(None, None, new.certificate)
    wait_for(lambda: echo.is_let_in(old, of_new), bool)
    assert not listener.problems
    with pytest.raises(OSError):
        again = context.wrap_socket(echo.dial(), session=ticket)
        echo.say(again)


def test_a_certificate_with_two_common_names_is_refused_in_the_handshake(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "hosts")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*authority.issue("controller"))
    server_context.load_verify_locations(str(authority.certificate))
    server_context.verify_mode = ssl.CERT_REQUIRED
    for names in (("hv1",), ("hv1", "hv2")):
        client = ssl.create_default_context(cafile=str(authority.certificate))
        client.check_hostname = False
        client.load_cert_chain(*authority.issue(*names))
        here, there = socket.socketpair()
        here.settimeout(10)
        there.settimeout(10)
        server = TlsConnection(here, server_context)
        with ThreadPoolExecutor(1) as thread:
            shaken = thread.submit(server.handshake, 10)
            peer = client.wrap_socket(there)
            if len(names) == 1:
                shaken.result()
                assert server.certificate_name == "hv1"
            else:
                with pytest.raises(
                    ssl.SSLError, match=r"2 common names \('hv1', 'hv2'\)"
                ) as caught:
                    shaken.result()
                assert str(caught.value).startswith("its certificate has")
                assert server.certificate_name is None
        peer.close()
        here.close()


def test_a_common_name_that_is_repeated_is_one_name() -> None:
    once, other = (("commonName", "hv1"),), (("commonName", "hv2"),)
    assert name_in({"subject": (once, once)}) == "hv1"
    for subject in ((once, other), (once + other,), (other, once)):
        with pytest.raises(ssl.SSLError, match="common names"):
            name_in({"subject": subject})
