"""Requests with an Idempotency-Key count once: the same request gets the same answer again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus

import structlog
from flask import Response, request
from pydantic import BaseModel

from controller.api.context import answer, context
from controller.api.problems import ApiProblem, Problem, bad_request
from controller.store import OnceKey, Repeated, StoreError

HEADER = "Idempotency-Key"
MAX_LENGTH = 255

log = structlog.get_logger()


def create_once(
    make: Callable[[OnceKey | None], str], show: Callable[[str], BaseModel]
) -> Response:
    """Answer a POST: make the thing, unless this request has made it before, and show it."""
    once = _key()
    if once is None:
        return answer(show(make(None)), HTTPStatus.CREATED)
    found = context().store.repeated(once.key)
    if found is None:
        try:
            made = answer(show(make(once)), HTTPStatus.CREATED)
        except Repeated as repeated:  # the same request at the same time
            found = repeated
        else:
            _remember(once, made)
            return made
    return _again(once, found, show)


def _key() -> OnceKey | None:
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_LENGTH or not key.isprintable():
        raise bad_request("bad-key", f"{HEADER} must be 1 to {MAX_LENGTH} printable characters")
    asked = f"{request.method} {request.path}\n".encode() + request.get_data()
    return OnceKey(key, hashlib.sha256(asked).hexdigest())


def _remember(once: OnceKey, made: Response) -> None:
    try:
        context().store.remember_answer(once.key, made.get_data(as_text=True))
    except StoreError as error:  # the thing is made: a repetition shows it as it is then
        log.warning("answer not remembered", key=once.key, reason=str(error))


def _again(once: OnceKey, found: Repeated, show: Callable[[str], BaseModel]) -> Response:
    if found.digest != once.digest:
        raise ApiProblem(
            Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "key-reused",
                f"{HEADER} {once.key!r} was used for another request: take a new one",
            )
        )
    if found.answer is None:
        return answer(show(found.object_id), HTTPStatus.CREATED)
    return Response(found.answer, HTTPStatus.CREATED, mimetype="application/json")
