"""Who is at the other end of an OpenFlow connection: its address, and the name it has proved."""

import ssl
from typing import Any

NAME_SHOWN_MAX, NAMES_SHOWN_MAX = 64, 4
"""How much of ambiguous names a sentence shows: characters of each, and names."""


def address_of(datapath: Any) -> str:
    """Address and port of the peer, like ``192.0.2.7:51034``."""
    host, port = datapath.address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def certificate_of(datapath: Any) -> str | None:
    """The name in the verified certificate of the peer; None without TLS or without a CA."""
    return getattr(datapath.socket, "certificate_name", None)


def certificate_end_of(datapath: Any) -> float | None:
    """When the verified certificate of the peer runs out, in Unix time; None without one."""
    return getattr(datapath.socket, "certificate_end", None)


def end_of(certificate: dict[str, Any] | None) -> float | None:
    """When a certificate (``ssl.SSLSocket.getpeercert``) runs out, in Unix time."""
    end = (certificate or {}).get("notAfter")
    return None if end is None else float(ssl.cert_time_to_seconds(end))


def name_in(certificate: dict[str, Any] | None) -> str | None:
    """The name that stands for a certificate (``ssl.SSLSocket.getpeercert``).

    That is the common name of its subject, else its first DNS name, else its serial number.

    Raises:
        ssl.SSLError: it has several common names, so it could stand for several hosts.
    """
    if not certificate:
        return None
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName" and value]
    if len(set(names)) > 1:
        shown = ", ".join(repr(name[:NAME_SHOWN_MAX]) for name in names[:NAMES_SHOWN_MAX])
        raise ssl.SSLError(
            ssl.SSL_ERROR_SSL,
            f"its certificate has {len(names)} common names ({shown}), so it is not certain which "
            "host it is of: give the host one with a single common name",
        )
    names += [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return str(names[0]) if names else f"serial {certificate.get('serialNumber')}"
