"""The head of a request, checked: method, target, host, origin, token, length of the body."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from http import HTTPStatus

import h11

from controller.http.front.answer import Refusal
from controller.http.settings import FrontSettings

MAX_HEAD = 16 * 1024
"""Longest request line and header fields together, in bytes."""
MAX_TARGET = 8 * 1024
"""Longest target of a request: path and query, in bytes."""
MAX_FIELDS = 64
"""Most header fields."""
MAX_PARAMETERS = 64
"""Most parameters of a query."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
PASSED_ON = frozenset({"authorization", "content-type", "idempotency-key"})
"""Header fields that the controller gets."""

_ONCE = frozenset({"host", "origin", "content-length", "transfer-encoding", "expect", *PASSED_ON})
_TARGET = re.compile(r"[!-~]+")
_ABSOLUTE = re.compile(r"https?://(?P<host>[^/?#@]*)(?P<rest>[/?].*|)", re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{0,5})?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body, which the front accepts."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case; only those of PASSED_ON."""
    max_body: int
    """Longest body, in bytes."""
    expects_continue: bool

    @property
    def is_health(self) -> bool:
        """Whether it asks for nothing but health."""
        return self.path in HEALTH_PATHS and self.method in ("GET", "HEAD")


def check_head(
    request: h11.Request, settings: FrontSettings, local_address: str | None
) -> RequestHead:
    """The head of a request that is well-formed, within its limits, and meant for this server.

    Raises:
        Refusal: the request is not served.
    """
    fields = _fields(request)
    method, target = request.method.decode("ascii"), _text(request.target)
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad-request", "speak HTTP/1.1 or HTTP/1.0"
        )
    if method not in METHODS:
        raise Refusal(
            HTTPStatus.NOT_IMPLEMENTED, "method-unknown", f"there is no method {method[:20]!r} here"
        )
    target, host = _split_target(target, fields.get("host"))
    _check_host(host, settings, local_address)
    _check_origin(fields, host, settings)
    path, _, query = target.partition("?")
    _check_query(query)
    _check_token(path, fields.get("authorization"), settings)
    return RequestHead(
        method,
        path,
        query,
        tuple((name, value) for name, value in fields.items() if name in PASSED_ON),
        _check_length(path, fields, request.http_version, settings),
        _check_expect(fields),
    )


def _fields(request: h11.Request) -> dict[str, str]:
    """The header fields by name, in lower case.

    Raises:
        Refusal: there are too many, or one that may be given once is given twice.
    """
    size = len(request.target) + sum(len(n) + len(v) + 4 for n, v in request.headers)
    if size > MAX_HEAD or len(request.headers) > MAX_FIELDS:
        raise too_long_head()
    found: dict[str, str] = {}
    for raw, value in request.headers:
        name = raw.decode("ascii").lower()
        if name in found and name in _ONCE:
            raise _bad(f"the header field {name!r} is given more than once")
        found[name] = value.decode("latin-1")
    return found


def too_long_head() -> Refusal:
    """431: what limits there are."""
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-large",
        f"request line and header fields may have {MAX_HEAD} bytes and {MAX_FIELDS} fields",
    )


def _text(target: bytes) -> str:
    text = target.decode("latin-1")
    if len(text) > MAX_TARGET:
        raise Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            "target-too-long",
            f"path and query may have {MAX_TARGET} bytes together",
        )
    if not _TARGET.fullmatch(text) or _ESCAPE.search(text) or "%00" in text or "#" in text:
        raise _bad("path or query hold characters that a URL cannot have: encode them with %")
    return text


def _split_target(target: str, host: str | None) -> tuple[str, str | None]:
    """Path with query, and the host: that of an absolute URL counts (RFC 9112, 3.2.2)."""
    if target.startswith("/"):
        return target, host
    if (absolute := _ABSOLUTE.fullmatch(target)) is not None:
        rest = absolute["rest"]
        return rest if rest.startswith("/") else f"/{rest}", absolute["host"]
    raise _bad("the target of a request is a path, like /v1/status")


def _check_host(host: str | None, settings: FrontSettings, local_address: str | None) -> None:
    """Only names of this server: a page of another site could use its own name for our address."""
    if host is None:  # HTTP/1.0; no browser does that
        return
    found = _HOST.fullmatch(host)
    if found is None:
        raise _bad("the header field Host is no host name")
    if settings.names is None:
        return
    name = found["name"].lower().rstrip(".")
    if name in settings.names or _is_address(name, local_address):
        return
    raise Refusal(
        HTTPStatus.MISDIRECTED_REQUEST,
        "host-unknown",
        f"this server is not {name[:100]!r}: use one of {', '.join(settings.names)}, "
        "or name it in [api] names",
    )


def _is_address(name: str, local_address: str | None) -> bool:
    """Whether the name is the very IP address that the client has connected to."""
    try:
        given = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        return local_address is not None and given == ipaddress.ip_address(local_address)
    except ValueError:
        return False


def _check_origin(fields: dict[str, str], host: str | None, settings: FrontSettings) -> None:
    """Browsers say which page sends a request: only our own may."""
    scheme = "http" if settings.tls is None else "https"
    origin = fields.get("origin")
    is_own = origin is None or (host is not None and origin.lower() == f"{scheme}://{host}".lower())
    if not is_own or fields.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refusal(
            HTTPStatus.FORBIDDEN, "foreign-origin", "pages of other sites may not use this API"
        )


def _check_query(query: str) -> None:
    if query.count("&") + query.count(";") >= MAX_PARAMETERS:
        raise _bad(f"a query may have {MAX_PARAMETERS} parameters")


def _check_token(path: str, authorization: str | None, settings: FrontSettings) -> None:
    if settings.token_digest is None or path in HEALTH_PATHS or path == "/openapi.json":
        return
    scheme, _, given = (authorization or "").partition(" ")
    digest = hashlib.sha256(given.strip().encode("latin-1")).hexdigest()
    if scheme.lower() == "bearer" and hmac.compare_digest(digest, settings.token_digest):
        return
    sentence = "this API needs its token: send `Authorization: Bearer <token>`"
    if authorization is not None:
        sentence = f"that is not the token of this API; {sentence}"
    raise Refusal(HTTPStatus.UNAUTHORIZED, "token-needed", sentence, ("WWW-Authenticate", "Bearer"))


def _check_length(
    path: str, fields: dict[str, str], version: bytes, settings: FrontSettings
) -> int:
    """The longest body that may follow.

    Raises:
        Refusal: its length is announced twice, or is longer.
    """
    length, coding = fields.get("content-length"), fields.get("transfer-encoding")
    if coding is not None and (length is not None or version == b"1.0"):
        raise _bad("Transfer-Encoding goes neither with Content-Length nor with HTTP/1.0")
    limits = (each.bytes for each in settings.bodies if path.startswith(each.prefix))
    limit = next(limits, 0)
    if length is not None and int(length) > limit:
        raise too_long_body(limit)
    return limit


def too_long_body(limit: int) -> Refusal:
    """413: how long it may be."""
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "request-entity-too-large",
        f"the body is larger than {limit} bytes",
    )


def _check_expect(fields: dict[str, str]) -> bool:
    expected = fields.get("expect")
    if expected is None:
        return False
    if expected.lower() != "100-continue":
        raise Refusal(
            HTTPStatus.EXPECTATION_FAILED, "bad-request", "only `Expect: 100-continue` is known"
        )
    return True


def _bad(sentence: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "bad-request", sentence)
