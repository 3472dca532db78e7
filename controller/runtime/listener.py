"""The server that switches connect to; it replaces the library's own StreamServer.

ryu's serves TLS to the first switch only (it empties its settings on the first connection), shares
its port silently with a second controller (SO_REUSEPORT), and ends with a traceback when the port
is in use.
"""

from __future__ import annotations

import errno
import math
import resource
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from controller.process import RenewedFiles, UnusableFile, load_tls_files
from controller.runtime.admission import HANDSHAKE_S, ConnectionAdmission, Visit
from controller.runtime.backpressure import Blame, SwitchSocket, cut_off, end_connection
from controller.runtime.errors import BadTlsSettings, OpenFlowAddressInUse
from controller.runtime.tls import TlsConnection
from controller.runtime.tls_refusals import TlsRefusals, explain_handshake

TLS_HANDSHAKE_S = 5.0
"""How long a whole TLS handshake may take, in seconds; it is part of the whole handshake."""
ACCEPT_PAUSE_S = 0.2
"""Pause while no connection can be accepted, in seconds."""
SAID_EVERY_S = 60.0
"""The least time between two lines that say that no switch can connect, in seconds."""
OVERDUE_LOOK_S = 0.5
"""Interval at which handshakes that take too long are looked for, in seconds."""
ACCEPTS_AT_ONCE, ACCEPTS_PER_S = 2000, 100
"""Connections that are accepted at once, and after that each second."""
OTHER_FILES = 256
"""File descriptors that are kept for the API, the databases and the store."""
MANY_CONNECTIONS = "there are as many connections as the limit of open files allows"
MORE_FILES = "raise the limit of open files of this process (LimitNOFILE, ulimit -n)"
MORE_THREADS = "raise the limit of threads of this process (TasksMax, ulimit -u)"

log = structlog.get_logger(__name__)

Address = tuple[Any, ...]
Handle = Callable[[Any, Address], None]


