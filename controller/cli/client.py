"""HTTP client of the API: answers are values, failures are one sentence."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from controller.process import visible_lines

DEFAULT_API = "http://127.0.0.1:9470"
"""Where a controller on this machine listens by default."""

ANSWER_TIMEOUT_S = 30.0
"""How long an answer may take: the controller itself waits up to 10 s for its switches."""

Values = dict[str, Any]


class Failure(click.ClickException):
    """One sentence on stderr, exit status 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the sentence without a traceback."""
        click.echo(f"cloudtap: {visible_lines(self.message)}", err=True)


@dataclass(frozen=True, slots=True)
class Api:
    """The API of one controller, by URL and token."""

    url: str
    token: str | None = None
    ca_file: Path | None = None
    """PEM file of whoever signs the certificate of the API; None: the system's."""

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
        url = "/".join([self.url.rstrip("/"), "v1", *(quote(part, safe="") for part in path)])
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            # HTTP_PROXY and the like must not apply to the controller
            with httpx.Client(
                timeout=ANSWER_TIMEOUT_S, trust_env=False, verify=self._tls()
            ) as client:
                response = client.request(
                    method,
                    url,
                    params={key: value for key, value in query.items() if value is not None},
                    json=body,
                    headers=headers,
                )
                response.read()
        except httpx.TimeoutException as error:
            raise Failure(f"the controller at {self.url} does not answer in time") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
            raise Failure(f"{self.url!r} is no URL: write it like {DEFAULT_API}") from error
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Failure(self._distrust(error)) from error
            raise Failure(
                f"no controller answers at {self.url}: start it with `ryu-manager controller.app`"
            ) from error
        kind = response.headers.get("Content-Type", "")
        if response.status_code == httpx.codes.NO_CONTENT or (
            response.is_success and kind.startswith("application/json")
        ):
            return response
        raise Failure(self._sentence(response))

    def _tls(self) -> ssl.SSLContext | bool:
        """How to check the certificate of the API; reading the system's takes time."""
        if not self.url.lower().startswith("https:"):
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failure(f"CA file {str(self.ca_file)!r} cannot be used: {reason}") from error

    def _distrust(self, error: httpx.HTTPError) -> str:
        reason = str(error).partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0]
        return (
            f"the certificate of {self.url} is not trusted ({reason}): name the file of those who "
            "signed it with --ca-file or CLOUDTAP_CA_FILE, and use a name that it holds"
        )

    def _sentence(self, response: httpx.Response) -> str:
        if response.headers.get("Content-Type", "").startswith("application/problem+json"):
            problem = response.json()
            if response.status_code == httpx.codes.UNAUTHORIZED and self.token:
                return (
                    f"the controller at {self.url} does not know this token: compare it with the "
                    "file that [api] token_file of its configuration names"
                )
            if response.status_code == httpx.codes.UNAUTHORIZED:
                return "the controller asks for a token: use --token-file, or CLOUDTAP_TOKEN"
            found = [each["detail"] for each in problem.get("errors", [])]
            return "; ".join(found or [problem["detail"]])
        return f"what answers at {self.url} is not cloudtap (HTTP status {response.status_code})"
