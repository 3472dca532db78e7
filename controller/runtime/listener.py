"""The server that switches connect to, in the place of the library's own.

ryu's serves TLS to the first switch only (it empties its settings on the first connection), shares
its port silently with a second controller (SO_REUSEPORT), and dies with a traceback when the port
is taken.
"""

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog

from controller.runtime.errors import BadTlsSettings, OpenFlowAddressInUse
from controller.runtime.backpressure import Patient
from controller.runtime.tls import TlsConnection

HANDSHAKE_SECONDS = 5.0
PAUSE_SECONDS = 0.5
"""Between tries to accept when the process has no file descriptor left."""

log = structlog.get_logger(__name__)

Address = tuple[Any, ...]
Handle = Callable[[Any, Address], None]


class Listener:
    """Accept switches, over TLS if certificate files are given; a thread for each.

    Takes the arguments of the libraries' StreamServer. `fail` gets the error if it cannot listen
    and does not return.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handle: Handle,
        *,
        spawn: Callable[..., Any],
        fail: Callable[[Exception], None],
        **tls: Any,
    ) -> None:
        self._handle, self._spawn = handle, spawn
        self._context: ssl.SSLContext | None = None
        try:
            self._context = _context(tls) if tls else None
            self._socket = _listen(*address)
        except (BadTlsSettings, OpenFlowAddressInUse) as error:
            fail(error)

    def serve_forever(self) -> None:
        """Accept connections until the process ends."""
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                log.error("switch not accepted", reason=str(error))
                time.sleep(PAUSE_SECONDS)
                continue
            self._spawn(self._welcome, connection, address)
            time.sleep(0)  # what a hundred at once begin would be one long piece of work

    def _welcome(self, connection: socket.socket, address: Address) -> None:
        if self._context is None:
            self._handle(Patient(connection, address), address)
            return
        try:
            connection.settimeout(HANDSHAKE_SECONDS)
            secured = TlsConnection(connection, self._context)
            secured.handshake()
        except OSError as error:
            log.warning("TLS handshake failed", switch=_text(address), reason=str(error))
            connection.close()
            return
        self._handle(Patient(secured, address), address)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OpenFlowAddressInUse(host, port, error) from error


def _context(tls: dict[str, Any]) -> ssl.SSLContext:
    """TLS 1.2 or newer; with a CA only switches that show a certificate of it are let in."""
    certificate, private_key, ca = tls["certfile"], tls["keyfile"], tls.get("ca_certs")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private_key)
        if ca:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadTlsSettings(certificate, private_key, ca, reason) from error
    return context


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
