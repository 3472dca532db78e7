"""What the front process must know, as values that travel in its first message."""

from __future__ import annotations

import dataclasses
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.http.errors import BadApiCertificate
from controller.process import RenewedFiles, UnusableFile, load_tls_files

MAX_MESSAGE = 128 << 20
"""Longest body of a request or an answer between front and controller, in bytes."""


@dataclass(frozen=True, slots=True)
class HttpsFiles:
    """PEM files for HTTPS; they may be replaced at any time."""

    certificate: str
    private_key: str

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer with the files as they are now.

        Raises:
            BadApiCertificate: they cannot be used.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            load_tls_files(context, Path(self.certificate), Path(self.private_key))
        except (OSError, ValueError, UnusableFile) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadApiCertificate(self.certificate, self.private_key, reason) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        return context

    def renewed(self) -> RenewedFiles[ssl.SSLContext]:
        """The same, or with the files as they were when they were last valid."""
        return RenewedFiles(
            (self.certificate, self.private_key),
            self.context,
            kept="the old certificate is still used",
            lost="nobody can connect",
        )


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Longest body of a request whose path begins with ``prefix``, in bytes."""

    prefix: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Limits and secrets of the front; every time is in seconds, every size in bytes."""

    bodies: tuple[BodyLimit, ...]
    """The first whose prefix fits counts; a path that none fits takes no body."""
    names: tuple[str, ...] | None = None
    """Host names that a request may be addressed to, in lower case; None: any."""
    token_digest: str | None = None
    """SHA-256 of the bearer token, in hexadecimal digits; None: requests need none."""
    tls: HttpsFiles | None = None
    request_seconds: float = 20.0
    """For a whole request to arrive, and for a whole answer to be read."""
    connections: int = 1000
    connections_per_client: int = 64
    answers_bytes: int = 256 << 20
    """Answers that clients have not taken yet, together; beyond that the slowest are dropped."""

    def to_json(self) -> dict[str, Any]:
        """As an object that JSON can carry."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrontSettings:
        """Back from ``to_json``."""
        given = dict(values)
        given["bodies"] = tuple(BodyLimit(**each) for each in given["bodies"])
        given["names"] = None if given["names"] is None else tuple(given["names"])
        given["tls"] = None if given["tls"] is None else HttpsFiles(**given["tls"])
        return cls(**given)


def token_digest(token: str) -> str:
    """What the front knows of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
