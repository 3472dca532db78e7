"""The ports through which bridges send copies into tunnels: names, types and options in OVSDB.

Where each packet goes, and with which key, its flow says (``remote_ip`` and ``out_key`` are
``flow``). What arrives must be nobody's: ``in_key`` is longer than any key that a packet can carry,
so the tunnels of production, which share UDP port or protocol, go on receiving all of theirs. It
differs for each bridge and kind because Open vSwitch 3.1 refuses a second port of one type whose
keys are equal ("File exists"), be it on another bridge of the same host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from flows.model.session import KEYS, Delivery, Dpid

MARK = "cloudtap-tunnel"
"""The key in ``external_ids`` of a port and interface of ours; the value is the delivery."""
KINDS = tuple(KEYS)
"""The deliveries that need a tunnel port."""

_LETTERS = {
    Delivery.VXLAN: "v",
    Delivery.GRE: "g",
    Delivery.ERSPAN2: "e",
    Delivery.ERSPAN3: "f",
    Delivery.GENEVE: "n",
}
_TYPES = {Delivery.ERSPAN2: "erspan", Delivery.ERSPAN3: "erspan"}
_EXTRA: Mapping[Delivery, Mapping[str, str]] = {
    Delivery.ERSPAN2: {"erspan_ver": "1", "erspan_idx": "0"},
    Delivery.ERSPAN3: {"erspan_ver": "2", "erspan_dir": "0", "erspan_hwid": "0"},
}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class TunnelWish:
    """What one bridge of ours needs: ports of ``wanted`` kinds, and none of ``unwanted`` ones.

    A kind in neither may have a port or not: flows may still use it.
    """

    wanted: frozenset[Delivery] = frozenset()
    unwanted: frozenset[Delivery] = frozenset()


def tunnel_name(dpid: Dpid, kind: Delivery) -> str:
    """The name of a tunnel port: ``c``, a letter for the kind, and the bridge in base 36.

    The longest datapath id needs 13 digits, so a name is at most 15 characters long, as Linux
    wants it; no two bridges of a host share one.
    """
    digits, rest = "", int(dpid)
    while rest or not digits:
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"c{_LETTERS[kind]}{digits}"


def tunnel_type(kind: Delivery) -> str:
    """The ``type`` of its interface."""
    return _TYPES.get(kind, kind.value)


def tunnel_options(dpid: Dpid, kind: Delivery) -> dict[str, str]:
    """The ``options`` of its interface."""
    fixed = {"remote_ip": "flow", "out_key": "flow", "in_key": str(in_key(dpid, kind))}
    return {**fixed, **_EXTRA.get(kind, {})}


def in_key(dpid: Dpid, kind: Delivery) -> int:
    """A number of 64 bits that no packet can carry, and that no other tunnel port has."""
    digest = blake2b(f"{dpid:x}/{kind.value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 | 1 << 63


def marked(external_ids: Mapping[str, str]) -> Delivery | None:
    """The delivery that an interface of ours is for; None when it is not ours."""
    value = external_ids.get(MARK)
    return next((kind for kind in KINDS if kind.value == value), None)
