"""A byte stream becomes JSON objects, and no peer makes that cost more than its bytes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.databases.errors import BadPeer
from controller.databases.framing import NESTING_MAX, JsonSplitter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


def split(chunks: Iterable[bytes], **limits: int) -> list[dict[str, Any]]:
    splitter = JsonSplitter(**limits)
    return [found for chunk in chunks for found in splitter.feed(chunk)]


@given(
    st.lists(OBJECTS, max_size=4), st.booleans(), st.sampled_from(["", "\n", " \t\r\n"]), st.data()
)
def test_objects_come_out_as_they_went_in_however_the_stream_is_cut(
    objects: list[dict[str, Any]], is_ascii: bool, between: str, data: st.DataObject
) -> None:
    text = between.join(json.dumps(each, ensure_ascii=is_ascii) for each in objects)
    stream = text.encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    edges = [0, *cuts, len(stream)]

    assert split(stream[a:b] for a, b in pairwise(edges)) == objects


def test_braces_quotes_and_backslashes_in_strings_end_nothing() -> None:
    stream = rb'{"a\"}{":"\\","b":["}","\\\"{"]}{"c":"\\"}'
    one_by_one = [stream[i : i + 1] for i in range(len(stream))]

    assert split(one_by_one) == split([stream]) == [{'a"}{': "\\", "b": ["}", '\\"{']}, {"c": "\\"}]


@pytest.mark.parametrize(
    ("name", "begin", "more"),
    [
        ("a string without end", b'{"a":"', b"x" * 65536),
        ("a string of escapes without end", b'{"a":"', b"\\n" * 32768),
        ("backslashes without end", b'{"a":"', b"\\" * 65535),
        ("a list without end", b'{"a":[', b"1," * 32768),
        ("strings without end", b'{"a":[', b'"{",' * 16384),
        ("objects without end", b'{"a":[', b"{}," * 20000),
        ("blanks inside", b'{"a":', b" " * 65536),
        ("open braces", b"", b'{"a":' * 10000),
        ("no JSON", b"", b"GET / HTTP/1.1\r\n\r\n"),
        ("a list at the top", b"", b"[1,2]"),
        ("a number at the top", b"", b"1"),
        ("zero bytes", b"", b"\0" * 1000),
        ("NaN", b"", b'{"a":NaN}'),
        ("closing what is not open", b"", b"}"),
        ("mismatched", b"", b'{"a":]}'),
        ("no UTF-8", b"", b'{"a":"\xff\xfe"}'),
        ("a long integer", b"", b'{"a":' + b"9" * 10000 + b"}"),
        ("deep lists", b"", b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}"),
        ("nothing but a brace and a quote", b"", b'{"}'),
    ],
)
def test_what_is_no_message_or_too_much_ends_the_connection(
    name: str, begin: bytes, more: bytes
) -> None:
    splitter = JsonSplitter(max_message=1 << 20, max_string=1 << 18)
    tracemalloc.start()

    with pytest.raises(BadPeer) as refused:
        list(splitter.feed(begin))
        for _ in range(1 << 12):
            list(splitter.feed(more))

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(refused.value).startswith("it sent ") and "Error" not in str(refused.value)
    assert most < 64 << 20, f"{name} took {most} bytes of memory"


def test_a_message_with_too_many_values_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.databases.framing.VALUES_MAX", 1000)

    assert split([b'{"a":[' + b"1," * 1000 + b"1]}"])
    with pytest.raises(BadPeer, match="more than 1,000 values"):
        split([b'{"a":[' + b"1," * 1001 + b"1]}"])


def test_objects_may_be_nested_as_deep_as_ovsdb_needs_and_not_much_deeper() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)

    assert split([nested(NESTING_MAX)])
    with pytest.raises(BadPeer, match="nested"):
        split([nested(NESTING_MAX + 1)])
