"""A real HTTP server that answers as Keystone (v3) and Neutron (v2.0) do, with pages and tokens.

What it holds and how it fails is changed while it runs.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
PASSWORD = "correct-horse-battery"
RED, BLUE = "a" * 31 + "1", "b" * 31 + "2"
"""Ids of two projects."""


def port(key: str, project: str, mac: str, **fields: Any) -> Document:
    """A workload as Neutron shows it."""
    return {
        "id": key, "name": "", "project_id": project, "network_id": f"net-{project}",
        "mac_address": mac, "device_owner": "compute:nova", "fixed_ips": [],
        "allowed_address_pairs": [], "port_security_enabled": True, **fields,
    }  # fmt: skip


def network(project: str, **fields: Any) -> Document:
    """The network of a project."""
    return {"id": f"net-{project}", "name": "lan", "project_id": project, "shared": False, **fields}


class OpenStackApi:
    """The server, inside a ``with``; ``folder`` gets a clouds.yaml whose cloud is ``lab``."""

    def __init__(self, folder: Path) -> None:
        self.networks = {f"net-{p}": network(p) for p in (RED, BLUE)}
        self.ports: dict[str, Document] = {}
        self.projects = {RED: "red", BLUE: "blue"}
        self.page = 1000
        """Most objects of one page, whatever is asked for."""
        self.damage: Callable[[BaseHTTPRequestHandler, str], bool] | None = None
        """Called before each answer with the path; True if it has answered, or broken it."""
        self.tokens: set[str] = set()
        self.asked: Counter[str] = Counter()
        """How many requests there were for each path."""
        self._logins = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.clouds = folder / "clouds.yaml"
        self.clouds.write_text(json.dumps({"clouds": {"lab": self._cloud()}}))
        self.clouds.chmod(0o600)

    def _cloud(self) -> Document:
        names = {
            "project_name": "admin",
            "user_domain_id": "default",
            "project_domain_id": "default",
        }
        login = {"auth_url": f"{self.url}/v3", "username": "tap", "password": PASSWORD, **names}
        return {"auth": login, "region_name": "one", "identity_api_version": "3"}

    def __enter__(self) -> OpenStackApi:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def set_ports(self, *ports: Document) -> None:
        """These ports exist, and no others."""
        self.ports = {one["id"]: one for one in ports}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the client has ended
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is logged."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.answer_login(self, body)

            def do_GET(self) -> None:
                api.answer(self)

        return Handler

    def answer_login(self, handler: BaseHTTPRequestHandler, body: Document) -> None:
        """POST /v3/auth/tokens."""
        self.asked["/v3/auth/tokens"] += 1
        if self.damage is not None and self.damage(handler, "/v3/auth/tokens"):
            return
        user = body["auth"]["identity"]["password"]["user"]
        if user["password"] != PASSWORD:
            reply(handler, 401, {"error": {"code": 401, "message": f"no {user['password']}"}})
            return
        self._logins += 1
        token = f"secret-token-{self._logins}"
        self.tokens.add(token)
        reply(handler, 201, {"token": self._token()}, {"X-Subject-Token": token})

    def _token(self) -> Document:
        def service(kind: str, path: str) -> Document:
            public = {"interface": "public", "region": "one", "region_id": "one", "id": kind}
            return {"type": kind, "name": kind, "id": kind, "endpoints": [{**public, "url": path}]}

        return {
            "methods": ["password"],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2020-01-01T00:00:00.000000Z",
            "project": {"id": "admin", "name": "admin", "domain": {"id": "default"}},
            "user": {"id": "tap", "name": "tap", "domain": {"id": "default"}},
            "roles": [{"id": "reader", "name": "reader"}],
            "catalog": [service("network", self.url), service("identity", f"{self.url}/v3")],
        }

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """GET."""
        url = urlsplit(handler.path)
        self.asked[url.path] += 1
        if self.damage is not None and self.damage(handler, url.path):
            return
        if (versions := self._versions(url.path)) is not None:
            reply(handler, 200, versions)
        elif handler.headers.get("X-Auth-Token") not in self.tokens:
            reply(handler, 401, {"error": {"code": 401, "message": "token"}})
        elif url.path == "/v3/projects":
            found = [{"id": key, "name": name} for key, name in self.projects.items()]
            reply(handler, 200, {"projects": found, "links": {}})
        elif url.path in ("/v2.0/ports", "/v2.0/networks"):
            reply(handler, 200, self._list(url.path.rpartition("/")[2], parse_qs(url.query)))
        else:
            reply(handler, 404, {})

    def _versions(self, path: str) -> Document | None:
        def version(number: str, where: str) -> Document:
            links = [{"rel": "self", "href": f"{self.url}{where}"}]
            return {"id": number, "status": "CURRENT", "links": links}

        if path == "/":
            return {"versions": [version("v2.0", "/v2.0/")]}
        if path in ("/v3", "/v3/"):
            return {"version": version("v3.14", "/v3/") | {"status": "stable"}}
        return None

    def _list(self, kind: str, query: dict[str, list[str]]) -> Document:
        objects: dict[str, Document] = getattr(self, kind)
        limit = min(self.page, int(query.get("limit", ["1000000"])[0]))
        after = query.get("marker", [""])[0]
        keys = [key for key in sorted(objects) if key > after]
        shown = [
            {key: value for key, value in objects[one].items() if key in query["fields"]}
            for one in keys[:limit]
        ]
        links = []
        if len(keys) > limit:
            links = [{"rel": "next", "href": f"{self.url}/v2.0/{kind}?marker={keys[limit - 1]}"}]
        return {kind: shown, f"{kind}_links": links}


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: object,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer a request with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