class Listener:
    """Accepts switches, over TLS if certificate files are given, with a thread for each.

    It has the arguments of the libraries' StreamServer. ``fail`` gets the error if it cannot
    listen, and does not return.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handle: Handle,
        *,
        spawn: Callable[..., Any],
        fail: Callable[[Exception], None],
        admission: ConnectionAdmission,
        **tls: Any,
    ) -> None:
        self._handle, self._spawn, self._admission = handle, spawn, admission
        self._is_said = False
        self._said_at = -math.inf
        self._accepts, self._accepted_at = float(ACCEPTS_AT_ONCE), time.monotonic()
        self.refusals = TlsRefusals()
        self._tls = _tls(tls) if tls else None
        try:
            if self._tls is not None:
                _check_files(self._tls, tls)
            self._socket = _listen(*address)
        except (BadTlsSettings, OpenFlowAddressInUse) as error:
            fail(error)

    def serve_forever(self) -> None:
        """Accept connections until the process ends."""
        self._spawn(self._look_after)
        while True:
            if self._admission.is_full:
                self._wait(MANY_CONNECTIONS, MORE_FILES)
                continue
            if self._admission.is_crowded:
                time.sleep(ACCEPT_PAUSE_S)
                continue
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # that one: the peer has left already
                    self._wait(error.strerror or str(error), MORE_FILES)
                continue
            try:
                self._welcome(connection, address)
                self._note_accepting()
            except RuntimeError as error:  # one more thread than the process may have
                self._wait(str(error), MORE_THREADS)
            self._keep_pace()

    def _welcome(self, connection: socket.socket, address: Address) -> None:
        """Start a thread for a connection that may enter; close any other one.

        Raises:
            RuntimeError: no thread can be started; the connection was closed.
        """
        host, name = str(address[0]), f"{address[0]}:{address[1]}"
        visit, crowded_out = self._admission.enter(connection, host, name)
        for other in crowded_out:
            log.warning("switch crowded out", switch=other.name, stay=other.stay.value)
            end_connection(other.connection)
        if visit is None:
            log.info("switch has to stay away", switch=host)
            connection.close()
            return
        try:
            self._spawn(self._serve, connection, address, visit)
        except RuntimeError:
            self._admission.leave(visit)
            connection.close()
            raise

    def _serve(self, connection: socket.socket, address: Address, visit: Visit) -> None:
        """Serve one connection until it is over."""
        secured: Any = connection
        try:
            if self._tls is not None:
                secured = TlsConnection(connection, self._tls.value)
                secured.handshake(TLS_HANDSHAKE_S, lambda: self._admission.waiting(visit))
                self.refusals.forget(visit.host)
            self._handle(SwitchSocket(secured, visit, self._admission), address)
        except OSError as error:
            what = "TLS handshake failed" if self._tls is not None else "connection failed"
            said = explain_handshake(visit.name, error)
            if said is not None:
                is_known = self._admission.knows(visit.host)
                self.refusals.note(visit.host, said, is_known=is_known)
            log.warning(what, switch=visit.name, reason=said or str(error))
            if isinstance(error, (TimeoutError, ssl.SSLError)):
                self._admission.offend(visit)
        except Exception as error:  # the edge of the thread
            log.error("connection failed", switch=visit.name, exc_info=error)
        finally:
            self._admission.leave(visit)
            connection.close()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the certificate files as they are now are not used."""
        problem = None if self._tls is None else self._tls.problem
        return () if problem is None else (problem,)

    def _look_after(self) -> None:
        """End handshakes that take too long, and use certificate files that have changed."""
        while True:
            time.sleep(OVERDUE_LOOK_S)
            self._end_overdue_handshakes()
            if self._tls is not None:
                self._tls.look_again()

    def _end_overdue_handshakes(self) -> None:
        for visit in self._admission.overdue():
            cut_off(
                SwitchSocket(visit.connection, visit, self._admission),
                f"it has not told its features and ports within {HANDSHAKE_S:g} s",
                Blame.ADDRESS,
            )
            self._admission.leave(visit)

    def _wait(self, reason: str, remedy: str) -> None:
        """Accept nothing for a moment; that is said once, and again only after a minute.

        Where each connection that ends lets one other in, both would be said for ever.
        """
        if not self._is_said and time.monotonic() - self._said_at >= SAID_EVERY_S:
            self._is_said, self._said_at = True, time.monotonic()
            log.error("no switch can connect", reason=reason, remedy=remedy)
        time.sleep(ACCEPT_PAUSE_S)

    def _note_accepting(self) -> None:
        if self._is_said:
            self._is_said = False
            log.info("switches can connect again")

    def _keep_pace(self) -> None:
        """Let others run; for longer when connections come faster than is allowed."""
        now = time.monotonic()
        refilled = self._accepts + (now - self._accepted_at) * ACCEPTS_PER_S
        self._accepts, self._accepted_at = min(ACCEPTS_AT_ONCE, refilled) - 1, now
        time.sleep(max(0.0, -self._accepts / ACCEPTS_PER_S))


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have; returns how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            log.warning("limit of open files not raised", limit=soft, reason=str(error))
    return max(soft // 4, soft - OTHER_FILES)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OpenFlowAddressInUse(host, port, error) from error


def _tls(files: dict[str, Any]) -> RenewedFiles[ssl.SSLContext]:
    """The TLS context of certificate, private key and CA as they are now.

    Each time a new one: it accepts no session tickets that were given under another CA.
    """
    given = (files["certfile"], files["keyfile"], files.get("ca_certs"))
    return RenewedFiles(
        [path for path in given if path],
        lambda: _context(*given),
        kept="the old certificate and CA are still used for switches",
    )


def _check_files(tls: RenewedFiles[ssl.SSLContext], files: dict[str, Any]) -> None:
    """Raise if no switch could connect.

    Raises:
        BadTlsSettings: the files cannot be used.
    """
    try:
        _ = tls.value
    except (OSError, UnusableFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        given = files["certfile"], files["keyfile"], files.get("ca_certs")
        raise BadTlsSettings(*given, reason) from error


def _context(certificate: str, private_key: str, ca: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with a CA only switches with a certificate of it are accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_tls_files(context, Path(certificate), Path(private_key), Path(ca) if ca else None)
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
