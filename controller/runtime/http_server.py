"""An HTTP server in the background of either runtime, for a WSGI application."""

import threading
from typing import Any

from cheroot import wsgi

from controller.runtime.errors import ApiAddressInUse

THREADS = 8
STOP_SECONDS = 2
REQUESTS_MAX = 256
"""Requests that wait for a thread; more are turned away."""


class WsgiServer:
    """A running server; `address` is (host, port) as bound, also when port 0 was asked for."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self.address: tuple[str, int] = server.bind_addr
        self._thread = threading.Thread(target=server.serve, name="api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the current answers (STOP_SECONDS at most) and close; any number of times."""
        self._server.stop()
        self._thread.join(STOP_SECONDS)


def serve_wsgi(app: Any, host: str, port: int) -> WsgiServer:
    """Serve app on host and port from threads of its own. Raises ApiAddressInUse."""
    server = _Server(
        (host, port), app, numthreads=THREADS, server_name="cloudtap",
        accepted_queue_size=REQUESTS_MAX,
    )  # fmt: skip
    server.shutdown_timeout = STOP_SECONDS
    # under green threads cheroot looks at a kept connection each half second only: keep none
    server.keep_alive_conn_limit = 0
    try:
        server.prepare()
    except OSError as error:
        raise ApiAddressInUse(host, port, server.refusal or error) from error
    return WsgiServer(server)


class _Server(wsgi.Server):
    """cheroot's server; it remembers why an address was refused, which cheroot turns into text."""

    refusal: OSError | None = None

    def bind(self, family: int, kind: int, protocol: int = 0) -> Any:
        try:
            return super().bind(family, kind, protocol)
        except OSError as error:
            self.refusal = error
            raise
