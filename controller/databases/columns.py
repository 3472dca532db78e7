"""The columns of the Open_vSwitch schema that are watched, and their values in OVSDB's JSON.

Only these columns are asked for (ovs-vswitchd.conf.db(5)); a database may have more. A value is
kept as Python has it: an atom, None for an optional one that is absent, a frozenset (of strings,
also of numbers), or a dict. Open vSwitch has had all of these columns since 2.6: asking for one
that a database does not have would make it refuse everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any

from controller.databases.errors import BadPeer

MARK = "cloudtap-tunnel"
"""The key in ``external_ids`` of our tunnel ports and interfaces; the value is their kind."""
OFFLOADS = "cloudtap-offloads"
"""The key in ``external_ids`` of an interface that says that its device has no offloads for what
it sends: ``off@IFINDEX``, or ``off`` of every device that the interface will ever have."""
PAIR_MARK = "cloudtap-segments"
"""The key in ``external_ids`` of the ends of a segmenting pair; it says ``out`` or ``back``."""
TAPS = "cloudtap-taps"
"""The key in ``external_ids`` of a tap bridge of ours; it names the bridge that is attached to it:
that of somebody else, whose frames it gets by Mirrors."""
MIRROR_MARK = "cloudtap-mirror"
"""The key in ``external_ids`` of our Mirrors, and of the ports and interfaces of the patch that one
sends to; the value is the name of the Mirror."""
HOST_NAMES = ("hostname", "system-id")
"""The keys in ``external_ids`` of Open_vSwitch that say what the host is called."""
QOS_RATES = ("max-rate", "cir")
"""The keys in ``other_config`` of QoS that limit a port: bit/s of shaping, byte/s of policing."""
FIRST_QUEUE = "0"
"""The queue of packets for which no flow names one."""
ELEMENTS_MAX = 250_000
"""The most elements of a set or a map: ports of a bridge, above all."""
KEPT_MAX = 1000
"""So much of a string is kept, in characters; of a longer one a digest is kept as well."""

Atom = str | int | float | bool
Value = Atom | None | frozenset[str] | dict[str, str]
Row = dict[str, Value]


class Kind(Enum):
    """The types of columns that we read."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    OPTIONAL_STRING = "optional string"
    OPTIONAL_INTEGER = "optional integer"
    OPTIONAL_ROW = "optional uuid"
    ROWS = "set of uuids"
    NUMBERS = "set of integers"
    STRINGS = "map of strings"
    ROWS_BY_NUMBER = "map of integers to uuids"

    @property
    def is_optional(self) -> bool:
        """Whether a value may be absent."""
        return self in (Kind.OPTIONAL_STRING, Kind.OPTIONAL_INTEGER, Kind.OPTIONAL_ROW)


_DEFAULTS: Mapping[Kind, Value] = {Kind.STRING: "", Kind.INTEGER: 0, Kind.BOOLEAN: False}


@dataclass(frozen=True, slots=True)
class WatchedColumn:
    """One column; an ephemeral one is lost when ovsdb-server restarts, and set again later.

    ``may_empty``: ovs-vswitchd empties it as well, so that an empty one means something unless the
    server has just restarted.
    """

    kind: Kind
    is_ephemeral: bool = False
    may_empty: bool = False
    keys: frozenset[str] | None = None
    """The keys of a map that are kept; all if it is None."""

    @property
    def default(self) -> Value:
        """The value of a column that does not come (RFC 7047, 5.2.1)."""
        if self.kind in (Kind.ROWS, Kind.NUMBERS):
            return frozenset()
        if self.kind in (Kind.STRINGS, Kind.ROWS_BY_NUMBER):
            return {}
        if self.kind.is_optional:
            return None
        return _DEFAULTS[self.kind]


def _tree_state(key: str) -> WatchedColumn:
    """What a spanning tree protocol says of a port; empty while the protocol is off."""
    return WatchedColumn(Kind.STRINGS, is_ephemeral=True, may_empty=True, keys=frozenset([key]))


