"""Raw messages and guarded handlers, without a switch."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import runtime
from controller.runtime import handlers, raw_messages
from controller.runtime.raw_messages import Dispatcher
from flows.openflow import MESSAGE_HEADER
from tests.generators.switch_messages import message as switch_message


def message(length: int) -> bytes:
    """An OpenFlow message of this many bytes."""
    return struct.pack("!BBHI", 4, 14, length, 1) + bytes(length - 8)


@given(st.lists(st.integers(8, 65535), max_size=60))
def test_long_data_is_split_between_messages_only(lengths: list[int]) -> None:
    data = b"".join(map(message, lengths))
    sends = raw_messages.split(data)

    assert b"".join(sends) == data
    for part in sends:
        assert len(part) <= max(raw_messages.SEND_BYTES, max(lengths, default=0))
        position = 0
        while position < len(part):
            position += MESSAGE_HEADER.unpack_from(part, position)[2]
        assert position == len(part)


class Connection:
    """A datapath object of the library whose connection ends after some sends."""

    def __init__(self, sends: int) -> None:
        self.left, self.send_q = sends, object()

    def send(self, data: bytes) -> bool:
        """What Datapath.send does when its queue is removed between check and use."""
        self.left -= 1
        if self.left < 0:
            self.send_q = None
            raise AttributeError("'NoneType' object has no attribute 'put'")
        return True


def test_send_returns_whether_everything_was_queued() -> None:
    data = message(60000) * 5
    assert raw_messages.send(Connection(sends=10), data)
    assert not raw_messages.send(Connection(sends=1), data)


def test_a_defect_in_send_is_not_taken_for_a_lost_connection() -> None:
    connection = Connection(sends=0)
    connection.send = lambda data: data.no_such_attribute  # type: ignore[method-assign, attr-defined]
    with pytest.raises(AttributeError):
        raw_messages.send(connection, message(8))


def test_own_transaction_ids_wrap_inside_their_range() -> None:
    assert runtime.own_xid(5) == 0xC7000005
    assert runtime.own_xid(2**24 + 5) == 0xC7000005


class Peer:
    """The datapath object of the library, as far as messages that arrive need it."""

    def __init__(self, state: Any = runtime.MAIN_DISPATCHER) -> None:
        self.state, self.id = state, 7
        self.socket = SimpleNamespace()
        self.sent: list[bytes] = []
        self.acknowledged: list[int] = []
        self.send_q = object()

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def acknowledge_echo_reply(self, xid: int) -> None:
        self.acknowledged.append(xid)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What callbacks are called with."""
    seen: list[tuple[str, Any]] = []

    def note(name: str) -> Callable[..., bool]:
        return lambda datapath, *what: bool(seen.append((name, *what))) or name != "answer"

    callbacks = raw_messages._Callbacks([note("answer")], [note("port")], [note("error")])
    monkeypatch.setattr(raw_messages, "_callbacks", callbacks)
    return seen


def dispatcher(allowed: Callable[[Any], bool] = lambda datapath: True) -> Dispatcher:
    limit: Any = SimpleNamespace(is_allowed=allowed)
    return Dispatcher(handlers.guarded, limit)


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 19, 21])
def test_answers_to_our_requests_are_passed_on_as_bytes(
    taken: list[tuple[str, Any]], kind: int
) -> None:
    data = switch_message(kind, bytes(24), xid=runtime.own_xid(9))
    assert dispatcher().take(Peer(), data)
    assert taken == [("answer", data)]


def test_answers_that_nobody_waits_for_count_as_messages_that_nobody_asked_for(
    taken: list[tuple[str, Any]],
) -> None:
    """Also under our own transaction ids: a switch may send any number of them."""
    counted: list[Any] = []

    def refuse(datapath: Any) -> bool:
        counted.append(datapath)
        return False

    peer = Peer()
    assert not dispatcher(refuse).take(peer, switch_message(21, xid=runtime.own_xid(9)))
    assert counted == [peer]


def test_ports_errors_and_echoes_never_reach_the_library(taken: list[tuple[str, Any]]) -> None:
    peer, own = Peer(), runtime.own_xid(1)
    port, error = switch_message(12, bytes(72), xid=own), switch_message(1, "00030007")
    assert all(
        dispatcher().take(peer, data)
        for data in (port, error, switch_message(2, b"ping", xid=own), switch_message(3, xid=5))
    )
    assert taken == [("port", port), ("error", 3, 7)]
    assert peer.sent == [switch_message(3, b"ping", xid=own)]
    assert peer.acknowledged == [5]


@pytest.mark.parametrize("data", [switch_message(0), switch_message(6, bytes(24))])
def test_a_second_hello_and_second_features_change_nothing(
    taken: list[tuple[str, Any]], data: bytes
) -> None:
    peer = Peer()
    assert dispatcher().take(peer, data)
    assert (taken, peer.sent, peer.id) == ([], [], 7)


def test_the_library_never_uses_our_transaction_ids() -> None:
    datapath_class: Any = type("Datapath", (), {})
    raw_messages.use_own_transaction_ids(datapath_class)
    datapath = datapath_class()
    for before in (0xC6FFFFFF, 0xC7000000, 0x00FFFFFF):
        datapath.xid = before
        used: list[int] = []
        given_xid = datapath.set_xid(SimpleNamespace(set_xid=used.append))
        assert used == [given_xid]
        assert given_xid >> 24 == 0


def test_a_failing_handler_is_counted_and_reported_with_its_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[tuple[int | None, str]] = []

    def fail_too(dpid: int | None, error: Exception) -> None:
        raise RuntimeError("the listener fails, too")

    def listen(dpid: int | None, error: Exception) -> None:
        reported.append((dpid, str(error)))

    monkeypatch.setattr(handlers, "_callbacks", [fail_too, listen])
    before = runtime.handler_errors()

    @runtime.guarded
    def handler(event: Any) -> None:
        raise ValueError("no")

    handler(SimpleNamespace(msg=SimpleNamespace(datapath=SimpleNamespace(id=7))))
    handler(SimpleNamespace(datapath=SimpleNamespace(id=8)))
    handler(SimpleNamespace(id=9))
    handler("an event without a switch")

    assert reported == [(7, "no"), (8, "no"), (9, "no"), (None, "no")]
    assert runtime.handler_errors() == before + 4
