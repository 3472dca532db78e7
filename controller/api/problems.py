"""Errors as application/problem+json (Problem Details, RFC 9457)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from flask import Response
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.http import FRONT_TITLES
from controller.process import did_you_mean
from controller.store import InUse, NameTaken, NotFound, NumberTaken, StoreError
from controller.syntax import BadPacket, BadRule
from flows.errors import (
    CloudtapError,
    CrossTenantCollector,
    CrossTenantFilter,
    CrossTenantNetwork,
    CrossTenantSensor,
    CrossTenantSource,
    InvalidValue,
    NotATapPort,
    NotAWorkload,
    Refused,
)

ERRORS_MAX = 20
"""Most violations of its schema that the answer to a request lists."""
SENTENCE_MAX = 2000
"""Longest sentence of a problem, in characters: it may quote what was sent."""

TYPE = "urn:cloudtap:problem:"
"""Prefix of the ``type`` of every problem."""

TITLES: Mapping[str, str] = {
    "not-found": "There is no such thing.",
    "name-taken": "The tenant already has one of this name.",
    "number-taken": "The tenant already has an exclusive session with this number.",
    "in-use": "Sessions refer to it.",
    "built-in": "It is part of cloudtap, and can be neither changed nor deleted.",
    "cross-tenant": "It belongs to another tenant.",
    "not-a-workload": "Only workloads can be watched.",
    "not-a-tap-port": "Only tap ports receive copies.",
    "invalid-value": "A value is not valid.",
    "unknown-field": "A field or parameter is not known here.",
    "not-supported-yet": "The option is part of the contract, and not supported yet.",
    "tenant-needed": "There are several tenants, and none is named.",
    "ambiguous-name": "Several things have this name.",
    "marker-gone": "The marker is no longer in the list.",
    "bad-marker": "The marker is not a number.",
    "bad-key": "The Idempotency-Key cannot be used.",
    "key-reused": "The Idempotency-Key was used for another request.",
    "bad-json": "The body is not one JSON object.",
    "json-needed": "The body is not declared as JSON.",
    "method-not-allowed": "The resource does not take this method.",
    "refused": "The request is valid, and cannot be carried out now.",
    "store-unavailable": "The state database cannot be used now; nothing was changed.",
    "failed": "cloudtap itself failed.",
    **FRONT_TITLES,
}
"""The title of each type of problem."""

TYPE_BY_STATUS: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request-entity-too-large",
}
"""The type of a problem that the web framework has found; of others see ``type_of_status``."""


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """One problem document; ``where`` is the field of the request at fault."""

    status: HTTPStatus
    type: str
    detail: str
    where: str | None = None
    errors: tuple[Mapping[str, str | None], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The document as a response."""
        document: dict[str, object] = {
            "type": TYPE + self.type,
            "title": TITLES[self.type],
            "status": self.status.value,
            "detail": _clipped(self.detail),
        }
        if self.where is not None:
            document["field"] = _clipped(self.where)
        if self.errors:
            document["errors"] = list(self.errors)
        return Response(
            json.dumps(document),
            self.status.value,
            dict(self.headers),
            content_type="application/problem+json",
        )


class ApiProblem(Exception):
    """Ends a request with a problem document."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail)
        self.problem = problem


_QUOTED = re.compile(r"'([^']*)'")
_BY_ERROR: Sequence[tuple[type[CloudtapError], HTTPStatus, str, str | None]] = (
    (NotFound, HTTPStatus.NOT_FOUND, "not-found", None),
    (NameTaken, HTTPStatus.CONFLICT, "name-taken", "name"),
    (NumberTaken, HTTPStatus.CONFLICT, "number-taken", "number"),
    (InUse, HTTPStatus.CONFLICT, "in-use", None),
    (CrossTenantSource, HTTPStatus.FORBIDDEN, "cross-tenant", "source.ports"),
    (CrossTenantNetwork, HTTPStatus.FORBIDDEN, "cross-tenant", "source.networks"),
    (CrossTenantCollector, HTTPStatus.FORBIDDEN, "cross-tenant", "collector"),
    (CrossTenantFilter, HTTPStatus.FORBIDDEN, "cross-tenant", "filter"),
    (CrossTenantSensor, HTTPStatus.FORBIDDEN, "cross-tenant", "sensors"),
    (NotAWorkload, HTTPStatus.UNPROCESSABLE_ENTITY, "not-a-workload", "source.ports"),
    (NotATapPort, HTTPStatus.UNPROCESSABLE_ENTITY, "not-a-tap-port", "sensors"),
    (InvalidValue, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-value", None),
    (Refused, HTTPStatus.CONFLICT, "refused", None),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", None),
    (CloudtapError, HTTPStatus.INTERNAL_SERVER_ERROR, "failed", None),
)


def from_error(error: CloudtapError) -> ProblemDetails:
    """The document for one of cloudtap's errors."""
    for kind, status, slug, where in _BY_ERROR:
        if isinstance(error, kind):
            place = error.where if isinstance(error, BadRule | BadPacket) else where
            return ProblemDetails(status, slug, str(error), place)
    raise AssertionError(f"no document for {error!r}")


