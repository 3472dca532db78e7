"""Calls a WSGI application (PEP 3333) with a request that arrived as a message."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog

from controller.process import Message

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WsgiAnswer:
    """What the application answers."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def call(app: Any, request: Message, address: tuple[str, int], is_tls: bool) -> WsgiAnswer:
    """The answer of the application; one that raises is logged, and answered with 500."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
        started.append((status, headers))

    try:
        chunks = app(environ_of(request, address, is_tls), start_response)
        try:
            body = b"".join(chunks)
        finally:
            getattr(chunks, "close", lambda: None)()
        status, headers = started[-1]
        return WsgiAnswer(int(status.split(" ", 1)[0]), tuple(headers), body)
    except Exception as bug:  # the edge of the thread: the others must be answered
        log.error("request crashed", path=request.head.get("path"), exc_info=bug)
        return WsgiAnswer(500, (("Content-Type", "text/plain"),), b"failed: see the log\n")


def environ_of(request: Message, address: tuple[str, int], is_tls: bool) -> dict[str, Any]:
    """The environment of a request."""
    head: Mapping[str, Any] = request.head
    environ = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": _decoded(head["path"]),
        "QUERY_STRING": head["query"],
        "CONTENT_LENGTH": str(len(request.body)),
        "SERVER_NAME": address[0],
        "SERVER_PORT": str(address[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": head["address"],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if is_tls else "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in head["headers"]:
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


def _decoded(path: str) -> str:
    """Without percent-encoding, as Latin-1; an encoded slash stays, as it separates nothing."""
    parts = path.replace("%2f", "%2F").split("%2F")
    return "%2F".join(unquote_to_bytes(part).decode("latin-1") for part in parts)
