"""Errors of the runtime, which keep the controller from starting or from listening.

CloudtapError
+-- UnknownRuntime          a runtime that does not exist
+-- RuntimeMissing          a runtime that is not installed
+-- CannotListen            an address that cannot be listened on
|   +-- OpenFlowAddressInUse  that of OpenFlow
+-- BadTlsSettings          certificate, key or CA that cannot be used
"""

import errno
from collections.abc import Sequence

from flows.errors import CloudtapError


class UnknownRuntime(CloudtapError):
    """A runtime that does not exist was asked for."""

    def __init__(self, wanted: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no runtime {wanted!r}: choose {' or '.join(known)}")
        self.wanted = wanted


class RuntimeMissing(CloudtapError):
    """A runtime was asked for that is not installed."""

    def __init__(self, wanted: str) -> None:
        super().__init__(
            f"{wanted} is not installed: use --runtime os-ken ([openflow] runtime of the "
            f"configuration), which runs the same controller, or install {wanted} "
            "(docs/how-to/install.md)"
        )
        self.wanted = wanted


class CannotListen(CloudtapError):
    """The listen address of a server cannot be used."""

    server = "server"
    setting = "address"

    def __init__(self, host: str, port: int, reason: OSError) -> None:
        if reason.errno == errno.EADDRINUSE:
            what = (
                "the port is in use by another program (perhaps another controller); stop that "
                f"program, which `ss -ltnp sport = :{port}` names as root, or"
            )
        else:
            what = f"{reason.strerror or str(reason)};"
        super().__init__(
            f"the {self.server} cannot listen on {host} port {port}: {what} change {self.setting}"
        )
        self.host, self.port, self.reason = host, port, reason


class OpenFlowAddressInUse(CannotListen):
    """The listen address for switches is in use, or belongs to another machine."""

    server = "OpenFlow server"
    setting = "[openflow] listen in cloudtap.toml (CLOUDTAP_OPENFLOW__LISTEN)"


class BadTlsSettings(CloudtapError):
    """A certificate, private key or CA file for OpenFlow that cannot be used."""

    def __init__(
        self, certificate: str | None, private_key: str | None, ca: str | None, reason: str
    ) -> None:
        super().__init__(
            f"OpenFlow over TLS cannot start: {reason} (certificate {certificate or 'not given'}, "
            f"private key {private_key or 'not given'}, CA {ca or 'not given'}): "
            "all are PEM files, and the key belongs to the certificate"
        )
        self.reason = reason
