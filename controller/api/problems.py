"""Errors as application/problem+json (RFC 9457), each with a sentence in the operator's words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from flask import Response
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.syntax.filters import BadRule
from controller.syntax.packets import BadPacket
from controller.store import InUse, NameTaken, NotFound, NumberTaken, StoreError
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

TYPE = "urn:cloudtap:problem:"
"""Prefix of the ``type`` of every problem."""

TITLES: Mapping[str, str] = {
    "not-found": "There is no such thing.",
    "name-taken": "The tenant already has one of this name.",
    "number-taken": "The tenant already has an exclusive session with this number.",
    "in-use": "Something else needs it.",
    "built-in": "It is part of cloudtap, and can neither change nor go.",
    "cross-tenant": "It belongs to another tenant.",
    "not-a-workload": "Only workloads can be watched.",
    "not-a-tap-port": "Only tap ports receive copies.",
    "invalid-value": "A value can never be right.",
    "unknown-field": "A field or parameter is not known here.",
    "not-supported-yet": "The option is part of the contract, and not honoured yet.",
    "tenant-needed": "There are several tenants, and none is named.",
    "ambiguous-name": "Several things have this name.",
    "marker-gone": "The list cannot go on from there.",
    "bad-marker": "The list cannot go on from there.",
    "bad-key": "The Idempotency-Key cannot be used.",
    "key-reused": "The Idempotency-Key was used for another request.",
    "bad-json": "The body is not one JSON object.",
    "json-needed": "The body is not declared as JSON.",
    "bad-request": "The request cannot be understood.",
    "request-entity-too-large": "The body is too large.",
    "method-not-allowed": "The resource does not take this method.",
    "token-needed": "The token is missing, or wrong.",
    "refused": "The wish is understood, and not granted.",
    "store-unavailable": "The state database cannot be used now; nothing was changed.",
    "failed": "cloudtap itself failed.",
}
"""What each type of problem means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem document; ``where`` is the field of the request that it is about."""

    status: HTTPStatus
    type: str
    detail: str
    where: str | None = None
    errors: tuple[Mapping[str, str | None], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The document as an answer."""
        document: dict[str, object] = {
            "type": TYPE + self.type,
            "title": TITLES.get(self.type, self.status.phrase),
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.where is not None:
            document["field"] = self.where
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

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


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


def from_error(error: CloudtapError) -> Problem:
    """The document for an error of ours."""
    for kind, status, slug, where in _BY_ERROR:
        if isinstance(error, kind):
            place = error.where if isinstance(error, BadRule | BadPacket) else where
            return Problem(status, slug, str(error), place)
    raise AssertionError(f"no document for {error!r}")


def from_validation(error: ValidationError) -> Problem:
    """The document for a request that breaks its schema; the first mistake is the detail."""
    found = [_mistake(one) for one in error.errors()]
    slug, where, sentence = found[0]
    errors = tuple({"field": place, "detail": said} for _, place, said in found)
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        slug,
        sentence,
        where,
        errors if len(errors) > 1 else (),
    )


def not_found(kind: str, ref: str, where: str | None = None, hint: str = "") -> ApiProblem:
    """There is no such thing."""
    sentence = f"there is no {kind} {ref!r}{hint}"
    return ApiProblem(Problem(HTTPStatus.NOT_FOUND, "not-found", sentence, where))


def bad_request(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request cannot be understood."""
    return ApiProblem(Problem(HTTPStatus.BAD_REQUEST, slug, sentence, where))


def conflict(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request is understood, and what there is stands against it."""
    return ApiProblem(Problem(HTTPStatus.CONFLICT, slug, sentence, where))


def unprocessable(slug: str, sentence: str, where: str | None = None) -> ApiProblem:
    """The request is understood, and what it says can never be right."""
    return ApiProblem(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, slug, sentence, where))


def _mistake(error: ErrorDetails) -> tuple[str, str | None, str]:
    """Slug, field and sentence of one mistake."""
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
    said = error["msg"][:1].lower() + error["msg"][1:]
    return "invalid-value", where or None, f"{where or 'the body'!r}: {said}"
