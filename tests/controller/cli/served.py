"""A WSGI application served on an address of its own, for the client under test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import make_server

LOOK_S = 0.01
"""How often the server looks whether it is to stop; by itself each half second."""


@contextmanager
def served(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an application inside the block; gives its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
