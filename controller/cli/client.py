"""HTTP client of the API: answers are values, failures are one sentence."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from controller.process import (
    CERTIFICATE_BYTES_MAX,
    UnusableFile,
    read_file,
    visible,
    visible_lines,
)

DEFAULT_API = "http://127.0.0.1:9470"
"""Where a controller on this machine listens by default."""

ANSWER_TIMEOUT_S = 30.0
"""How long an answer may take: the controller itself waits up to 10 s for its switches."""

Values = dict[str, Any]

HAS_CHANGED: ContextVar[bool] = ContextVar("HAS_CHANGED", default=False)
"""Whether the command has changed something already, so that to repeat it is no remedy."""

_USER_INFO = re.compile(r"(?:(?<=//)|^(?!\w+://)).*@")


class Failure(click.ClickException):
    """One sentence on stderr, exit status 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the sentence without a traceback."""
        click.echo(f"cloudtap: {visible_lines(self.message)}", err=True)


def masked(url: str) -> str:
    """A URL as it may be shown: without the name and password that it may hold."""
    return _USER_INFO.sub("***@", url)


@dataclass(frozen=True, slots=True, repr=False)
class Api:
    """The API of one controller, by URL and token."""

    url: str
    token: str | None = None
    ca_file: Path | None = None
    """PEM file of whoever signs the certificate of the API; None: the system's."""
    insecure: bool = False
    """Whether the token may cross a network where others can read it."""

    @property
    def shown_url(self) -> str:
        """The URL, see ``masked``."""
        return masked(self.url)

    def get(self, *path: str, **query: str | None) -> Values:
        """GET: the value at a path."""
        return self._send("GET", path, query).json()  # type: ignore[no-any-return]

    def all(self, noun: str, **query: str | None) -> list[Values]:
        """GET: every item of a list, page by page."""
        items: list[Values] = []
        marker: str | None = None
        while True:
            page = self.get(noun, **query, limit="1000", marker=marker)
            items += page["items"]
            marker = page["next"]
            if marker is None:
                return items

    def post(self, noun: str, body: Values) -> Values:
        """POST: create an item; the answer is the item."""
        return self._send("POST", (noun,), {}, body).json()  # type: ignore[no-any-return]

    def act(
        self, noun: str, ref: str, action: str | None, body: Values, **query: str | None
    ) -> Values:
        """POST: an action on an item, or on the only one; the answer is its result."""
        path = (noun, ref) if action is None else (noun, ref, action)
        return self._send("POST", path, query, body).json()  # type: ignore[no-any-return]

    def patch(self, noun: str, ref: str, body: Values, **query: str | None) -> Values:
        """PATCH: change an item; the answer is the item."""
        return self._send("PATCH", (noun, ref), query, body).json()  # type: ignore[no-any-return]

    def delete(self, noun: str, ref: str, **query: str | None) -> Values | None:
        """DELETE an item: None once it is gone, or the item that is still being deleted."""
        response = self._send("DELETE", (noun, ref), query)
        return None if response.status_code == httpx.codes.NO_CONTENT else response.json()

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, str | None],
        body: Values | None = None,
    ) -> httpx.Response:
        url = "/".join([self.url.rstrip("/"), "v1", *map(_path_part, path)])
        params = {key: _utf8(value) for key, value in query.items() if value is not None}
        body = _utf8(body)
        try:
            response = self._ask(method, url, params, body)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Failure(self._no_answer(error)) from error
        kind = response.headers.get("Content-Type", "")
        if response.status_code == httpx.codes.NO_CONTENT or (
            response.is_success and kind.startswith("application/json")
        ):
            if method != "GET" and path not in (("explain",), ("inventory", "diff")):
                HAS_CHANGED.set(True)
            return response
        raise Failure(self._sentence(response))

    def _ask(
        self, method: str, url: str, params: Mapping[str, str], body: Values | None
    ) -> httpx.Response:
        if self.token and not self.insecure and not _is_private(url):
            raise Failure(
                f"the token would cross the network to {self.shown_url} unencrypted: use https, "
                "or say --insecure if nobody else can read it on its way"
            )
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        # HTTP_PROXY and the like must not apply to the controller
        with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False, verify=self._tls()) as client:
            response = client.request(method, url, params=params, json=body, headers=headers)
            response.read()
            return response

    def _tls(self) -> ssl.SSLContext | bool:
        """How to check the certificate of the API; reading the system's takes time."""
        if not self.url.lower().startswith("https:"):
            return True
        if self.ca_file is None:
            return _trusting(None)
        try:
            # read here: the TLS library would wait for a FIFO, and read a device for ever
            found = read_file(self.ca_file, CERTIFICATE_BYTES_MAX).decode("ascii", "replace")
            return _trusting(found or "empty")
        except (OSError, UnusableFile) as error:  # an SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", str(error))
            raise Failure(f"CA file {str(self.ca_file)!r} cannot be used: {reason}") from error

    def _no_answer(self, error: Exception) -> str:
        """Why there is no answer, and what to do."""
        where, why = self.shown_url, str(error)
        if isinstance(error, httpx.TimeoutException):
            return f"the controller at {where} does not answer in time"
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
            return f"{where!r} is no URL: write it like {DEFAULT_API}"
        if "CERTIFICATE_VERIFY_FAILED" in why:
            return self._distrust(why)
        if "WRONG_VERSION_NUMBER" in why or "RECORD_LAYER_FAILURE" in why:
            return (
                f"what answers at {where} does not speak HTTPS: if it is cloudtap, its URL begins "
                "with http:"
            )
        if isinstance(error, httpx.ConnectError):
            return (
                f"no controller answers at {where}: start it, as a service with `systemctl start "
                "cloudtap`, else with `cloudtap up`; `cloudtap doctor` says what keeps one from "
                "starting"
            )
        is_plain = self.url.lower().startswith("http:")
        hint = ": if it serves HTTPS, its URL begins with https:" if is_plain else ""
        return f"what listens at {where} ended the connection without an answer{hint}"

    def _distrust(self, why: str) -> str:
        reason = why.partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0]
        return (
            f"the certificate of {self.shown_url} is not trusted ({reason}): name the file of "
            "those who signed it with --ca-file or CLOUDTAP_CA_FILE, and use a name that it holds"
        )

    def _sentence(self, response: httpx.Response) -> str:
        if response.headers.get("Content-Type", "").startswith("application/problem+json"):
            problem = response.json()
            if response.status_code == httpx.codes.UNAUTHORIZED and self.token:
                return (
                    f"the controller at {self.shown_url} does not know this token: compare it "
                    "with the file that [api] token_file of its configuration names"
                )
            if response.status_code == httpx.codes.UNAUTHORIZED:
                return "the controller asks for a token: use --token-file, or CLOUDTAP_TOKEN"
            found = [each["detail"] for each in problem.get("errors", [])]
            return "; ".join(found or [problem["detail"]])
        return (
            f"what answers at {self.shown_url} is not cloudtap (HTTP status {response.status_code})"
        )


