"""A TLS connection for two threads: one receives while another sends.

Two threads must not use an OpenSSL connection at once, but os-ken reads and writes each switch from
two. Here OpenSSL works on memory buffers, each call under a lock, and only plain sockets block. So
green and native threads use the same code: only the plain socket differs.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from controller.runtime.peer import end_of, name_in

CHUNK = 1 << 16


class TlsConnection:
    """The socket methods that an OpenFlow connection uses, over TLS, on the server's side."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._tls_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self.certificate_name: str | None = None
        """The name in the peer's certificate, if a CA of ours has signed it."""
        self.certificate_end: float | None = None
        """When that certificate runs out, in Unix time."""

    def handshake(
        self,
        within_s: float,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Do the TLS handshake; the peer may be waited for so long, however little comes at a time.

        ``waiting`` is entered while it is waited for. Only that time counts: a process that has
        many handshakes to do blames no peer.

        Raises:
            OSError: the peer is refused (ssl.SSLError), closes the connection, or times out.
        """
        left = within_s
        while True:
            try:
                with self._tls_lock:
                    self._tls.do_handshake()
                    shown = self._tls.getpeercert()
                    self.certificate_name, self.certificate_end = name_in(shown), end_of(shown)
                self._flush()
                return
            except ssl.SSLWantReadError:
                if left <= 0:
                    raise TimeoutError(f"no handshake within {within_s:g} s") from None
                self._raw.settimeout(left)
                self._flush()
                began = time.monotonic()
                with waiting():
                    is_there = self._fill()
                left -= time.monotonic() - began
                if not is_there:
                    raise ConnectionResetError("the peer left during the handshake") from None
            except ssl.SSLError:
                self._flush()  # the alert that tells the peer why
                raise

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end of the connection.

        Raises:
            TimeoutError: that of the socket.
            OSError: the connection or TLS failed.
        """
        while True:
            try:
                with self._tls_lock:
                    data = self._tls.read(size)
                self._flush()
                return data
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                # ryu and os-ken retry for ever after an SSLError, but the connection is unusable
                raise ConnectionAbortedError(f"TLS failed: {error}") from error

    def sendall(self, data: bytes) -> None:
        """Send everything; the data of several senders is never interleaved."""
        with self._send_lock:
            for start in range(0, len(data), CHUNK):
                with self._tls_lock:
                    self._tls.write(data[start : start + CHUNK])
                    sealed = self._outgoing.read()
                self._raw.sendall(sealed)

    def close(self) -> None:
        """Close the socket."""
        self._raw.close()

    def _fill(self) -> bool:
        """Receive bytes from the peer; False at the end of the connection."""
        sealed = self._raw.recv(CHUNK)
        with self._tls_lock:
            self._incoming.write(sealed)
        return bool(sealed)

    def _flush(self) -> None:
        if not self._outgoing.pending:
            return
        with self._send_lock:
            with self._tls_lock:
                sealed = self._outgoing.read()
            self._raw.sendall(sealed)

    def __getattr__(self, name: str) -> Any:
        """All other attributes (timeouts, options, shutdown) are those of the socket below."""
        if name == "_raw":
            raise AttributeError(name)
        return getattr(self._raw, name)
