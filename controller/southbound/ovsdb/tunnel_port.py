"""Tunnel ports, by which bridges send copies: their names, types and options in OVSDB.

The flows set the remote address and the key of each packet (``remote_ip`` and ``out_key`` are
``flow``). The ports must receive nothing: ``in_key`` exceeds every key that a packet can carry, so
production tunnels with the same UDP port or protocol receive all of their packets. It differs for
each bridge and kind because Open vSwitch 3.1 refuses a second port of one type with an equal key
("File exists"), also on another bridge of the same host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from controller.devices import device_name
from flows.model import TUNNEL_KEYS, Delivery, Dpid

TunnelKey = tuple[Dpid, Delivery]
"""What identifies a tunnel port of ours: the bridge and the kind of tunnel."""
KINDS = tuple(TUNNEL_KEYS)
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


@dataclass(frozen=True, slots=True)
class TunnelDemand:
    """The tunnel ports that one bridge needs: those of ``wanted`` kinds, and no ``unwanted`` ones.

    A port of a kind in neither set is left as it is: flows may still use it.
    """

    wanted: frozenset[Delivery] = frozenset()
    unwanted: frozenset[Delivery] = frozenset()


def tunnel_name(dpid: Dpid, kind: Delivery) -> str:
    """The name of a tunnel port: ``c``, a letter for the kind, and the datapath id in base 36."""
    return device_name(_LETTERS[kind], dpid)


def tunnel_type(kind: Delivery) -> str:
    """The ``type`` of its interface."""
    return _TYPES.get(kind, kind.value)


def tunnel_options(dpid: Dpid, kind: Delivery) -> dict[str, str]:
    """The ``options`` of its interface."""
    fixed = {"remote_ip": "flow", "out_key": "flow", "in_key": str(in_key(dpid, kind))}
    return {**fixed, **_EXTRA.get(kind, {})}


def in_key(dpid: Dpid, kind: Delivery) -> int:
    """A 64-bit number that no packet can carry, and that no other tunnel port has."""
    digest = blake2b(f"{dpid:x}/{kind.value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 | 1 << 63


def marked(value: str) -> Delivery | None:
    """The delivery of a tunnel interface of ours, from the value of MARK; None if it is none."""
    return next((kind for kind in KINDS if kind.value == value), None)
