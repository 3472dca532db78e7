"""A TLS connection for two threads: one receives while another sends.

An OpenSSL connection may not be used by two threads at once, and os-ken reads and writes each
switch from two. Here OpenSSL works on buffers in memory, each call under a lock, and only plain
sockets wait. This also makes green and real threads alike: a plain socket is all that differs.
"""

import socket
import ssl
import threading
from typing import Any

CHUNK = 1 << 16


class TlsConnection:
    """The socket methods that an OpenFlow connection uses, over TLS, on the server's side."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._tls_lock = threading.Lock()
        self._send_lock = threading.Lock()

    def handshake(self) -> None:
        """Agree on keys; OSError (ssl.SSLError is one) if the peer is refused, leaves or stalls."""
        while True:
            try:
                with self._tls_lock:
                    self._tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise ConnectionResetError("the peer left during the handshake") from None
            except ssl.SSLError:
                self._flush()  # the alert that tells the peer why
                raise

    def recv(self, size: int) -> bytes:
        """Up to size bytes; none at the end; TimeoutError as the socket's; OSError if TLS broke."""
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
                # ryu and os-ken try again for ever after an SSLError; a broken connection is over
                raise ConnectionAbortedError(f"TLS failed: {error}") from error

    def sendall(self, data: bytes) -> None:
        """Send everything; messages of several senders never mix."""
        with self._send_lock:
            for start in range(0, len(data), CHUNK):
                with self._tls_lock:
                    self._tls.write(data[start : start + CHUNK])
                    sealed = self._outgoing.read()
                self._raw.sendall(sealed)

    def close(self) -> None:
        """Close the socket; the peer sees the end of the connection."""
        self._raw.close()

    def _fill(self) -> bool:
        """Wait for bytes of the peer; False at the end of the connection."""
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
        """Time-outs, options and shutdown are those of the socket below."""
        if name == "_raw":
            raise AttributeError(name)
        return getattr(self._raw, name)
