"""The WSGI application: who may ask, how bodies must look, and how every error is answered."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from netaddr import IPNetwork
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WsgiResponse

from controller.api import problems
from controller.api.v1 import inventory as declared
from controller.api.v1 import bridges as system
from controller.api.schemas.responses import ProblemOut
from controller.api.context import EXTENSION, Context
from controller.api.v1.explain import explain
from controller.api.v1.filters import filters
from controller.api.v1.health import health
from controller.api.problems import ApiProblem, Problem, bad_request
from controller.api.v1.sensor_config import collectors  # with all that is asked of a collector
from controller.api.v1.verify import sessions  # with all that is done to a session
from controller.inventory.file import Inventory
from controller.status.values import Reconciling
from controller.store import Store
from flows.errors import CloudtapError
from flows.model.world import UNDERLAY_MTU

MAX_BODY = 1024 * 1024
"""Largest body of a request, in bytes."""

MAX_RULES_BODY = 16 * 1024 * 1024
"""Largest body of a request that may hold thousands of rules, in bytes."""

RESOURCES = (
    declared.tenants,
    declared.networks,
    declared.ports,
    filters,
    collectors,
    sessions,
    explain,
    system.bridges,
    system.audit,
    system.status,
)

log = structlog.get_logger()


def make_app(
    store: Store,
    inventory: Callable[[], Inventory],
    reconcile: Reconciling,
    token: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    underlay_mtu: int = UNDERLAY_MTU,
    sensor_networks: tuple[IPNetwork, ...] = (),
) -> Flask:
    """The API as a WSGI application; with a ``token`` /v1 and /metrics need it.

    ``underlay_mtu`` is what paths to remote sensors carry at most, in bytes, and
    ``sensor_networks`` is where these may be; everywhere, if none is given.
    """
    app = _empty_app()
    app.extensions[EXTENSION] = Context(
        store, inventory, reconcile, now, underlay_mtu, sensor_networks
    )
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    document = openapi(app)  # made once, here: making it is not safe in several threads
    document["security"] = [{"token": []}] if token else []
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document))
    app.register_blueprint(health)
    app.before_request(lambda: _check_token(token))
    app.before_request(_check_body)
    app.register_error_handler(ApiProblem, lambda error: error.problem.response())
    app.register_error_handler(CloudtapError, _answer_error)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    return app


def openapi(app: OpenAPI | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the API."""
    document: dict[str, Any] = (app or _empty_app()).api_doc
    return document


def _empty_app() -> OpenAPI:
    app = OpenAPI(
        "cloudtap",
        info=Info(title="cloudtap", version=system.cloudtap_version()),
        security_schemes={"token": {"type": "http", "scheme": "bearer"}},
        doc_ui=False,
        static_folder=None,
        validation_error_model=ProblemOut,
        validation_error_callback=_refuse_body,
    )
    for blueprint in RESOURCES:
        app.register_api(blueprint)
    return app


def _check_token(token: str | None) -> None:
    if token is None or not request.path.startswith(("/v1", "/metrics")):
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise ApiProblem(
            Problem(
                HTTPStatus.UNAUTHORIZED,
                "token-needed",
                "this API needs its token: send `Authorization: Bearer <token>`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        )


def _check_body() -> None:
    """Refuse a body that is not one JSON object before its schema is asked."""
    if request.routing_exception is not None or request.method not in ("POST", "PATCH"):
        return
    if request.path.startswith("/v1/filters"):
        request.max_content_length = MAX_RULES_BODY
    if not request.is_json:
        raise ApiProblem(
            Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "json-needed",
                "send a JSON body with `Content-Type: application/json`",
            )
        )
    try:
        body = request.get_json()
    except RecursionError as error:
        raise bad_request("bad-json", "the body is nested too deep") from error
    if not isinstance(body, dict):
        raise bad_request("bad-json", "the body must be one JSON object, like {...}")


def _refuse_body(error: ValidationError) -> Response:
    return problems.from_validation(error).response()


def _answer_error(error: CloudtapError) -> Response:
    problem = problems.from_error(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", path=request.path, reason=str(error))
    return problem.response()


def _answer_http_error(error: HTTPException) -> WsgiResponse:
    if error.response is not None:  # from _refuse_body
        return error.get_response()
    status = HTTPStatus(error.code or 500)
    largest = request.max_content_length
    sentences = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.path}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.path} does not take {request.method}",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is larger than {largest} bytes",
        HTTPStatus.BAD_REQUEST: "the body is not valid JSON",
    }
    headers = {k: v for k, v in error.get_headers() if k in ("Allow", "Location", "Retry-After")}
    slug = status.phrase.lower().replace(" ", "-")
    sentence = sentences.get(status, error.description or status.phrase)
    return Problem(status, slug, sentence, headers=headers).response()


def _answer_bug(error: Exception) -> Response:
    log.error("request crashed", path=request.path, method=request.method, exc_info=error)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "failed",
        "cloudtap failed at this request: the log of the controller says more",
    ).response()
