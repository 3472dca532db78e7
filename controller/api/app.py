"""The WSGI application: the token, checks of bodies, and the answer to every error."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace
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
from controller.api.context import (
    EXTENSION,
    Context,
    InventoryControl,
    NoInventoryControl,
    cloudtap_version,
    context,
    note_moment,
)
from controller.api.json_body import StrictJson, let_go
from controller.api.problems import ApiProblem, ProblemDetails, bad_request, unprocessable
from controller.api.schemas import ProblemOut
from controller.api.v1 import HEALTH, RESOURCES
from controller.http import REASON_PHRASES
from controller.inventory import Inventory
from controller.status import Inspecting, Reconciling
from controller.store import Store
from flows.errors import CloudtapError, NotTold
from flows.model import UNDERLAY_MTU

MAX_BODY = 1024 * 1024
"""Largest body of a request, in bytes."""

MAX_RULES_BODY = 16 * 1024 * 1024
"""Largest body of a request on filters, in bytes: they may have thousands of rules."""

AWAY_MAX = 5
"""Most bridges whose names the answer to a request lists because they are away."""

log = structlog.get_logger()


def make_app(
    store: Store,
    inventory: Callable[[], Inventory],
    reconciler: Reconciling,
    inspector: Inspecting,
    token: Callable[[], str | None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    underlay_mtu: int = UNDERLAY_MTU,
    sensor_networks: tuple[IPNetwork, ...] = (),
    inventory_control: InventoryControl | None = None,
) -> Flask:
    """The API as a WSGI application; /v1 and /metrics need the ``token`` of now, if there is one.

    ``underlay_mtu`` is the largest path MTU to remote sensors, in bytes. ``sensor_networks`` are
    the networks that their addresses must be in; any, if none is given. ``inventory_control`` is
    the inventory file.
    """
    app = _empty_app()
    app.extensions[EXTENSION] = Context(
        store,
        inventory,
        reconciler,
        inspector,
        now,
        underlay_mtu,
        sensor_networks,
        inventory_control or NoInventoryControl(),
    )
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = StrictJson(app)
    document = openapi(app)  # not thread-safe: generated once, here
    document["security"] = [] if token() is None else [{"token": []}]
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document))
    app.register_blueprint(HEALTH)
    app.before_request(lambda: _check_token(token()))
    app.before_request(_check_target)
    app.before_request(_check_body)
    app.before_request(_note_moment)
    app.teardown_request(let_go)
    app.register_error_handler(ApiProblem, lambda error: error.problem.response())
    app.register_error_handler(CloudtapError, _answer_error)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    return app


def openapi(app: OpenAPI | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the API."""
    document: dict[str, Any] = (app or _empty_app()).api_doc
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                response["description"] = REASON_PHRASES[int(status)]
    return document


def _empty_app() -> OpenAPI:
    app = OpenAPI(
        "cloudtap",
        info=Info(title="cloudtap", version=cloudtap_version()),
        security_schemes={"token": {"type": "http", "scheme": "bearer"}},
        doc_ui=False,
        static_folder=None,
        validation_error_model=ProblemOut,
        validation_error_callback=_refuse_body,
    )
    app.url_map.merge_slashes = False  # else they are answered by a redirection in HTML
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
            ProblemDetails(
                HTTPStatus.UNAUTHORIZED,
                "token-needed",
                "this API needs its token: send `Authorization: Bearer <token>`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        )


def _note_moment() -> None:
    """What a request changes concerns some bridges: those alone are waited for."""
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        note_moment()


def _check_target() -> None:
    """Refuse a path that begins with two slashes, and a parameter that is given twice."""
    path = str(request.environ["PATH_INFO"])
    if path.startswith("//"):  # the framework takes them for one
        raise ApiProblem(
            ProblemDetails(HTTPStatus.NOT_FOUND, "not-found", f"there is nothing at {path}")
        )
    for name, values in request.args.lists():
        if len(values) > 1:
            raise unprocessable("invalid-value", f"the parameter {name!r} is given twice", name)


def _check_body() -> None:
    """Refuse a body that is not one JSON object, before it is validated by its schema."""
    if request.routing_exception is not None or request.method not in ("POST", "PATCH"):
        return
    if request.path.startswith(("/v1/filters", "/v1/inventory")):
        request.max_content_length = MAX_RULES_BODY
    if not request.is_json:
        raise ApiProblem(
            ProblemDetails(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "json-needed",
                "send a JSON body with `Content-Type: application/json`",
            )
        )
    if not isinstance(request.get_json(), dict):
        raise bad_request("bad-json", "the body must be one JSON object, like {...}")


def _refuse_body(error: ValidationError) -> Response:
    return problems.from_validation(error).response()


def _answer_error(error: CloudtapError) -> Response:
    problem = problems.from_error(error)
    if isinstance(error, NotTold):
        problem = replace(problem, detail=problem.detail + _away_words())
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", path=request.path, reason=str(error))
    return problem.response()


def _away_words() -> str:
    """Which bridges cannot be told anything now, as the end of a sentence."""
    away = [bridge.name for bridge in context().inspector.bridges() if not bridge.connected]
    if not away:
        return ""
    more = f" and {len(away) - AWAY_MAX} more" if len(away) > AWAY_MAX else ""
    return f"; not connected now: {', '.join(map(repr, away[:AWAY_MAX]))}{more}"


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
    kind = problems.type_of_status(status)
    sentence = sentences.get(status, error.description or problems.TITLES[kind])
    return ProblemDetails(status, kind, sentence, headers=headers).response()


def _answer_bug(error: Exception) -> Response:
    log.error("request crashed", path=request.path, method=request.method, exc_info=error)
    return ProblemDetails(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "failed",
        "cloudtap failed at this request: the log of the controller says more",
    ).response()
