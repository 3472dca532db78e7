"""TLS handshakes with switches that a certificate has made fail, as sentences, for a while."""

from __future__ import annotations

import ipaddress
import math
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

SHOWN_S = 120.0
"""How long a failed handshake is shown, in seconds: who fails again and again has to stay away for
up to a minute."""
STRANGERS_SHOWN_MAX, HOSTS_SHOWN_MAX = 16, 256
"""Addresses that are kept at most: of strangers, and of those from which bridges of ours came."""
REFUSED_BY_PEER = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate is not accepted",
    "SSLV3_ALERT_BAD_CERTIFICATE": "certificate is not accepted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "certificate is of a kind that is not supported",
    "TLSV1_ALERT_UNKNOWN_CA": "certificate is of an authority that it does not trust",
}
"""The alerts by which a peer says what is wrong with our certificate."""


def explain_handshake(address: str, error: OSError) -> str | None:
    """Whose certificate has made a handshake fail, and why; None if none has.

    A peer without a certificate is none: Open vSwitch does not connect over TLS without one.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the switch at {address} is refused: its certificate is not accepted "
            f"({error.verify_message}): see which one `ovs-vsctl get-ssl` names on its host, and "
            "whether `ca` of [openflow] has signed it"
        )
    if not isinstance(error, ssl.SSLError):
        return None
    why = REFUSED_BY_PEER.get(error.reason or "")
    if why is None:
        return None
    return (
        f"the switch at {address} refuses the certificate of the controller (`certificate` of "
        f"[openflow]): {why}"
    )


class TlsRefusals:
    """The last failed handshake of each address, for SHOWN_S.

    Strangers have few places, which the first of them keep, and none of those of known addresses.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = now, threading.Lock()
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._strangers: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def note(self, host: str, sentence: str, *, is_known: bool) -> None:
        """A handshake has failed; ``is_known`` tells that bridges of ours came from there."""
        with self._lock:
            self._drop_old()
            key = host if is_known else _network(host)
            kept, most = (
                (self._known, HOSTS_SHOWN_MAX)
                if is_known
                else (self._strangers, STRANGERS_SHOWN_MAX)
            )
            if key not in kept and len(kept) >= most:
                if not is_known:
                    return
                kept.popitem(last=False)
            kept[key] = self._now(), sentence
            kept.move_to_end(key)

    def forget(self, host: str) -> None:
        """A handshake with this address was done."""
        with self._lock:
            self._known.pop(host, None)
            self._strangers.pop(_network(host), None)

    def by_host(self) -> Mapping[str, str]:
        """The sentences about failed handshakes by address, or network of a stranger."""
        with self._lock:
            self._drop_old()
            kept = (*self._strangers.items(), *self._known.items())
            return {host: sentence for host, (_, sentence) in kept}

    def _drop_old(self) -> None:
        oldest = self._now() - SHOWN_S
        for kept in (self._known, self._strangers):
            while kept and next(iter(kept.values()), (math.inf, ""))[0] < oldest:
                kept.popitem(last=False)


def _network(host: str) -> str:
    """What counts as one stranger: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))