WATCHED: Mapping[str, Mapping[str, WatchedColumn]] = {
    "Open_vSwitch": {
        "bridges": WatchedColumn(Kind.ROWS),
        "external_ids": WatchedColumn(Kind.STRINGS, keys=frozenset(HOST_NAMES)),
        "other_config": WatchedColumn(Kind.STRINGS),
        "ovs_version": WatchedColumn(Kind.OPTIONAL_STRING),
    },
    "Bridge": {
        "name": WatchedColumn(Kind.STRING),
        "datapath_id": WatchedColumn(Kind.OPTIONAL_STRING, is_ephemeral=True),
        "datapath_type": WatchedColumn(Kind.STRING),
        "external_ids": WatchedColumn(Kind.STRINGS, keys=frozenset([TAPS])),
        "fail_mode": WatchedColumn(Kind.OPTIONAL_STRING),
        "mirrors": WatchedColumn(Kind.ROWS),
        "ports": WatchedColumn(Kind.ROWS),
    },
    "Port": {
        "name": WatchedColumn(Kind.STRING),
        "external_ids": WatchedColumn(Kind.STRINGS, keys=frozenset([MIRROR_MARK])),
        "interfaces": WatchedColumn(Kind.ROWS),
        "protected": WatchedColumn(Kind.BOOLEAN),
        "qos": WatchedColumn(Kind.OPTIONAL_ROW),
        "rstp_status": _tree_state("rstp_port_state"),
        "status": _tree_state("stp_state"),
        "tag": WatchedColumn(Kind.OPTIONAL_INTEGER),
        "trunks": WatchedColumn(Kind.NUMBERS),
        "vlan_mode": WatchedColumn(Kind.OPTIONAL_STRING),
    },
    "Mirror": {
        "name": WatchedColumn(Kind.STRING),
        "external_ids": WatchedColumn(Kind.STRINGS, keys=frozenset([MIRROR_MARK])),
        "output_port": WatchedColumn(Kind.OPTIONAL_ROW),
        "output_vlan": WatchedColumn(Kind.OPTIONAL_INTEGER),
        "select_all": WatchedColumn(Kind.BOOLEAN),
        "select_dst_port": WatchedColumn(Kind.ROWS),
        "select_src_port": WatchedColumn(Kind.ROWS),
        "select_vlan": WatchedColumn(Kind.NUMBERS),
        "snaplen": WatchedColumn(Kind.OPTIONAL_INTEGER),
    },
    "QoS": {
        "type": WatchedColumn(Kind.STRING),
        "other_config": WatchedColumn(Kind.STRINGS, keys=frozenset(QOS_RATES)),
        "queues": WatchedColumn(Kind.ROWS_BY_NUMBER, keys=frozenset([FIRST_QUEUE])),
    },
    "Queue": {
        "other_config": WatchedColumn(Kind.STRINGS, keys=frozenset(["max-rate"])),
    },
    "Interface": {
        "name": WatchedColumn(Kind.STRING),
        "ofport": WatchedColumn(Kind.OPTIONAL_INTEGER),
        "external_ids": WatchedColumn(
            Kind.STRINGS,
            keys=frozenset(["iface-id", "attached-mac", MARK, MIRROR_MARK, OFFLOADS, PAIR_MARK]),
        ),
        "type": WatchedColumn(Kind.STRING),
        "options": WatchedColumn(Kind.STRINGS),
        "error": WatchedColumn(Kind.OPTIONAL_STRING),
        "ifindex": WatchedColumn(Kind.OPTIONAL_INTEGER, is_ephemeral=True),
        "link_speed": WatchedColumn(Kind.OPTIONAL_INTEGER, is_ephemeral=True),
        "link_state": WatchedColumn(Kind.OPTIONAL_STRING, is_ephemeral=True),
        "mtu": WatchedColumn(Kind.OPTIONAL_INTEGER, is_ephemeral=True),
        "status": WatchedColumn(Kind.STRINGS, is_ephemeral=True, keys=frozenset(["driver_name"])),
    },
}


