"""What the result of a transaction means."""

from __future__ import annotations

from typing import Any

import pytest

from controller.databases.errors import BadPeer
from controller.databases.transactions import CannotWrite, check_result

INSERTED: dict[str, Any] = {"uuid": ["uuid", "x"]}


@pytest.mark.parametrize("result", [[], [{"count": 1}, {}], [INSERTED, INSERTED, {"count": 1}, {}]])
def test_what_was_carried_out_is(result: list[Any]) -> None:
    check_result(result)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([{"count": 0}, {}], "a row has gone meanwhile"),
        ([INSERTED, INSERTED, {"count": 0}, {}], "a row has gone meanwhile"),
        ([{"count": 0}, {"error": "not owner", "details": "lock"}], "not owner: lock"),
        ([INSERTED, None, {"error": "constraint violation"}], "constraint violation"),
    ],
)
def test_what_was_not_carried_out_says_why(result: list[Any], words: str) -> None:
    with pytest.raises(CannotWrite, match=words):
        check_result(result)


def test_what_is_no_result_is_an_offence() -> None:
    with pytest.raises(BadPeer, match="no list"):
        check_result({"count": 1})
