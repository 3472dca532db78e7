"""Certificates for HTTPS: an authority that signs for names and addresses."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.http import HttpsFiles

NAMES = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


class ServerAuthority:
    """An authority in a folder; ``ca`` is its certificate.

    Its certificates have no identifier of the key of the authority, as those of many have none:
    `ssl.create_default_context` refuses them from Python 3.13 on.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(_pem(self._sign(self._name, self._key, is_authority=True)))

    def issue(self) -> tuple[HttpsFiles, int]:
        """A certificate for this machine in place of the last one; its files and serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(x509.Name([]), key, is_authority=False)
        files = HttpsFiles(str(self._folder / "api.pem"), str(self._folder / "api.key"))
        _replace(Path(files.certificate), _pem(signed))
        _replace(
            Path(files.private_key),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return files, signed.serial_number

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> x509.Certificate:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(NAMES), critical=not is_authority)
            .sign(self._key, hashes.SHA256())
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _replace(file: Path, content: bytes) -> None:
    """As a tool for renewals does it: whole files only."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(file)