def decode(column: WatchedColumn, value: Any) -> Value:
    """A value of RFC 7047, section 5.1, as Python has it.

    Raises:
        BadPeer: it has another type than the schema says, or too many elements.
    """
    kind = column.kind
    if kind is Kind.STRINGS:
        return _decode_map(value, column.keys)
    if kind is Kind.ROWS_BY_NUMBER:
        return _decode_rows_by_number(value, column.keys)
    if kind is Kind.ROWS:
        return frozenset(_uuid(element) for element in _elements(value))
    if kind is Kind.NUMBERS:
        return frozenset(str(_decode_atom(Kind.INTEGER, number)) for number in _elements(value))
    if kind.is_optional:
        elements = _elements(value)
        if len(elements) > 1:
            raise BadPeer(f"it sent {len(elements)} values where one {kind.value} is allowed")
        if not elements:
            return None
        value = elements[0]
    return _decode_atom(kind, value)


def apply_difference(column: WatchedColumn, before: Value, value: Any) -> Value:
    """The new value of a column after a ``modify`` of update2 (ovsdb-server(7), 4.1.14).

    Sets and maps come as their difference, all others as what they are now.

    Raises:
        BadPeer: as ``decode``.
    """
    change = decode(column, value)
    if isinstance(change, frozenset) and isinstance(before, frozenset):
        after: frozenset[str] | dict[str, str] = before ^ change
    elif isinstance(change, dict) and isinstance(before, dict):
        after = before | change
        for key, new in change.items():
            if before.get(key) == new:
                del after[key]
    else:
        return change
    if len(after) > ELEMENTS_MAX:
        raise BadPeer(f"it has more than {ELEMENTS_MAX:,} elements in one column")
    return after


def _decode_atom(kind: Kind, value: Any) -> Atom:
    if kind is Kind.OPTIONAL_ROW:
        return _uuid(value)
    if kind in (Kind.STRING, Kind.OPTIONAL_STRING):
        if isinstance(value, str):
            return _kept(value)
        is_right = False
    elif kind is Kind.BOOLEAN:
        is_right = isinstance(value, bool)
    else:
        is_right = isinstance(value, int) and not isinstance(value, bool)
        is_right = is_right and -(1 << 63) <= value < 1 << 63
    if not is_right:
        raise BadPeer(f"it sent {type(value).__name__} where the schema has {kind.value}")
    atom: Atom = value
    return atom


def _elements(value: Any) -> list[Any]:
    """The elements of a set; a set of one may be written as that one."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set":
        elements = value[1]
        if not isinstance(elements, list):
            raise BadPeer("it sent a set without elements")
        if len(elements) > ELEMENTS_MAX:
            raise BadPeer(f"it has more than {ELEMENTS_MAX:,} elements in one column")
        return elements
    return [value]


def _decode_map(value: Any, keys: frozenset[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, text in _pairs(value):
        if not isinstance(key, str) or not isinstance(text, str):
            raise BadPeer("it sent a map whose entries are no strings")
        if keys is None or key in keys:
            found[_kept(key)] = _kept(text)
    return found


def _pairs(value: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a map."""
    if not isinstance(value, list) or len(value) != 2 or value[0] != "map":
        raise BadPeer("it sent something else where the schema has a map")
    pairs = value[1]
    if not isinstance(pairs, list) or len(pairs) > ELEMENTS_MAX:
        raise BadPeer("it sent a map with too many or no entries")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadPeer("it sent a map whose entries are no pairs")
        yield pair[0], pair[1]


def _decode_rows_by_number(value: Any, keys: frozenset[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, row in _pairs(value):
        if not isinstance(key, int) or isinstance(key, bool):
            raise BadPeer("it sent a map whose keys are no integers")
        if keys is None or str(key) in keys:
            found[str(key)] = _uuid(row)
    return found


def _kept(text: str) -> str:
    """The string, or for a long one its beginning and a digest: equal for equal strings."""
    if len(text) <= KEPT_MAX:
        return text
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[:KEPT_MAX]}...{len(text)}:{digest}"


def _uuid(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2 and value[0] == "uuid":
        text = value[1]
        if isinstance(text, str) and len(text) == 36:
            return text
    raise BadPeer("it sent something else where the schema has a uuid")
