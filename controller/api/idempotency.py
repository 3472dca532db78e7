"""The Idempotency-Key header: a repeated POST gets the first answer again and creates nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus

import structlog
from flask import Response, request
from pydantic import BaseModel

from controller.api.context import answer, context
from controller.api.problems import ApiProblem, ProblemDetails, bad_request
from controller.store import IdempotencyKey, Repeated, StoreError

IDEMPOTENCY_HEADER = "Idempotency-Key"
KEY_LENGTH_MAX = 255
"""Longest key, in characters."""

log = structlog.get_logger()


def create_once(
    create: Callable[[IdempotencyKey | None], str], show: Callable[[str], BaseModel]
) -> Response:
    """Answer a POST: create the object, unless this request has done so before, and show it.

    ``create`` returns the id of the new object, ``show`` takes it.
    """
    key = _key()
    if key is None:
        return answer(show(create(None)), HTTPStatus.CREATED)
    earlier = context().store.idempotency.find(key.key)
    if earlier is None:
        try:
            created = answer(show(create(key)), HTTPStatus.CREATED)
        except Repeated as repeated:  # by the same request at the same time
            earlier = repeated
        else:
            _save(key, created)
            return created
    return _repeat(key, earlier, show)


def _key() -> IdempotencyKey | None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isprintable():
        raise bad_request(
            "bad-key",
            f"{IDEMPOTENCY_HEADER} must be 1 to {KEY_LENGTH_MAX} printable characters",
        )
    content = f"{request.method} {request.path}\n".encode() + request.get_data()
    return IdempotencyKey(key, hashlib.sha256(content).hexdigest())


def _save(key: IdempotencyKey, created: Response) -> None:
    try:
        context().store.idempotency.save_answer(key.key, created.get_data(as_text=True))
    except StoreError as error:  # a repetition then shows the object as it is at that time
        log.warning("answer not remembered", key=key.key, reason=str(error))


def _repeat(key: IdempotencyKey, earlier: Repeated, show: Callable[[str], BaseModel]) -> Response:
    """The answer to the earlier request with this key, if it was the same request."""
    if earlier.digest != key.digest:
        raise ApiProblem(
            ProblemDetails(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "key-reused",
                f"{IDEMPOTENCY_HEADER} {key.key!r} was used for another request: take a new one",
            )
        )
    if earlier.answer is None:
        return answer(show(earlier.object_id), HTTPStatus.CREATED)
    return Response(earlier.answer, HTTPStatus.CREATED, mimetype="application/json")