def _is_private(url: str) -> bool:
    """Whether nobody else can read what is sent to a URL.

    Raises:
        httpx.InvalidURL: it is no URL.
    """
    found = httpx.URL(url)
    try:
        is_here = ipaddress.ip_address(found.host).is_loopback
    except ValueError:
        is_here = found.host == "localhost"
    return is_here or found.scheme != "http"


def _path_part(part: str) -> str:
    """A name as one part of the path of a URL.

    Raises:
        Failure: it is empty, or not UTF-8.
    """
    if not part:
        raise Failure("an empty name names nothing")
    if part in (".", ".."):  # else they would mean other paths
        return part.replace(".", "%2E")
    return quote(_utf8(part), safe="")


def _utf8(value: Any) -> Any:
    """A value whose texts are UTF-8, also where the locale has read arguments as something else.

    Raises:
        Failure: a text is not.
    """
    if isinstance(value, dict):
        return {_utf8(key): _utf8(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_utf8(each) for each in value]
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(value).decode()
    except UnicodeError as error:
        raise Failure(f"'{visible(value)}' is not UTF-8 text") from error


def _trusting(authorities: str | None) -> ssl.SSLContext:
    """Checks certificates by these authorities (PEM), or those of the system; on any Python alike.

    From 3.13 on Python refuses those without every field that RFC 5280 asks for, as many private
    authorities sign them.

    Raises:
        ssl.SSLError: these are no certificates.
    """
    context = ssl.create_default_context(cadata=authorities)
    context.verify_flags &= ~(ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
    return context
