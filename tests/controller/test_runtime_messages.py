"""Raw messages and guarded handlers, without a switch."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import runtime
from controller.runtime import handlers
from controller.runtime import raw_messages as raw


def message(length: int) -> bytes:
    """An OpenFlow message of this many bytes."""
    return struct.pack("!BBHI", 4, 14, length, 1) + bytes(length - 8)


@given(st.lists(st.integers(8, 65535), max_size=60))
def test_long_data_is_cut_between_messages_only(lengths: list[int]) -> None:
    data = b"".join(map(message, lengths))
    cut = raw.parts(data)

    assert b"".join(cut) == data
    for part in cut:
        assert len(part) <= max(raw.SEND_BYTES, max(lengths, default=0))
        position = 0
        while position < len(part):
            position += raw.HEADER.unpack_from(part, position)[2]
        assert position == len(part)


class Connection:
    """A connection of the library that ends after some sends, as the library's does."""

    def __init__(self, sends: int) -> None:
        self.left, self.send_q = sends, object()

    def send(self, data: bytes) -> bool:
        """What Datapath.send does when its queue goes away between look and use."""
        self.left -= 1
        if self.left < 0:
            self.send_q = None
            raise AttributeError("'NoneType' object has no attribute 'put'")
        return True


def test_send_says_whether_the_connection_took_everything() -> None:
    data = message(60000) * 5
    assert raw.send(Connection(sends=10), data)
    assert not raw.send(Connection(sends=1), data)


def test_a_mistake_of_ours_in_send_is_not_taken_for_a_lost_connection() -> None:
    connection = Connection(sends=0)
    connection.send = lambda data: data.no_such_attribute  # type: ignore[method-assign, attr-defined]
    with pytest.raises(AttributeError):
        raw.send(connection, message(8))


def test_own_transaction_ids_wrap_inside_their_range() -> None:
    assert runtime.own_xid(5) == 0xC7000005
    assert runtime.own_xid(2**24 + 5) == 0xC7000005


@pytest.fixture
def diverted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The library with our hook: what went to the raw callback and what to the decoder."""
    seen: list[tuple[str, Any]] = []
    library = SimpleNamespace(
        ofproto_parser=SimpleNamespace(msg=lambda *call: seen.append(("decoded", call[4]))),
        controller=SimpleNamespace(Datapath=type("Datapath", (), {})),
    )
    monkeypatch.setattr(raw, "library", library)
    monkeypatch.setattr(raw, "_callbacks", [lambda datapath, data: seen.append(("raw", data))])
    raw.install(handlers.guarded)
    return seen


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 19, 21])
def test_answers_to_our_requests_bypass_the_decoder(diverted: list[Any], kind: int) -> None:
    data = bytearray(struct.pack("!BBHI", 4, kind, 8, runtime.own_xid(9)))
    assert raw.library.ofproto_parser.msg(None, 4, kind, 8, runtime.own_xid(9), data) is None
    assert diverted == [("raw", bytes(data))]


@pytest.mark.parametrize(
    ("kind", "xid"), [(0, 0xC7000001), (2, 0xC7000001), (10, 0xC7000001), (12, 0xC7000001), (21, 7)]
)
def test_everything_else_takes_the_way_of_the_library(
    diverted: list[Any], kind: int, xid: int
) -> None:
    raw.library.ofproto_parser.msg(SimpleNamespace(), 4, kind, 8, xid, bytearray(8))
    assert diverted == [("decoded", xid)]


@pytest.mark.parametrize("more", [0, 1])
def test_the_library_gets_a_list_of_ports_without_the_ports(more: int) -> None:
    whole = bytearray(struct.pack("!BBHIHH4x", 4, 19, 16 + 64, 7, 13, more) + bytes(64))

    assert raw.without_ports(whole) == struct.pack("!BBHIHH4x", 4, 19, 16, 7, 13, more)
    other = bytearray(struct.pack("!BBHIHH4x", 4, 19, 16 + 64, 7, 1, more) + bytes(64))
    assert raw.without_ports(other) is other
    short = bytearray(struct.pack("!BBHI", 4, 19, 8, 7))
    assert raw.without_ports(short) is short


def test_the_library_never_uses_our_transaction_ids(diverted: list[Any]) -> None:
    datapath = raw.library.controller.Datapath()
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
