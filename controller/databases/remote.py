"""Connects to a database: its address, TLS, and sentences about what went wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from controller.process import RenewedFiles, UnusableFile, load_tls_files

CONNECT_S = 10.0
"""How long connecting and the TLS handshake may take together, in seconds."""
BUFFER = 1 << 17
"""What is read ahead of a connection, in bytes."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
RenewedTls = RenewedFiles[ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for ``ssl:`` remotes: our key and certificate, and who signs those of servers."""

    key: str
    certificate: str
    authority: str

    def context(self) -> ssl.SSLContext:
        """The TLS settings; as with Open vSwitch, a certificate is checked, not the host's name.

        Raises:
            OSError: a file cannot be used (ssl.SSLError is one).
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        files = Path(self.certificate), Path(self.key), Path(self.authority)
        try:
            load_tls_files(context, *files)
        except FileNotFoundError as problem:  # by its number alone the database would be missing
            raise OSError(f"{problem.filename} does not exist") from problem
        except UnusableFile as problem:
            raise OSError(str(problem)) from problem
        return context

    def renewed(self) -> RenewedTls:
        """The TLS settings of the files as they are now, or were when they were last valid."""
        files = (self.certificate, self.key, self.authority)
        kept = "the old certificate and CA are still used for databases"
        return RenewedFiles(files, self.context, kept)


async def connect(remote: str, tls: RenewedTls | None) -> Streams:
    """Connect to ``unix:/path``, ``tcp:host:port`` or ``ssl:host:port``.

    Raises:
        OSError: it cannot be reached (TimeoutError and ssl.SSLError are kinds of it).
    """
    scheme, _, rest = remote.partition(":")
    async with asyncio.timeout(CONNECT_S):
        if scheme == "unix":
            return await asyncio.open_unix_connection(rest, limit=BUFFER)
        host, _, port = rest.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        context = None
        if scheme == "ssl":
            if tls is None:
                raise OSError(errno.EINVAL, "no certificates are configured for it")
            tls.look_again()
            context = tls.value
        try:
            return await asyncio.open_connection(host, int(port), limit=BUFFER, ssl=context)
        except UnicodeError as problem:  # the name is encoded before it is looked up
            raise OSError(f"{host!r} is no name of a host") from problem


def explain(remote: str, error: OSError | None) -> str:
    """Why a database cannot be reached, and what to do; None if it closed the connection."""
    if error is None or isinstance(error, (ConnectionResetError, BrokenPipeError)):
        is_tls = remote.startswith("ssl:")
        hint = ": see whether it accepts our certificate (`certificate` of [ovsdb])"
        return f"{remote} closed the connection{hint if is_tls else ''}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{remote} is not trusted ({error.verify_message}): see whether `ca` of [ovsdb] has "
            "signed its certificate"
        )
    if isinstance(error, ssl.SSLError):
        return f"{remote} cannot be reached over TLS: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"{remote} does not answer: see whether it is reachable from here"
    if error.errno == errno.EACCES:
        return (
            f"permission to open {remote} was denied: run as root, or let this user write to the "
            "socket"
        )
    if error.errno == errno.ENOENT:
        return f"{remote} does not exist: see whether ovsdb-server runs on this machine"
    if error.errno == errno.ECONNREFUSED:
        return f"nobody listens at {remote}: see whether ovsdb-server runs there"
    words = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return f"{remote} cannot be reached: {words}"