def from_validation(error: ValidationError) -> ProblemDetails:
    """The document for a request that violates its schema; the detail is the first violation.

    A text beyond all proportion is a bad request (400), other values cannot be processed (422).
    """
    violations = error.errors(include_url=False)[:ERRORS_MAX]
    found = [_violation(one) for one in violations]
    is_too_long = violations[0]["type"] == "string_too_long"
    slug, where, sentence = found[0]
    errors = tuple(
        {"field": place and _clipped(place), "detail": _clipped(detail)}
        for _, place, detail in found
    )
    if error.error_count() > ERRORS_MAX:
        more = {"field": None, "detail": f"and {error.error_count() - ERRORS_MAX} more"}
        errors = (*errors, more)
    return ProblemDetails(
        HTTPStatus.BAD_REQUEST if is_too_long else HTTPStatus.UNPROCESSABLE_ENTITY,
        slug,
        sentence,
        where,
        errors if len(errors) > 1 else (),
    )


def type_of_status(status: HTTPStatus) -> str:
    """The type of a problem that the web framework has found. The types are part of the API."""
    other = "bad-request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
    return TYPE_BY_STATUS.get(status, other)


def not_found(kind: str, ref: str, where: str | None = None, hint: str = "") -> ApiProblem:
    """No object has this id or name."""
    sentence = f"there is no {kind} {ref!r}{hint}"
    return ApiProblem(ProblemDetails(HTTPStatus.NOT_FOUND, "not-found", sentence, where))


def bad_request(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request cannot be parsed."""
    return ApiProblem(ProblemDetails(HTTPStatus.BAD_REQUEST, slug, sentence, where))


def conflict(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request is valid, and conflicts with the current state."""
    return ApiProblem(ProblemDetails(HTTPStatus.CONFLICT, slug, sentence, where))


def unprocessable(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request is well-formed, and a value in it is not valid."""
    return ApiProblem(ProblemDetails(HTTPStatus.UNPROCESSABLE_ENTITY, slug, sentence, where))


def _violation(error: ErrorDetails) -> tuple[str, str | None, str]:
    """Slug, field and sentence of one violation."""
    context = error.get("ctx", {})
    path = [str(part) for part in error["loc"]]
    if error["type"] in ("unsupported", "refused"):
        where = ".".join([*path, *([context["field"]] if context.get("field") else [])])
        slug = "not-supported-yet" if error["type"] == "unsupported" else "invalid-value"
        return slug, where or None, error["msg"]
    where = ".".join(path)
    if error["type"] == "missing":
        return "invalid-value", where, f"{where!r} is needed"
    if error["type"] == "extra_forbidden":
        return "unknown-field", where, f"{where!r} is not known here"
    message = error["msg"][:1].lower() + error["msg"][1:]
    if error["type"] == "literal_error":
        words = _QUOTED.findall(context.get("expected", ""))
        message += did_you_mean(str(error["input"]), words)
    return "invalid-value", where or None, f"{where or 'the body'!r}: {message}"


def _clipped(text: str) -> str:
    """The text, or its beginning if it is long."""
    return text if len(text) <= SENTENCE_MAX else f"{text[:SENTENCE_MAX]}..."
