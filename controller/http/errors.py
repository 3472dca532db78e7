"""Errors of the HTTP edge, which keep the controller from starting.

CloudtapError
+-- CannotListen
|   +-- ApiAddressInUse   an address that the API cannot listen on
+-- BadApiCertificate   a certificate or private key of the API that cannot be used
"""

from controller.runtime import CannotListen
from flows.errors import CloudtapError


class ApiAddressInUse(CannotListen):
    """The listen address of the API is in use, or belongs to another machine."""

    server = "API server"
    setting = "[api] listen in cloudtap.toml (CLOUDTAP_API__LISTEN)"


class BadApiCertificate(CloudtapError):
    """The certificate or the private key of the API cannot be used."""

    def __init__(self, certificate: str, private_key: str, reason: str) -> None:
        super().__init__(
            f"the API cannot serve HTTPS: {reason} (certificate {certificate}, private key "
            f"{private_key}): both are PEM files, and the key belongs to the certificate"
        )
        self.reason = reason
