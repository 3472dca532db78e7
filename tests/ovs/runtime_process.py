"""Runs tests/ovs/runtime_app.py in a process of its own, and issues certificates for OpenFlow."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.runtime import RUNTIME_VARIABLE, launch_command

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

Event = dict[str, Any]

SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class RuntimeProcess:
    """The application on one runtime, inside a `with` block; its events are dicts."""

    def __init__(self, runtime: str, *flags: str, **settings: Any) -> None:
        self.events: list[Event] = []
        self._log: list[str] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # __exit__ closes it
        self.process = subprocess.Popen(
            launch_command(runtime, "tests.ovs.runtime_app", flags),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                RUNTIME_VARIABLE: runtime,
                "PYTHONPATH": str(ROOT),
                "TEST_SETTINGS": json.dumps(settings),
            },
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self._errors.close()

    def wait_for(self, event: str, count: int = 1, **details: Any) -> list[Event]:
        """Wait until ``count`` events of this name and details were printed; returns them."""

        def found() -> list[Event]:
            return [e for e in self.events if {**e, **details, "event": event} == e]

        self._wait(lambda: len(found()) >= count, f"{count} x {event} {details}")
        return found()

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if one is given, and wait for the exit; returns the exit status."""
        if number is not None:
            self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended in {DEADLINE_S} s; {self.seen()}") from None

    def wait_for_log(self, words: str) -> None:
        """Wait until the log contains these words."""
        self._wait(lambda: words in self.log(), f"log {words!r}")

    def log(self) -> str:
        """What was logged so far."""
        return "".join(self._log)

    def errors(self) -> str:
        """What was written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def seen(self) -> str:
        """Everything that a failed test wants to show."""
        return "\n".join(
            ["events:", *map(str, self.events), "log:", self.log(), "errors:", self.errors()]
        )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._is_over, timeout=DEADLINE_S)
        assert condition(), f"{what} not seen; {self.seen()}"

    def _read(self) -> None:
        self._read_lines()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                else:
                    self._log.append(line)
                self._changed.notify_all()


YEAR = datetime.timedelta(days=365)


class Authority:
    """A certificate authority in a folder: `issue` returns the paths of certificate and key."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self._sign(self._name, self._key, is_authority=True))

    def issue(self, name: str, *more: str, valid: datetime.timedelta = YEAR) -> tuple[str, str]:
        """A certificate for this name, and ``more`` common names, and its private key.

        It is ``valid`` for so long from now on.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        common = x509.NameOID.COMMON_NAME
        subject = x509.Name([x509.NameAttribute(common, each) for each in (name, *more)])
        certificate, private = self._folder / f"{name}-cert.pem", self._folder / f"{name}-key.pem"
        certificate.write_bytes(self._sign(subject, key, is_authority=False, valid=valid))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        private.chmod(0o600)
        return str(certificate), str(private)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        is_authority: bool,
        valid: datetime.timedelta = YEAR,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if is_authority:
            builder = builder.add_extension(SIGNS_CERTIFICATES, critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)
