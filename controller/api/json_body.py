"""Reads JSON strictly: what JSON does not define, or what no request needs, is refused.

Python's own reader accepts NaN, keys that are given twice, numbers of any length, and halves of
surrogate pairs, which cannot be stored or sent.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from flask import g, has_request_context
from flask.json.provider import DefaultJSONProvider

from controller.api.json_scan import JSON_KEYS_MAX, Disproportionate, check_proportions
from controller.api.problems import bad_request
from controller.process import Yielder

JSON_SHORT = 16 * 1024
"""A text of so many characters is parsed at once, whatever it holds."""
LET_GO_TOGETHER = 1000
"""So many elements of a list are given back before others may run."""
DIGITS_MAX = 20
"""Most digits of a whole number: 64 bits have no more."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StrictJson(DefaultJSONProvider):
    """The JSON of the application; ``loads`` lets other threads run now and then."""

    def loads(self, s: str | bytes, **keywords: Any) -> Any:
        """The value of a text.

        Raises:
            ApiProblem: it is JSON that is refused here.
            ValueError: it is not JSON.
        """
        yielder = Yielder()

        def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            yielder.pause()
            return _object(pairs)

        text = s.decode() if isinstance(s, bytes) else s
        try:
            if len(text) > JSON_SHORT:
                check_proportions(text, yielder)
            value = json.loads(
                text,
                object_pairs_hook=read_object,
                parse_constant=_refuse_constant,
                parse_int=_whole_number,
            )
        except Disproportionate as error:
            raise bad_request("bad-json", f"the body cannot be used: {error}") from error
        except RecursionError as error:
            raise bad_request("bad-json", "the body is nested too deep") from error
        if len(text) > JSON_SHORT and has_request_context():
            g.large_value = value
        if _SURROGATE.search(text):
            _check_surrogates(value, yielder)
        return value


def let_go(_: BaseException | None = None) -> None:
    """Empty the value of a large body when its request is over; other threads run now and then.

    To give back the objects of a long list at once takes as long as many requests.
    """
    yielder, todo = Yielder(), [g.pop("large_value", None)]
    while todo:
        one = todo.pop()
        while isinstance(one, list) and one:
            todo += [each for each in one[-LET_GO_TOGETHER:] if isinstance(each, dict | list)]
            del one[-LET_GO_TOGETHER:]
            yielder.pause()
            if len(todo) > LET_GO_TOGETHER:
                todo.append(one)
                break
        if isinstance(one, dict):
            todo += [each for each in one.values() if isinstance(each, dict | list)]
            one.clear()
            yielder.pause()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > JSON_KEYS_MAX:
        raise bad_request(
            "bad-json", f"the body cannot be used: an object has more than {JSON_KEYS_MAX} keys"
        )
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise bad_request("bad-json", f"the key {twice[:100]!r} is given twice", twice[:100])
    return found


def _whole_number(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise bad_request("bad-json", f"the number {text[:DIGITS_MAX]}... has too many digits")
    return int(text)


def _refuse_constant(word: str) -> NoReturn:
    raise bad_request("bad-json", f"{word} is no JSON number")


def _check_surrogates(value: Any, yielder: Yielder) -> None:
    todo = [value]
    while todo:
        yielder.pause()
        one = todo.pop()
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            todo += one
        elif isinstance(one, str) and not _is_unicode(one):
            raise bad_request(
                "bad-json",
                "a text of the body holds half of a surrogate pair, which is no character",
            )


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
