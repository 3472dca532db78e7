"""The API as the commands see it: requests out, values or one sentence back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click
import httpx

DEFAULT_API = "http://127.0.0.1:9470"
"""Where the controller of this machine listens by default."""

TIMEOUT_S = 30.0
"""How long an answer may take: the controller itself waits up to 10 s for its switches."""

Values = dict[str, Any]


class Failure(click.ClickException):
    """One sentence on stderr, exit status 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the sentence alone."""
        click.echo(f"cloudtap: {self.message}", err=True)


@dataclass(frozen=True, slots=True)
class Api:
    """A controller, by URL and token."""

    url: str
    token: str | None = None

    def get(self, *path: str, **query: str | None) -> Values:
        """What is at a path."""
        return self._send("GET", path, query).json()  # type: ignore[no-any-return]

    def all(self, noun: str, **query: str | None) -> list[Values]:
        """A whole list, however many parts it comes in."""
        items: list[Values] = []
        marker: str | None = None
        while True:
            page = self.get(noun, **query, limit="1000", marker=marker)
            items += page["items"]
            marker = page["next"]
            if marker is None:
                return items

    def post(self, noun: str, body: Values) -> Values:
        """Create a thing; the answer is the thing."""
        return self._send("POST", (noun,), {}, body).json()  # type: ignore[no-any-return]

    def act(self, noun: str, ref: str, deed: str, body: Values, **query: str | None) -> Values:
        """Do something with a thing; the answer says what was done."""
        return self._send("POST", (noun, ref, deed), query, body).json()  # type: ignore[no-any-return]

    def patch(self, noun: str, ref: str, body: Values, **query: str | None) -> Values:
        """Change a thing; the answer is the thing."""
        return self._send("PATCH", (noun, ref), query, body).json()  # type: ignore[no-any-return]

    def delete(self, noun: str, ref: str, **query: str | None) -> Values | None:
        """Delete a thing: None when it is gone, or the thing that is still being deleted."""
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
            # proxies of the environment are for the internet, not for the controller
            with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
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
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Failure(f"{self.url!r} is no URL: write it like {DEFAULT_API}") from error
        except httpx.HTTPError as error:
            raise Failure(
                f"no controller answers at {self.url}: start it with `ryu-manager controller.app`"
            ) from error
        kind = response.headers.get("Content-Type", "")
        if response.status_code == httpx.codes.NO_CONTENT or (
            response.is_success and kind.startswith("application/json")
        ):
            return response
        raise Failure(self._sentence(response))

    def _sentence(self, response: httpx.Response) -> str:
        if response.headers.get("Content-Type", "").startswith("application/problem+json"):
            problem = response.json()
            if response.status_code == httpx.codes.UNAUTHORIZED:
                return "the controller asks for a token: use --token-file, or CLOUDTAP_TOKEN"
            found = [each["detail"] for each in problem.get("errors", [])]
            return "; ".join(found or [problem["detail"]])
        return f"what answers at {self.url} is not cloudtap (HTTP status {response.status_code})"
