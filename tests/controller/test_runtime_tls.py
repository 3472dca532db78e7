"""TLS for a connection that one thread reads while another writes."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

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
        shaken = thread.submit(server.handshake)
        client = client_context.wrap_socket(below_client)
        shaken.result()
    yield server, client, plain
    for end in (server, client, plain):
        end.close()


def everything(receive: Callable[[int], bytes], size: int) -> bytes:
    """Receive until there are size bytes or the end."""
    data = b""
    while len(data) < size and (part := receive(65536)):
        data += part
    return data


def test_both_directions_at_once_arrive_whole(pair: Pair) -> None:
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


def test_messages_of_several_senders_do_not_mix(pair: Pair) -> None:
    server, client, _ = pair
    size, each = 200_000, 5
    with ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(server.sendall, bytes([n]) * size) for n in range(each)]
        received = everything(client.recv, size * each)
        for result in sent:
            result.result()

    pieces = struct.iter_unpack(f"{size}s", received)
    assert sorted(piece for (piece,) in pieces) == [bytes([n]) * size for n in range(each)]


def test_the_end_of_the_peer_is_an_end(pair: Pair) -> None:
    server, _, plain = pair
    plain.shutdown(socket.SHUT_WR)
    assert server.recv(8) == b""


def test_a_silent_peer_is_a_time_out(pair: Pair) -> None:
    server, _, _ = pair
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(8)


def test_garbage_ends_the_connection_instead_of_being_read_for_ever(pair: Pair) -> None:
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
            TlsConnection(mine, contexts[0]).handshake()


def test_a_thread_waiting_to_receive_does_not_stop_a_sender(pair: Pair) -> None:
    server, client, _ = pair
    waiting = threading.Thread(target=server.recv, args=(8,))
    waiting.start()
    server.sendall(b"while the other waits")
    assert client.recv(64) == b"while the other waits"
    client.sendall(b"now done")
    waiting.join(10)
    assert not waiting.is_alive()
