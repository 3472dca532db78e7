"""Until when certificates are valid: those of our own files, and the sentences about it.

The standard library tells the dates of a peer's certificate alone, so those of a file are read from
its DER form here: they are at a fixed place near its beginning.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from controller.process.files import CERTIFICATE_BYTES_MAX, load_tls_files, read_file
from controller.process.metrics import CERTIFICATE_EXPIRY
from controller.process.renewed_files import LOOK_AT_FILES_S, RenewedFiles
from flows.errors import CloudtapError

SOON = timedelta(days=14)
"""A certificate that runs out within this time is said to do so."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3
"""What comes before the dates, after the version: serial number, algorithm, issuer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is valid."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Dates:
    """When the files of one section can be used."""

    certificate: Validity
    ca: Validity | None


def validities(pem: bytes) -> list[Validity]:
    """The dates of each certificate in PEM form.

    Raises:
        ValueError: a certificate cannot be read.
    """
    return [
        _validity(ssl.PEM_cert_to_DER_cert(found.decode("ascii"))) for found in _PEM.findall(pem)
    ]


def end_words(who: str, validity: Validity, now: datetime, consequence: str) -> str | None:
    """What is to be said of a certificate: that it has run out, does so soon, or is not valid yet.

    ``who`` names it; ``consequence`` is a clause about what happens then. None: it is fine.
    """
    if validity.ends <= now:
        return f"{who} ran out at {_time(validity.ends)}: {consequence}: replace it"
    if now < validity.begins:
        return (
            f"{who} is valid from {_time(validity.begins)} on only: {consequence} until then: see "
            "whether the clocks are right"
        )
    if validity.ends - now <= SOON:
        return f"{who} runs out at {_time(validity.ends)}: then {consequence}: replace it before"
    return None


class OwnCertificates:
    """The certificate files of one section of the configuration, and until when they are valid.

    ``ours`` and ``theirs`` are the clauses about what happens without a valid certificate, and
    without a valid CA.
    """

    def __init__(
        self,
        section: str,
        certificate: Path,
        private_key: Path,
        ca: Path | None,
        *,
        ours: str,
        theirs: str = "",
    ) -> None:
        self._section, self._ours, self._theirs = section, ours, theirs
        self._certificate, self._ca = certificate, ca
        given = [path for path in (certificate, private_key, ca) if path is not None]

        def read() -> _Dates:
            # files that cannot be used are not: those that are used go on to count
            load_tls_files(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, private_key, ca)
            chain = validities(read_file(certificate, CERTIFICATE_BYTES_MAX))
            return _Dates(_all_of(chain), None if ca is None else _last_of(ca))

        self._dates = RenewedFiles(given, read, kept="")

    def look_again(self) -> None:
        """Read the files again if they have changed."""
        self._dates.look_again()
        for file, _, validity, _ in self._found():
            at = validity.ends.timestamp()
            CERTIFICATE_EXPIRY.labels(self._section, file).set(at)

    def sentences(self, now: datetime) -> Iterator[str]:
        """What is to be said of the certificates."""
        for file, path, validity, consequence in self._found():
            who = f"the certificate `{file}` of [{self._section}] ({path})"
            said = end_words(who, validity, now, consequence)
            if said is not None:
                yield said

    def _found(self) -> Iterator[tuple[str, Path, Validity, str]]:
        try:
            dates = self._dates.value
        except (OSError, ValueError, CloudtapError):  # who uses the files says why they cannot be
            return
        yield "certificate", self._certificate, dates.certificate, self._ours
        if dates.ca is not None and self._ca is not None:
            yield "ca", self._ca, dates.ca, self._theirs


class CertificateWatch:
    """Looks at our own certificates again and again, and says which run out.

    ``others`` returns sentences about those of peers.
    """

    def __init__(
        self,
        certificates: Sequence[OwnCertificates],
        others: Callable[[], Iterable[str]] = lambda: (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._certificates, self._others, self._now = tuple(certificates), others, now
        self._said: frozenset[str] = frozenset()

    def __call__(self) -> float:
        """Look once; returns the seconds until it is due again."""
        for each in self._certificates:
            each.look_again()
        found = frozenset(self.problems())
        for sentence in sorted(found - self._said):
            log.warning("certificate runs out", certificate=sentence)
        self._said = found
        return LOOK_AT_FILES_S

    def problems(self) -> tuple[str, ...]:
        """Which certificates have run out or do so soon, a sentence each."""
        now = self._now()
        own = (said for each in self._certificates for said in each.sentences(now))
        return (*own, *self._others())


def _all_of(chain: Sequence[Validity]) -> Validity:
    """When all certificates of a chain are valid.

    Raises:
        ValueError: there is none.
    """
    if not chain:
        raise ValueError("it holds no certificate in PEM form")
    return Validity(max(each.begins for each in chain), min(each.ends for each in chain))


def _last_of(path: Path) -> Validity:
    """The authority of a file that is valid for longest: an old one beside a new one may run out.

    Raises:
        FileNotFoundError, UnusableFile, ValueError: the file cannot be used.
    """
    found = validities(read_file(path, CERTIFICATE_BYTES_MAX))
    if not found:
        raise ValueError("it holds no certificate in PEM form")
    return max(found, key=lambda each: each.ends)


def _time(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _validity(der: bytes) -> Validity:
    _, certificate, _ = _element(der, 0)
    _, signed, _ = _element(certificate, 0)
    at = 0
    if signed[:1] == bytes([_VERSION]):
        _, _, at = _element(signed, at)
    for _ in range(_BEFORE_VALIDITY):
        _, _, at = _element(signed, at)
    kind, dates, _ = _element(signed, at)
    if kind != _SEQUENCE:
        raise ValueError("a certificate is damaged")
    first, begins, at = _element(dates, 0)
    second, ends, _ = _element(dates, at)
    return Validity(_moment(first, begins), _moment(second, ends))


def _element(der: bytes, at: int) -> tuple[int, bytes, int]:
    """Kind and content of the DER element at a position, and where the next one begins."""
    if len(der) < at + 2:
        raise ValueError("a certificate is damaged")
    kind, length, start = der[at], der[at + 1], at + 2
    if length >= 0x80:  # the length of the length
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if len(der) < start + length:
        raise ValueError("a certificate is damaged")
    return kind, der[start : start + length], start + length


def _moment(kind: int, text: bytes) -> datetime:
    """A moment of a certificate; years of two digits begin with 1950."""
    digits = text.decode("ascii")
    if kind == _UTC_TIME:
        digits = ("19" if digits >= "50" else "20") + digits
    elif kind != _GENERALIZED_TIME:
        raise ValueError("a certificate is damaged")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
