"""Rows of a database as the records that are reported: checked, and of bounded size."""

from __future__ import annotations

import re
from collections.abc import Iterable

from controller.databases.checks import (
    OPTION_MAX,
    OPTIONS_MAX,
    check_name,
    clean,
    read_datapath_id,
    read_iface_id,
    read_mac,
)
from controller.databases.columns import HOST_NAMES, MARK, MIRROR_MARK, PAIR_MARK, TAPS, Row
from controller.databases.errors import BadValue
from controller.databases.program import Record

SETTINGS = ("userspace-tso-enable", "flow-restore-wait")
"""Settings in other_config of Open_vSwitch that concern copies."""
NUMBER_MAX = 0xFFFF
"""The highest port number of OpenFlow 1.0, which is that of OVSDB."""
VLANS = range(4096)
"""The VLANs that a port may have."""
MIRROR_NAME = "ctm"
"""How the names of a Mirror of ours and of its patch port begin; 12 hexadecimal digits follow."""
_MIRROR = re.compile(f"{MIRROR_NAME}[0-9a-f]{{12}}", re.ASCII)


def read_settings(rows: Iterable[Row]) -> Record:
    """What the rows of Open_vSwitch say of the whole host."""
    settings: Record = {"ovs_version": "", "other_config": {}, "hosts": []}
    for row in rows:
        if row["ovs_version"]:
            settings["ovs_version"] = clean(str(row["ovs_version"]))
        names = strings(row, "external_ids")
        hosts = [clean(names[key]) for key in HOST_NAMES if names.get(key)]
        settings["hosts"] = list(dict.fromkeys((*settings["hosts"], *hosts)))[: len(HOST_NAMES)]
        config = strings(row, "other_config")
        settings["other_config"] |= {key: clean(config[key]) for key in SETTINGS if key in config}
    return settings


def read_bridge(row: Row) -> Record | None:
    """The record of a bridge; None until Open vSwitch has given it a datapath id.

    Raises:
        BadValue: a value cannot be used.
    """
    name = check_name(str(row["name"]))
    if not row["datapath_id"]:
        return None
    return {
        "dpid": read_datapath_id(str(row["datapath_id"])),
        "name": name,
        "fail_mode": clean(str(row["fail_mode"] or "")),
        "datapath_type": clean(str(row["datapath_type"])),
        "taps": _read_taps(row),
    }


def read_unmade(row: Row) -> Record:
    """What is known of a bridge that Open vSwitch has not created (yet).

    Raises:
        BadValue: its name cannot be used.
    """
    datapath_type = clean(str(row["datapath_type"]))
    return {"name": check_name(str(row["name"])), "datapath_type": datapath_type}


def read_port(uuid: str, row: Row) -> Record:
    """What is reported of a port: its uuid and its VLAN, as ovs-vswitchd.conf.db(5) has it.

    ``vlan`` is that of its frames which have no tag on the port; it is a trunk if others have one.
    """
    tag, mode = row["tag"], row["vlan_mode"]
    is_trunk = tag is None or mode in ("trunk", "native-tagged", "native-untagged")
    has_vlan = tag in VLANS and (not is_trunk or mode == "native-untagged")
    return {"row": uuid, "vlan": tag if has_vlan else None, "is_trunk": is_trunk}


def mirror_mark(row: Row) -> str:
    """The name of the Mirror of ours that a row is, or is an end of; empty if it is not ours."""
    mark = strings(row, "external_ids").get(MIRROR_MARK, "")
    return mark if _MIRROR.fullmatch(mark) else ""


def read_interface(row: Row, bridge: str, device: Record, port: Record) -> Record:
    """The record of an interface of a bridge, given by its uuid.

    Raises:
        BadValue: a value cannot be used.
    """
    external_ids = strings(row, "external_ids")
    number = row["ofport"]
    record: Record = {
        "bridge": bridge,
        "name": check_name(str(row["name"])),
        "iface_id": read_iface_id(external_ids),
        "mac": read_mac(external_ids),
        "ofport": number if isinstance(number, int) and 1 <= number <= NUMBER_MAX else None,
        "is_up": {"up": True, "down": False}.get(str(row["link_state"])),
        "error": clean(str(row["error"] or "")),
        "device": device,
        "port": port,
        "mirror": mirror_mark(row),
    }
    if PAIR_MARK in external_ids:
        record["pair_end"] = external_ids[PAIR_MARK][:OPTION_MAX]
    if MARK in external_ids:
        options = list(strings(row, "options").items())[:OPTIONS_MAX]
        some = {key[:OPTION_MAX]: value[:OPTION_MAX] for key, value in options}
        kind, type_ = external_ids[MARK][:OPTION_MAX], str(row["type"])[:OPTION_MAX]
        record["tunnel"] = {"kind": kind, "type": type_, "options": some}
    return record


def _read_taps(row: Row) -> str:
    """The name of the bridge that is attached to a tap bridge of ours; empty if it cannot be."""
    try:
        return check_name(strings(row, "external_ids").get(TAPS, ""))
    except BadValue:
        return ""


def strings(row: Row, column: str) -> dict[str, str]:
    """A map of a row; empty if it has none."""
    value = row.get(column)
    return value if isinstance(value, dict) else {}
