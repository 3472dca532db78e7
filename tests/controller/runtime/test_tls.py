"""A TLS connection that one thread reads while another writes."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.errors import BadTlsSettings
from controller.runtime.listener import Listener
from controller.runtime.peer import name_in
from controller.runtime.tls import TlsConnection
from tests.ovs.runtime_process import Authority

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
